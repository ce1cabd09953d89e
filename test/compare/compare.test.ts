import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { CompareEvent } from '../../lib/compare/compare.js';
import type { Comparison } from '../../lib/compare/results.js';
import { built } from '../helpers/built.js';
import { digests, writeTinyRun } from '../helpers/tiny-run.js';

// Whole comparisons of tiny runs: what is shared is done once and is what a run alone would have computed.

t.setTimeout(240_000);

const { compareRuns, runCream } = built;
const folder = t.testdir({});
const base = await writeTinyRun(folder);
const settings = { ...base, evaluation: { maxNewTokens: 8 } };
const two = [
  { name: 'cream', config: { ...settings, method: 'cream' as const } },
  { name: 'srlm', config: { ...settings, method: 'srlm' as const } },
];

async function compare(
  contestants: Parameters<typeof compareRuns>[0],
  options: Parameters<typeof compareRuns>[1],
): Promise<{ comparison: Comparison; events: CompareEvent[] }> {
  const run = compareRuns(contestants, options);
  const events: CompareEvent[] = [];
  for await (const event of run) events.push(event);
  return { comparison: await run.result, events };
}

/** How often each stage was really done, over all runs: "sft M1" -> 2. */
function workOf(events: readonly CompareEvent[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const event of events) {
    if (event.type !== 'stage' || event.status !== 'finished') continue;
    const name = `${event.stage} ${event.model ?? event.iteration}`;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

const output = join(folder, 'two');
const first = await compare(two, { seeds: [1, 2], output });

t.test('stages that two runs have in common are done once', async (t) => {
  t.strictSame(workOf(first.events), {
    'evaluate M0': 1, // greedy answers of M0: one for all seeds
    'sft M1': 2, // one for each seed
    'evaluate M1': 2,
    'sample M1': 2,
    'score M1': 2,
    'rank 1': 4,
    'pair 1': 4,
    'train M2': 4,
    'evaluate M2': 4,
    'sample M2': 4,
    'score M2': 4,
    'rank 2': 4,
    'pair 2': 4,
    'train M3': 4,
    'evaluate M3': 4,
    'score M3': 4, // the final policy ranks as well
  });
  const { runs, isComplete } = first.comparison;
  t.equal(isComplete, true);
  t.strictSame(
    runs.map(({ name, seed, status, shared }) => [name, seed, status, Object.keys(shared).length]),
    [
      ['cream', 1, 'finished', 0],
      ['srlm', 1, 'finished', 6],
      ['cream', 2, 'finished', 1],
      ['srlm', 2, 'finished', 6],
    ],
  );
  t.same(new Set(Object.values(runs[3]!.shared)), new Set(['cream/seed-1', 'cream/seed-2']));
});

t.test('a run that began with shared stages is the run that it would have been alone', async (t) => {
  const alone = { ...two[1]!.config, seed: 2, output: join(folder, 'alone'), consistency: { final: true } };
  await runCream(alone).result;
  t.strictSame(digests(join(output, 'srlm', 'seed-2')), digests(alone.output));
});

t.test('finished stages are linked, not copied; what a run appends to is its own', async (t) => {
  const inode = (run: string, file: string) => statSync(join(output, run, file)).ino;
  const weights = join('sft', 'model', 'model.safetensors');
  t.equal(inode('cream/seed-1', weights), inode('srlm/seed-1', weights));
  for (const file of ['metrics.jsonl', 'run.json', 'manifest.json'])
    t.not(inode('cream/seed-1', file), inode('srlm/seed-1', file), file);
});

t.test('every run is one that cream run continues', async (t) => {
  const config = { ...two[1]!.config, seed: 1, output: join(output, 'srlm', 'seed-1') };
  const stages: string[] = [];
  const run = runCream(config, { resume: 'required' });
  for await (const event of run) if (event.type === 'stage') stages.push(event.status);
  t.ok(stages.length > 10);
  t.ok(stages.every((status) => status === 'skipped'));
  t.equal((await run.result).iterations.length, 2);
});

t.test('the same comparison again only reads; another seed and another method only add', async (t) => {
  const again = await compare(two, { seeds: [1, 2], output });
  t.strictSame(workOf(again.events), {});
  t.same(again.comparison, first.comparison);
  const third = { name: 'sample', config: { ...settings, method: 'cream-sample' as const } };
  const more = await compare([...two, third], { seeds: [1], output });
  t.strictSame(workOf(more.events)['sft M1'], undefined);
  t.strictSame(workOf(more.events)['train M2'], 1);
  t.same(more.comparison.seeds, [1]);
  t.ok(more.comparison.accuracy.every(({ cells }) => cells['sums']!.by === 'wilson'));
});

t.test('compare.json holds the result, compare.md its tables', async (t) => {
  const { comparison } = await compare(two, { seeds: [1, 2], output });
  t.same(JSON.parse(readFileSync(join(output, 'compare.json'), 'utf8')), comparison);
  const markdown = readFileSync(join(output, 'compare.md'), 'utf8');
  for (const heading of ['## Compared settings', '## Accuracy', '## Accuracy minus that of cream'])
    t.match(markdown, `\n${heading}\n`);
  t.match(markdown, /^\| \(all\) \| M1 \| /m);
  t.match(markdown, /^\| srlm \| M3 \| [+-]0\.\d{3} ±/m);
  t.strictSame(comparison.settings['consistency.weight'], { cream: 'dataset', srlm: 'one' });
  t.strictSame(
    comparison.accuracy.map(({ name, model }) => `${name} ${model}`),
    ['null M0', 'null M1', 'cream M2', 'cream M3', 'srlm M2', 'srlm M3'],
  );
  t.strictSame(
    comparison.consistency.map(({ name, policy, previous }) => `${name} ${policy} ${previous}`),
    ['cream M2 M1', 'cream M3 M2', 'srlm M2 M1', 'srlm M3 M2'],
  );
  const last = comparison.consistency.at(-1)!;
  t.equal(last.tau.n, 2);
  t.ok(Math.abs(last.consistency.mean - (last.tau.mean + 1) / 2) < 1e-12);
});

for (const [what, extra, shared] of [
  ['adapters', { lora: { rank: 2, dropout: 0.1 } }, 6],
  ["M0's responses", { pairing: { rejectedFrom: 'base' } }, 8],
] as const) {
  t.test(`${what} are shared like all else`, async (t) => {
    const common = { ...settings, ...extra, iterations: 1 };
    const contestants = [
      { name: 'cream', config: { ...common, method: 'cream' as const } },
      { name: 'srlm', config: { ...common, method: 'srlm' as const } },
    ];
    const directory = join(folder, what.replaceAll(/\W/g, '-'));
    const { comparison } = await compare(contestants, { seeds: [1], output: directory });
    t.equal(Object.keys(comparison.runs[1]!.shared).length, shared);
    const alone = { ...contestants[1]!.config, seed: 1, output: `${directory}-alone` };
    await runCream({ ...alone, consistency: { final: true } }).result;
    t.strictSame(digests(join(directory, 'srlm', 'seed-1')), digests(alone.output));
  });
}

t.test('what differs beyond the method is refused by name, or said beside the numbers', async (t) => {
  writeFileSync(
    join(folder, 'other.jsonl'),
    `${JSON.stringify({ prompt: '1+1=', completion: '2' })}\n`.repeat(8),
  );
  const other = {
    name: 'other',
    config: {
      ...settings,
      method: 'srlm' as const,
      data: { ...settings.data, sft: join(folder, 'other.jsonl') },
      sft: { ...settings.sft, learningRate: 0.02 },
    },
  };
  const options = { seeds: [1], output: join(folder, 'unequal') };
  await t.rejects(compareRuns([two[0]!, other], options).result, {
    code: 'INVALID_CONFIG',
    message:
      /sft\.learningRate: 0\.01 in cream, 0\.02 in other\n {2}content of data\.sft: sha256 \w{12} in cream, sha256 \w{12} in other/,
  });
  t.notOk(existsSync(options.output), 'before a folder is made');
  const { comparison, events } = await compare([two[0]!, other], { ...options, allowDifferent: true });
  t.match(comparison.warnings, [/not the same for all: sft\.learningRate/, /content of data\.sft/]);
  t.equal(workOf(events)['sft M1'], 2);
  t.strictSame(workOf(events)['evaluate M0'], 1, 'M0 is the same all the same');
});

t.test('contestants and seeds that make no comparison are refused', async (t) => {
  const options = { seeds: [1], output: join(folder, 'refused') };
  t.throws(() => compareRuns([two[0]!, { ...two[1]!, name: 'Cream' }], options), {
    code: 'INVALID_ARGUMENT',
    message: /two of the compared have the name Cream/,
  });
  t.throws(() => compareRuns([{ ...two[0]!, name: '../x' }], options), { code: 'INVALID_ARGUMENT' });
  t.throws(() => compareRuns([], options), { code: 'INVALID_ARGUMENT' });
  t.throws(() => compareRuns(two, { ...options, seeds: [] }), { message: /seeds are missing/ });
  t.throws(() => compareRuns(two, { ...options, seeds: [1, 1] }), { message: /seed 1 is given twice/ });
  t.throws(() => compareRuns(two, { ...options, seeds: [0.5] }), { message: /got 0\.5/ });
  t.throws(() => compareRuns([{ name: 'a', config: { ...base, beta: -1 } }], options), {
    code: 'INVALID_CONFIG',
    message: /^a: beta must be > 0/,
  });
  await t.rejects(compareRuns([two[0]!, { ...two[0]!, name: 'twin' }], options).result, {
    code: 'INVALID_CONFIG',
    message: /cream and twin have the same settings/,
  });
  t.notOk(existsSync(options.output));
});

t.test('a folder of something else, or of other settings, is left alone', async (t) => {
  const changed = [{ name: 'cream', config: { ...two[0]!.config, beta: 0.5 } }, two[1]!];
  await t.rejects(compareRuns(changed, { seeds: [1, 2], output }).result, {
    code: 'RUN_MISMATCH',
    message: /cream\/seed-1 was made with other settings.*\n {2}beta: was 0\.1, is 0\.5/,
  });
  await t.rejects(compareRuns(two, { seeds: [1], output: join(folder, 'tokenizer') }).result, {
    code: 'RUN_MISMATCH',
    message: /holds files that are no comparison/,
  });
});

t.test('one comparison at a time works in a folder', async (t) => {
  const options = { seeds: [7], output: join(folder, 'locked') };
  const running = compareRuns(two, options);
  for await (const event of running) if (event.type === 'stage') break;
  await t.rejects(compareRuns(two, options).result, { code: 'RUN_LOCKED' });
  await running[Symbol.asyncDispose]();
  await t.rejects(running.result, { code: 'ABORTED' });
  t.equal((await compareRuns(two, options).result).isComplete, true);
});

t.test('a method that makes no pair is left out with its reason; the others are compared', async (t) => {
  const oracle = { name: 'oracle', config: { ...settings, method: 'oracle' as const } };
  const { comparison } = await compare([...two, oracle], { seeds: [1, 2], output });
  t.equal(comparison.isComplete, false);
  const failed = comparison.runs.filter(({ name }) => name === 'oracle');
  t.ok(failed.every(({ status, failure }) => status === 'failed' && failure!.code === 'NO_PAIRS'));
  t.match(comparison.warnings[0], /oracle with seed 1 is left out.*made a pair/);
  t.notOk(comparison.accuracy.some(({ name }) => name === 'oracle'));
  t.equal(comparison.consistency.length, 4);
});

t.test(
  'a damaged result of a finished run is found before it is shown; one that is missing is made again',
  async (t) => {
    const directory = join(folder, 'damaged');
    const only = { seeds: [1], output: directory };
    await compare([two[0]!], only);
    const ranks = join(directory, 'cream', 'seed-1', 'iteration-2', 'ranks.jsonl');
    writeFileSync(ranks, readFileSync(ranks, 'utf8').replace('"tau":', '"tua":'));
    await t.rejects(compareRuns([two[0]!], only).result, { code: 'RUN_CORRUPT', message: /ranks\.jsonl/ });
    rmSync(ranks);
    const { events, comparison } = await compare([two[0]!], only);
    t.strictSame(Object.keys(workOf(events)), ['rank 2', 'pair 2', 'train M3', 'evaluate M3', 'score M3']);
    t.equal(comparison.isComplete, true);
  },
);
