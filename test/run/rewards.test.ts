import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { readModelConfig } from '../../lib/data/model-config.js';
import { encode, MODEL_CONFIG, writeTokenizer } from '../../lib/demo/checkpoint.js';
import { Model } from '../../lib/native/model.js';
import { RewardModel } from '../../lib/native/reward-model.js';
import { readRecords } from '../../lib/run/records.js';
import type { PreferencePair, RankedGroup, ScoredGroup } from '../../lib/types.js';
import { built } from '../helpers/built.js';
import { readSafetensors, writeSafetensors } from '../helpers/safetensors.js';
import { digests, writeTinyRun } from '../helpers/tiny-run.js';

// Whole tiny runs whose rewards come from a reward model, or from the policy as a judge.

t.setTimeout(400_000);

const { runCream } = built;
const folder = t.testdir({});
const base = await writeTinyRun(folder);
const tiny = { ...base, data: { ...base.data, evaluation: [] }, evaluation: {} };

const read = <T extends object>(output: string, file: string) => readRecords<T>(join(output, file));
const resultOf = (output: string, stage: string) =>
  (
    JSON.parse(readFileSync(join(output, 'manifest.json'), 'utf8')) as {
      stages: { key: string; record: { result: object } }[];
    }
  ).stages.find(({ key }) => key === stage)?.record.result;

/** A classifier of one label with the tokenizer of `tokenizer`. */
async function writeRewardModel(to: string, tokenizer: string) {
  const language = join(folder, 'for-reward');
  const shape = { vocab_size: 15, hidden_size: 16, intermediate_size: 32, head_dim: 4 };
  const config = { ...MODEL_CONFIG, ...shape };
  const model = await Model.random(readModelConfig(config, 'the reward model'), { seed: 11n });
  await model.save(language, { from: tokenizer, overwrite: true });
  model.dispose();
  cpSync(language, to, { recursive: true });
  writeFileSync(
    join(to, 'config.json'),
    JSON.stringify({
      ...config,
      architectures: ['LlamaForSequenceClassification'],
      id2label: { 0: 'LABEL_0' },
    }),
  );
  const tensors = readSafetensors(join(to, 'model.safetensors'));
  const head = tensors.get('lm_head.weight')!;
  tensors.delete('lm_head.weight');
  tensors.set('score.weight', { shape: [1, 16], data: head.data.subarray(0, 16).map((x) => 50 * x) });
  writeSafetensors(join(to, 'model.safetensors'), tensors);
}

const rewardFolder = join(folder, 'reward');
await writeRewardModel(rewardFolder, join(folder, 'tokenizer'));

t.test('reward-model: the sampled ids are ranked by the model, whose tokenizer is the same', async (t) => {
  const output = join(folder, 'by-model');
  const config = { ...tiny, output, method: 'reward-model', reward: { model: rewardFolder } } as const;
  await runCream(config).result;
  const scored = await read<ScoredGroup>(output, 'iteration-2/scores.jsonl');
  await using model = await RewardModel.load(rewardFolder);
  const expected = await model.rewards(
    scored.map(({ promptIds, responses }) => ({ promptIds, responses: responses.map(({ ids }) => ids) })),
  );
  scored.forEach(({ pairRewards }, g) => {
    pairRewards!.forEach((reward, i) => {
      if (Math.abs(reward - expected[g]![i]!) > 1e-4) t.fail(`${reward} for ${expected[g]![i]}`);
    });
  });
  const pairs = await read<PreferencePair>(output, 'iteration-2/pairs.jsonl');
  t.ok(pairs.length > 0);
  const byId = new Map(scored.map((group) => [group.id, group]));
  for (const { id, chosenReward, rejectedReward, weight } of pairs) {
    const { pairRewards } = byId.get(id)!;
    t.strictSame(
      [chosenReward, rejectedReward, weight],
      [Math.max(...pairRewards!), Math.min(...pairRewards!), 1],
    );
  }
  t.match(resultOf(output, 'iteration-2/score:M2'), {
    passes: 3,
    rewardModel: { reencoded: false, tooLong: 0 },
  });

  // Its weights are an input of the run.
  const other = join(folder, 'reward-other');
  cpSync(rewardFolder, other, { recursive: true });
  const tensors = readSafetensors(join(other, 'model.safetensors'));
  tensors.get('score.weight')!.data[0]! += 1;
  writeSafetensors(join(other, 'model.safetensors'), tensors);
  await t.rejects(runCream({ ...config, reward: { model: other } }).result, {
    code: 'RUN_MISMATCH',
    message: /content of reward\.model\/model\.safetensors/,
  });
  await t.rejects(runCream({ ...config, output: `${output}-2`, reward: { model: base.model } }).result, {
    code: 'INVALID_CHECKPOINT',
    message: /LlamaForSequenceClassification/,
  });
});

t.test(
  'oracle by a reward model of another tokenizer: texts are encoded anew; passes are left out',
  async (t) => {
    // The same characters under other ids.
    const other = join(folder, 'reward-digits');
    await writeRewardModel(other, join(folder, 'tokenizer'));
    const file = join(other, 'tokenizer.json');
    const tokenizer = JSON.parse(readFileSync(file, 'utf8')) as { model: { vocab: Record<string, number> } };
    const { vocab } = tokenizer.model;
    const moved = (id: number) => (id + 5) % 12;
    tokenizer.model.vocab = Object.fromEntries(
      Object.entries(vocab).map(([token, id]) => [token, moved(id)]),
    );
    writeFileSync(file, JSON.stringify(tokenizer));

    const output = join(folder, 'by-other');
    const config = {
      ...tiny,
      output,
      method: 'oracle',
      reward: { model: other },
      consistency: { measure: false },
    } as const;
    const { iterations } = await runCream(config).result;
    t.match(resultOf(output, 'iteration-2/score:M2'), {
      passes: 1,
      rewardModel: { reencoded: true, tooLong: 0 },
    });
    const ranked = await read<RankedGroup>(output, 'iteration-2/ranks.jsonl');
    await using model = await RewardModel.load(other);
    const ids = (text: string) => encode(text).map(moved);
    const expected = await model.rewards(
      ranked.map(({ prompt, responses }) => ({
        promptIds: [12, ...ids(prompt as string)],
        responses: responses.map(({ text, finishReason }) => [
          ...ids(text),
          ...(finishReason === 'stop' ? [13] : []),
        ]),
      })),
    );
    ranked.forEach((group, g) => {
      group.pairRewards!.forEach((reward, i) => {
        if (Math.abs(reward - expected[g]![i]!) > 1e-4) t.fail(`${reward} for ${expected[g]![i]}`);
      });
      for (const name of ['rewards', 'baseLogprobs', 'previousLogprobs', 'previousRewards'])
        t.notOk(name in group, name);
      t.match(group, { tau: null, consistency: null, undefinedBecause: 'not-measured' });
    });
    const { consistency, rankingAccuracy, pairs } = iterations[1]!;
    t.match(consistency, {
      mean: null,
      tau: null,
      groups: 0,
      undefinedGroups: { 'not-measured': ranked.length },
    });
    t.equal(rankingAccuracy, null, 'what was not computed is not there');
    t.ok(pairs > 0);
    for (const pair of await read<PreferencePair>(output, 'iteration-2/pairs.jsonl')) {
      t.equal(pair.consistency, null);
      t.notOk('tau' in pair || 'baseChosenLogprob' in pair);
    }
  },
);

t.test('srlm without the measurement makes the pairs of srlm with it', async (t) => {
  const [measured, plain] = [join(folder, 'measured'), join(folder, 'plain')];
  await runCream({ ...tiny, output: measured, method: 'srlm' }).result;
  await runCream({ ...tiny, output: plain, method: 'srlm', consistency: { measure: false } }).result;
  t.match(resultOf(measured, 'iteration-2/score:M2'), { passes: 3 });
  t.match(resultOf(plain, 'iteration-2/score:M2'), { passes: 2 });
  for (const iteration of [1, 2]) {
    const of = async (output: string) =>
      (await read<PreferencePair>(output, `iteration-${iteration}/pairs.jsonl`)).map(
        ({ consistency: _, tau: __, ...rest }) => rest,
      );
    t.strictSame(await of(plain), await of(measured));
  }
  const policy = 'iteration-2/policy/model.safetensors';
  t.equal(digests(plain)[policy], digests(measured)[policy]);
});

// A model that judges: its vocabulary has the letters of "Score: N", and the seed data teach it to end so.

const judgeFolder = join(folder, 'judge');
const LETTERS = [...'Score: '];
async function writeJudgingRun() {
  await writeTokenizer(judgeFolder);
  const file = join(judgeFolder, 'tokenizer.json');
  const tokenizer = JSON.parse(readFileSync(file, 'utf8')) as {
    model: { vocab: Record<string, number>; merges: string[] };
  };
  for (const [i, letter] of LETTERS.entries()) tokenizer.model.vocab[letter] = 15 + i;
  writeFileSync(file, JSON.stringify(tokenizer));
  const shape = { vocab_size: 24, hidden_size: 32, intermediate_size: 64, head_dim: 8 };
  const model = await Model.random(readModelConfig({ ...MODEL_CONFIG, ...shape }, 'the judge'), { seed: 6n });
  await model.save(join(folder, 'judging'), { from: judgeFolder });
  model.dispose();
  const rows = Array.from({ length: 48 }, (_, i) =>
    i % 2 === 0
      ? { prompt: `${100 + i}+1=`, completion: `${i % 10}${i % 7}` }
      : { prompt: `S${100 + i}+1=:${i % 10}${i % 7}`, completion: `Score: ${i % 6}` },
  );
  writeFileSync(join(folder, 'judging.jsonl'), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  writeFileSync(join(folder, 'judge.txt'), 'S{{prompt}}:{{response}}');
  return {
    ...tiny,
    model: join(folder, 'judging'),
    data: { ...tiny.data, sft: join(folder, 'judging.jsonl') },
    iterations: 1,
    sft: { ...tiny.sft, epochs: 40 },
    sampling: { ...tiny.sampling, maxNewTokens: 6, temperature: 1.4 },
    reward: {
      judge: { samples: 5, template: join(folder, 'judge.txt'), maxNewTokens: 12, temperature: 0.9, topP: 1 },
    },
  };
}
const judging = await writeJudgingRun();

t.test('srlm-judge: the mean of the points that the policy gives; the counts are reported', async (t) => {
  const output = join(folder, 'by-judge');
  const summary = await runCream({ ...judging, output, method: 'srlm-judge' }).result;
  const scored = await read<ScoredGroup>(output, 'iteration-1/scores.jsonl');
  const points = scored.flatMap(({ judgeRewards }) => judgeRewards!);
  const readable = points.filter(Number.isFinite);
  t.ok(readable.length > 10, `${readable.length} of ${points.length} responses have points`);
  t.ok(new Set(readable).size > 2, 'different points');
  for (const value of readable) if (!(value >= 0 && value <= 5)) t.fail(`${value} points`);
  for (const { pairRewards, judgeRewards } of scored) t.same(pairRewards, judgeRewards);

  const pairs = await read<PreferencePair>(output, 'iteration-1/pairs.jsonl');
  t.ok(pairs.length > 0);
  for (const { chosenReward, rejectedReward, weight, judgeMargin } of pairs) {
    t.ok(chosenReward > rejectedReward);
    t.strictSame([weight, judgeMargin], [1, chosenReward - rejectedReward]);
  }
  const { judge } = resultOf(output, 'iteration-1/score:M1') as {
    judge: { judgements: number; unparsable: number; unjudged: number; tooLong: number };
  };
  t.equal(judge.unjudged, points.length - readable.length);
  t.ok(judge.judgements > 0 && judge.unparsable < judge.judgements);
  const { droppedGroups, pairs: count, prompts } = summary.iterations[0]!;
  const dropped = Object.values(droppedGroups).reduce((sum, value) => sum + value, 0);
  t.equal(count + dropped, prompts, 'every group is a pair or counted');
  t.match(readFileSync(join(output, 'events.jsonl'), 'utf8'), /"judge\/unparsable":/);
});

t.test('agreement: a pair has the order of both; its loss gets the margins', async (t) => {
  const output = join(folder, 'agreement');
  const config = {
    ...judging,
    output,
    pairing: { agreement: 'judge' },
    train: { ...judging.train, agreementCoefficient: 0.5, agreementEntropy: 0.1 },
  } as const;
  await runCream(config).result;
  const pairs = await read<PreferencePair>(output, 'iteration-1/pairs.jsonl');
  t.ok(pairs.length > 0);
  for (const { judgeMargin, baseChosenLogprob, baseRejectedLogprob, chosenReward, rejectedReward } of pairs) {
    t.ok(judgeMargin! > 0);
    t.ok(chosenReward > rejectedReward);
    t.ok(Number.isFinite(baseChosenLogprob) && Number.isFinite(baseRejectedLogprob));
  }
  // M0's responses are judged too, by the policy. This M0 is a random model, whose pairs no judge need agree with.
  const withBase = join(folder, 'agreement-base');
  const both = {
    ...config,
    output: withBase,
    pairing: { agreement: 'judge', rejectedFrom: 'base' },
  } as const;
  await runCream(both).result.catch((error: { code: string }) => t.equal(error.code, 'NO_PAIRS'));
  for (const file of ['scores', 'base-scores']) {
    const groups = await read<ScoredGroup>(withBase, `iteration-1/${file}.jsonl`);
    const isJudged = groups.every(({ judgeRewards, responses }) => judgeRewards!.length === responses.length);
    t.ok(isJudged, file);
  }
});

t.test('killed while it judges or asks the reward model, a run ends with the same bits', async (t) => {
  for (const [name, config] of [
    ['judge', { ...judging, iterations: 1, method: 'srlm-judge' }],
    ['model', { ...tiny, iterations: 1, method: 'reward-model', reward: { model: rewardFolder } }],
  ] as const) {
    const whole = join(folder, `${name}-whole`);
    await runCream({ ...config, output: whole }).result;
    const output = join(folder, `${name}-killed`);
    // Killed when so many of its chunks are done.
    const part = join(output, 'iteration-1', 'score.partial', name === 'judge' ? 'judge' : 'reward-model');
    const done = () => (existsSync(part) ? readdirSync(part).length : 0);
    let kills = 0;
    for (const chunks of [1, 3]) {
      const run = runCream({ ...config, output });
      const timer = setInterval(() => {
        if (done() >= chunks) run.kill();
      }, 1);
      try {
        await run.result;
      } catch (error) {
        t.equal((error as { code: string }).code, 'ABORTED');
        kills++;
        t.ok(done() >= chunks, `${done()} chunks are kept`);
      }
      clearInterval(timer);
    }
    await runCream({ ...config, output }).result;
    t.ok(kills > 0, `${kills} kills`);
    t.strictSame(digests(output), digests(whole), name);
    rmSync(output, { recursive: true });
  }
});
