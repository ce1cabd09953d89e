import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Regime } from '../../experiment/design.js';
import { REGIMES } from '../../experiment/design.js';
import { writeReport } from '../../experiment/report.js';
import { contestantsOf, runUnit, type UnitResult } from '../../experiment/unit.js';
import { carryTrace } from '../../lib/demo/carry-trace.js';
import type { ToyTask } from '../../lib/demo/task.js';
import { validateConfig } from '../../lib/config.js';

// A whole experiment in seconds: a task of one problem, of which the writer gets every other answer wrong.

const only = { a: [1], b: [2] };
const task: ToyTask = {
  ...carryTrace,
  name: 'one sum',
  problem: () => only,
  noisyWriter: () => (_, random) => (random() < 0.5 ? '30' : random() < 0.5 ? '31' : '40'),
  maxNewTokens: 4,
  model: {
    ...carryTrace.model,
    hidden_size: 32,
    intermediate_size: 64,
    head_dim: 8,
  },
  pretraining: { steps: 60, batchSize: 32, learningRate: 1e-2 },
};
const regime: Regime = {
  name: 'tiny',
  task,
  sizes: { sft: 16, promptsPerIteration: 24, iterations: 2, evaluation: 8 },
  betas: [4],
  methods: ['srlm', 'anchor-sample', 'oracle'],
  seeds: [1, 2],
};
const read = (path: string) => JSON.parse(readFileSync(path, 'utf8')) as UnitResult;
const signal = new AbortController().signal;

t.test('every method of every regime is a valid run', async (t) => {
  for (const one of REGIMES) {
    const contestants = contestantsOf(one, '/somewhere');
    t.equal(contestants.length, one.methods.length * one.betas.length);
    for (const { config } of contestants) validateConfig(config);
    t.equal(new Set(one.seeds).size, one.seeds.length);
    t.ok(
      one.seeds.every((seed) => seed > 4),
      'seeds that were seen before are not used',
    );
  }
});

t.test('a miniature: from random weights to tables and plots, the same after an interruption', async (t) => {
  const folder = t.testdir();
  const results: UnitResult[] = [];
  for (const seed of regime.seeds) {
    const result = join(folder, `${seed}.json`);
    await runUnit({ regime, seed }, { work: join(folder, `work-${seed}`), result, signal });
    t.notOk(existsSync(join(folder, `work-${seed}`)), 'only the numbers are kept');
    results.push(read(result));
  }
  const [first] = results as [UnitResult];
  t.equal(first.missedGate, false, `M0 answers ${first.baseAccuracies.at(-1)} right`);
  t.strictSame(
    first.runs.map(({ method, status }) => [method, status]),
    regime.methods.map((method) => [method, 'finished']),
  );
  for (const { models, iterations, final } of first.runs) {
    t.strictSame(
      models.map(({ model }) => model),
      [0, 1, 2, 3],
    );
    t.equal(iterations.length, 2);
    t.ok(iterations.every(({ pairs, chosenChange }) => pairs > 0 && Number.isFinite(chosenChange)));
    t.ok(final !== null);
  }
  const [srlm, anchor, oracle] = first.runs as [
    (typeof first.runs)[number],
    (typeof first.runs)[number],
    (typeof first.runs)[number],
  ];
  t.strictSame(srlm.models.slice(0, 2), anchor.models.slice(0, 2), 'all methods start from one M1');
  t.equal(srlm.iterations[0]!.anchorTau, anchor.iterations[0]!.tau, 'at t = 1 both are against M0');
  t.equal(anchor.iterations[1]!.anchorTau, anchor.iterations[1]!.tau, 'the anchor compares with M0 always');
  t.equal(oracle.iterations[0]!.chosenRight, 1);
  t.equal(oracle.iterations[0]!.rejectedRight, 0);

  const again = join(folder, 'again.json');
  const work = join(folder, 'work-again');
  const controller = new AbortController();
  const interrupted = runUnit({ regime, seed: 1 }, { work, result: again, signal: controller.signal });
  const timer = setInterval(() => {
    if (existsSync(join(work, 'runs', 'anchor-sample-beta4', 'seed-1', 'run.json'))) controller.abort();
  }, 5);
  await t.rejects(interrupted, { code: 'ABORTED' }).finally(() => clearInterval(timer));
  t.notOk(existsSync(again));
  await runUnit({ regime, seed: 1 }, { work, result: again, signal });
  t.strictSame(read(again).runs, first.runs);

  const report = join(folder, 'report');
  await writeReport(report, { regimes: [regime], results, time: { seconds: 1 } });
  const tables = readFileSync(join(report, 'tables.md'), 'utf8');
  t.match(tables, /\| anchor-sample \| [+-]?\d\.\d{3} \|/);
  t.notMatch(tables, /NaN|undefined/);
  const svg = readFileSync(join(report, 'tiny-beta4-accuracy.svg'), 'utf8');
  t.ok(svg.startsWith('<svg ') && svg.includes('<polyline ') && svg.endsWith('</svg>\n'));
  t.notMatch(svg, /NaN|undefined|Infinity/);
});

t.test('a base model that learns nothing is reported and not used', async (t) => {
  const folder = t.testdir();
  const result = join(folder, 'result.json');
  const hopeless = { ...regime, task: { ...task, pretraining: { ...task.pretraining, steps: 1 } } };
  await runUnit({ regime: hopeless, seed: 1 }, { work: join(folder, 'work'), result, signal });
  const { missedGate, baseAccuracies, runs } = read(result);
  t.equal(missedGate, true);
  t.equal(baseAccuracies.length, 3, 'after three beginnings');
  t.strictSame(runs, []);
  await writeReport(join(folder, 'report'), { regimes: [hopeless], results: [read(result)] });
  t.notMatch(readFileSync(join(folder, 'report', 'tables.md'), 'utf8'), /NaN/);
});
