import { createRequire } from 'node:module';
import { join } from 'node:path';
import t from 'tap';
import { addonPath } from '../../lib/native/binding.js';
import type { LogitsSettings } from '../../lib/native/logits-settings.js';
import { Model } from '../../lib/native/model.js';
import { close } from '../helpers/close.js';
import { readGolden } from '../helpers/golden.js';

// Penalties, bans and min_p as transformers computes them.

interface Row {
  model: string;
  prompt: number[];
  settings: Record<string, unknown>;
  ids: number[];
}
interface Warped {
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  probabilities: number[];
}
const golden = readGolden<{ greedy: Row[]; logits: number[]; vocab: number; warped: Warped[] }>('processors');
const checkpoint = (name: string) => join(import.meta.dirname, '..', 'golden', 'checkpoints', name);

const NAMES: Record<string, keyof LogitsSettings> = {
  repetition_penalty: 'repetitionPenalty',
  no_repeat_ngram_size: 'noRepeatNgramSize',
  bad_words_ids: 'badWordsIds',
  suppress_tokens: 'suppressTokens',
  begin_suppress_tokens: 'beginSuppressTokens',
  min_new_tokens: 'minNewTokens',
  forced_eos_token_id: 'forcedEosId',
};

async function generate(model: Model, prompts: number[][], settings: object, n = 1) {
  const responses: { ids: number[]; logprobs: number[]; prompt: number; sample: number }[] = [];
  const request = {
    prompts: prompts.map((ids, i) => ({ id: `${i}`, ids })),
    n,
    maxNewTokens: 24,
    temperature: 0,
    ...settings,
  };
  for await (const { ids, logprobs, promptIndex, sample } of model.generate(request)) {
    responses.push({ ids: [...ids], logprobs: [...logprobs], prompt: promptIndex, sample });
  }
  return responses.sort((a, b) => a.prompt - b.prompt || a.sample - b.sample);
}

function ourSettings(settings: Record<string, unknown>) {
  const { eos_token_id: stopIds = [], ...others } = settings;
  return {
    stopIds: stopIds as number[],
    ...Object.fromEntries(Object.entries(others).map(([key, value]) => [NAMES[key]!, value])),
  };
}

t.test('greedy generation with penalties and bans gives the ids of transformers', async (t) => {
  for (const name of ['llama', 'qwen3']) {
    await using model = await Model.load(checkpoint(name), { dtype: 'float32', device: 'cpu' });
    const rows = golden.greedy.filter((row) => row.model === name);
    t.ok(rows.length > 30);
    for (const { prompt, settings, ids } of rows) {
      const [response] = await generate(model, [prompt], ourSettings(settings));
      t.strictSame(response!.ids, ids, `${name} ${JSON.stringify(settings)}`);
      // The log-probs stay those of the model.
      const [scores] = await model.score([{ promptIds: prompt, responses: [ids] }], { perToken: true });
      close(t, response!.logprobs, scores!.tokenLogprobs![0]!, { rtol: 1e-5, atol: 1e-4 });
    }
  }
});

t.test('a response under penalties does not depend on the others in its batch', async (t) => {
  await using model = await Model.load(checkpoint('llama'), { dtype: 'float32', device: 'cpu' });
  const prompts = [
    [1, 5, 9, 5, 9],
    [1, 40, 41, 42, 40, 41],
    [1, 7],
  ];
  const settings = {
    temperature: 1,
    seed: 3,
    stopIds: [4, 9, 30],
    repetitionPenalty: 1.4,
    noRepeatNgramSize: 2,
    minP: 0.02,
    minNewTokens: 5,
  };
  const together = await generate(model, prompts, settings, 6);
  t.ok(together.every(({ ids }) => ids.length >= 6));
  for (const { ids } of together) {
    const pairs = ids.slice(1).map((id, i) => `${ids[i]} ${id}`);
    t.equal(new Set(pairs).size, pairs.length);
  }
  for (const [i, ids] of prompts.entries()) {
    // The prompt's number is its name, by which it draws.
    const alone: number[][] = [];
    const request = { prompts: [{ id: `${i}`, ids }], n: 6, maxNewTokens: 24, ...settings };
    for await (const response of model.generate(request)) alone[response.sample] = [...response.ids];
    t.strictSame(
      together.filter(({ prompt }) => prompt === i).map((response) => response.ids),
      alone,
    );
  }
});

t.test('the distribution with minP is that of the warpers of transformers', async (t) => {
  interface Options extends Omit<Warped, 'probabilities'> {
    logits: Float32Array;
    vocab: number;
    dtype: 'float32';
  }
  const ops = createRequire(import.meta.url)(addonPath()) as {
    _samplingDistribution(options: Options): Float64Array;
    _sample(options: Options & { uniforms: Float32Array }): { ids: Int32Array };
  };
  const logits = Float32Array.from(golden.logits);
  const rows = logits.length / golden.vocab;
  for (const { probabilities, ...settings } of golden.warped) {
    const options = { ...settings, logits, vocab: golden.vocab, dtype: 'float32' as const };
    const expected = Float64Array.from(probabilities);
    close(t, ops._samplingDistribution(options), expected, { rtol: 1e-5, atol: 1e-7 });
    // Every number in (0, 1) leads to a token that is kept, and all of them are met.
    const uniforms = Float32Array.from({ length: 4000 }, (_, i) => (i + 0.5) / 4000);
    const met = new Set<number>();
    for (const [i, id] of ops._sample({ ...options, uniforms }).ids.entries()) {
      met.add((i % rows) * golden.vocab + id);
    }
    const kept = [...expected.entries()].filter(([, p]) => p > 0.002).map(([i]) => i);
    t.ok([...met].every((i) => expected[i]! > 0) && kept.every((i) => met.has(i)), JSON.stringify(settings));
  }
});

t.test('what is out of range, leaves no token, or is not there on a GPU is refused by name', async (t) => {
  await using model = await Model.load(checkpoint('llama'), { dtype: 'float32', device: 'cpu' });
  const refused: [object, RegExp][] = [
    [{ minP: 1.5 }, /minP must be a number in \[0, 1\]/],
    [{ repetitionPenalty: 0 }, /repetitionPenalty must be a number > 0/],
    [{ noRepeatNgramSize: -1 }, /noRepeatNgramSize must be an integer in \[0/],
    [{ badWordsIds: [[]] }, /badWordsIds/],
    [{ suppressTokens: [100_000] }, /suppressTokens/],
    [{ forcedEosId: 100_000 }, /forcedEosId/],
    [
      { suppressTokens: Array.from({ length: model.config.vocabSize }, (_, id) => id) },
      /no token is left for prompt 0, sample 0, token 0/,
    ],
  ];
  for (const [settings, message] of refused) {
    await t.rejects(generate(model, [[1, 2]], settings), { code: 'INVALID_ARGUMENT', message });
  }
});
