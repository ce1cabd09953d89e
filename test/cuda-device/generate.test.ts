import '../helpers/use-cuda.js';
import { type GeneratedResponse, Model } from '../../lib/native/model.js';
import { close } from '../helpers/close.js';
import { checkpoint, CHECKPOINTS, type GoldenModel, readGolden, toFloats } from '../helpers/golden.js';
import { GPU, t } from '../helpers/gpu.js';

// Generation and scoring on a GPU beside the answers of transformers, and beside the CPU where there is no answer.

async function collect(responses: AsyncIterable<GeneratedResponse>): Promise<GeneratedResponse[]> {
  const all: GeneratedResponse[] = [];
  for await (const response of responses) all.push(response);
  return all.toSorted((a, b) => a.promptIndex - b.promptIndex || a.sample - b.sample);
}

const load = (name: string, device = GPU, dtype: 'float32' | 'bfloat16' = 'float32') =>
  Model.load(checkpoint(name), { device, dtype });

for (const name of CHECKPOINTS) {
  const golden = readGolden<GoldenModel>(`model-${name}`);

  t.test(`${name}: greedy tokens and log-probs are those of transformers`, async (t) => {
    await using model = await load(name);
    const { promptIds, ids, logprobs } = golden.greedy;
    const [response] = await collect(
      model.generate({
        prompts: [{ id: 'a', ids: promptIds }],
        maxNewTokens: ids.length,
        temperature: 0,
      }),
    );
    t.strictSame([...response!.ids], ids);
    close(t, response!.logprobs, toFloats(logprobs), { rtol: 1e-4, atol: 1e-4 });
  });

  t.test(`${name}: scores are those of transformers, whatever the budget`, async (t) => {
    const { groups, tokenLogprobs } = golden.score;
    await using model = await load(name);
    for (const maxTokensPerBatch of [0, 24]) {
      const scores = await model.score(groups, { perToken: true, maxTokensPerBatch });
      for (const [g, group] of scores.entries()) {
        for (const [r, values] of group.tokenLogprobs!.entries()) {
          close(t, values, toFloats(tokenLogprobs[g]![r]!), { rtol: 1e-4, atol: 1e-4 });
        }
      }
    }
  });
}

const PROMPTS = [[1, 5, 9], [1, 7], [1, 3, 4, 8, 2, 6, 11], [1]].map((ids, i) => ({ id: `p${i}`, ids }));

t.test('sampled responses are those of the CPU, and do not depend on what else is sampled', async (t) => {
  await using gpu = await load('llama');
  await using cpu = await load('llama', 'cpu');
  const request = { maxNewTokens: 16, temperature: 0.9, topP: 0.95, n: 5, seed: 11 };
  const together = await collect(gpu.generate({ prompts: PROMPTS, ...request }));
  const expected = await collect(cpu.generate({ prompts: PROMPTS, ...request }));
  const ids = (responses: GeneratedResponse[]) => responses.map((response) => [...response.ids]);
  // Float rounding may move a draw that falls within 1e-5 of the border of two tokens: at most one of the twenty.
  const differing = ids(together).filter((own, i) => own.join() !== ids(expected)[i]!.join()).length;
  t.ok(differing <= 1, `${differing} of ${together.length} responses differ from the CPU's`);
  const alone: GeneratedResponse[] = [];
  for (const prompt of PROMPTS)
    alone.push(...(await collect(gpu.generate({ prompts: [prompt], ...request }))));
  const moved = ids(alone).filter((own, i) => own.join() !== ids(together)[i]!.join()).length;
  t.ok(moved <= 1, `${moved} of ${alone.length} responses differ when they are sampled alone`);
});

t.test('first tokens are drawn from the distribution that the log-probs tell', async (t) => {
  await using model = await load('llama');
  const samples = 4000;
  const responses = await collect(
    model.generate({ prompts: [PROMPTS[0]!], n: samples, maxNewTokens: 1, temperature: 1, seed: 5 }),
  );
  t.equal(responses.length, samples);
  const counts = new Map<number, number>();
  for (const { ids } of responses) counts.set(ids[0]!, (counts.get(ids[0]!) ?? 0) + 1);
  const tokens = Array.from({ length: model.config.vocabSize }, (_, id) => id);
  const [scores] = await model.score([{ promptIds: PROMPTS[0]!.ids, responses: tokens.map((id) => [id]) }]);
  // Tokens that are expected fewer than five times make one cell.
  let [statistic, cells, restExpected, restCount] = [0, 0, 0, 0];
  for (const id of tokens) {
    const expected = samples * Math.exp(scores!.logprobs[id]!);
    const count = counts.get(id) ?? 0;
    if (expected < 5) [restExpected, restCount] = [restExpected + expected, restCount + count];
    else [statistic, cells] = [statistic + (count - expected) ** 2 / expected, cells + 1];
  }
  if (restExpected >= 5)
    [statistic, cells] = [statistic + (restCount - restExpected) ** 2 / restExpected, cells + 1];
  // Wilson and Hilferty: the cube root of chi-square / k is nearly normal. 4 standard deviations: 3e-5.
  const k = cells - 1;
  const z = ((statistic / k) ** (1 / 3) - (1 - 2 / (9 * k))) / Math.sqrt(2 / (9 * k));
  t.ok(z < 4, `chi-square ${statistic.toFixed(1)} of ${k} degrees of freedom`);
});

t.test('bfloat16: log-probs of sampled tokens are near those of scoring', async (t) => {
  await using model = await load('llama', GPU, 'bfloat16');
  const responses = await collect(model.generate({ prompts: PROMPTS, n: 4, maxNewTokens: 24, seed: 3 }));
  const scores = await model.score(
    PROMPTS.map(({ ids }, p) => ({
      promptIds: ids,
      responses: responses.filter(({ promptIndex }) => promptIndex === p).map(({ ids }) => ids),
    })),
    { perToken: true },
  );
  const sampled = responses.flatMap(({ logprobs }) => [...logprobs]);
  const scored = scores.flatMap(({ tokenLogprobs }) => tokenLogprobs!.flatMap((values) => [...values]));
  // Batch shapes differ: 0.03 to 0.05 nats per token are reported for bfloat16.
  const mean = sampled.reduce((sum, x, i) => sum + Math.abs(x - scored[i]!), 0) / sampled.length;
  t.ok(mean < 0.05, `${mean} nats per token on average`);
});
