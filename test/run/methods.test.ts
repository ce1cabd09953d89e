import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { readRecords } from '../../lib/run/records.js';
import type { PreferencePair, RankedGroup } from '../../lib/types.js';
import { built } from '../helpers/built.js';
import { writeTinyRun } from '../helpers/tiny-run.js';

// A whole tiny run with each method.

t.setTimeout(240_000);

const { runCream } = built;
const folder = t.testdir({});
const base = await writeTinyRun(folder);

async function run(name: string, changes: object) {
  const output = join(folder, name);
  const config = { ...base, ...changes, output } as typeof base;
  const summary = await runCream(config).result;
  const read = <T extends object>(file: string) => readRecords<T>(join(output, 'iteration-2', file));
  return {
    summary,
    config,
    pairs: await read<PreferencePair>('pairs.jsonl'),
    ranked: new Map((await read<RankedGroup>('ranks.jsonl')).map((group) => [group.id, group])),
  };
}

for (const [method, extra] of [
  ['cream', {}],
  ['cream-sample', {}],
  ['cream-constant', { consistency: { constant: 0.7 } }],
  ['srlm', {}],
] as const) {
  t.test(`${method}: pairs by the policy's own reward`, async (t) => {
    const { pairs, ranked } = await run(method, { method, ...extra });
    t.ok(pairs.length > 0);
    for (const { id, chosenReward, weight, consistency } of pairs) {
      const group = ranked.get(id)!;
      t.notOk(group.pairRewards, 'nothing else ranks');
      t.equal(chosenReward, Math.max(...group.rewards!));
      if (method === 'cream-constant') t.equal(weight, 0.7);
      if (method === 'srlm') t.equal(weight, 1);
      if (method === 'cream-sample') t.equal(weight, consistency);
      if (method === 'cream') t.equal(weight, pairs[0]!.weight);
    }
  });
}

for (const method of ['likelihood', 'worst-of'] as const) {
  t.test(`${method}: pairs by another reward, with weight 1`, async (t) => {
    const { pairs, ranked } = await run(method, { method });
    t.ok(pairs.length > 0);
    for (const { id, chosenReward, rejectedReward, weight } of pairs) {
      const { pairRewards, logprobs, numTokens } = ranked.get(id)!;
      t.equal(chosenReward, Math.max(...pairRewards!));
      t.equal(rejectedReward, Math.min(...pairRewards!));
      t.equal(weight, 1);
      if (method === 'likelihood')
        t.same(
          pairRewards,
          logprobs.map((sum, i) => sum / numTokens[i]!),
        );
    }
  });
}

t.test('oracle: right against wrong, by label', async (t) => {
  // The seed data teaches to answer 1 or 2, whatever is asked; 1 is right.
  const prompts = Array.from({ length: 40 }, (_, i) => ({ id: `p${i}`, prompt: `${i}+1=`, label: '1' }));
  const write = (name: string, rows: object[]) => {
    writeFileSync(join(folder, name), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
    return join(folder, name);
  };
  const seed = prompts.map(({ prompt }, i) => ({ prompt, completion: i % 2 === 0 ? '1' : '2' }));
  const output = join(folder, 'oracle');
  const config = {
    ...base,
    output,
    method: 'oracle' as const,
    iterations: 1,
    data: { ...base.data, sft: write('digits-sft.jsonl', seed), prompts: write('digits.jsonl', prompts) },
    sft: { ...base.sft, epochs: 6 },
    sampling: { ...base.sampling, maxNewTokens: 4 },
  };
  await runCream(config).result;
  const pairs = await readRecords<PreferencePair>(join(output, 'iteration-1', 'pairs.jsonl'));
  t.ok(pairs.length > 5, `${pairs.length} pairs`);
  for (const { chosen, rejected, chosenReward, rejectedReward } of pairs) {
    t.equal(chosen, '1');
    t.not(rejected, '1');
    t.strictSame([chosenReward, rejectedReward], [1, 0]);
  }
});

t.test('custom: a module ranks; a changed module is noticed; a broken one is named', async (t) => {
  const file = join(folder, 'reward.mjs');
  writeFileSync(
    file,
    'export default (groups) => groups.map(({ responses }) => responses.map(({ ids }) => -ids.length));\n',
  );
  const settings = { method: 'custom', reward: { module: file } };
  const { pairs, config } = await run('custom', settings);
  t.ok(pairs.length > 0);
  for (const { chosenIds, rejectedIds } of pairs) t.ok(chosenIds.length < rejectedIds.length);

  writeFileSync(file, 'export default async () => [];\n');
  await t.rejects(runCream(config).result, { code: 'RUN_MISMATCH', message: /content of reward\.module/ });
  await t.rejects(run('custom-broken', settings), { code: 'REWARD_FAILED', message: /a list of 12 lists/ });
  writeFileSync(file, 'export const nothing = 1;\n');
  await t.rejects(run('custom-nothing', settings), {
    code: 'REWARD_FAILED',
    message: /must export a function by default/,
  });
});
