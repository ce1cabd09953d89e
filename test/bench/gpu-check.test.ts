import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

// ./gpu-check of a bundle: what it makes of the results of its programs, and a command that is continued.

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const require = createRequire(import.meta.url);

interface Part {
  isOk: boolean;
}
interface Accuracy {
  model: string;
  accuracy: number;
  interval: [number, number];
}
const { demoOf, rowsOf, testsOf } = require(join(ROOT, 'scripts/gpu-check-parts.cjs')) as {
  testsOf: (found: object, text: string) => Part & { failed: string[]; notRun: string[] };
  demoOf: (summaries: object, cpu: object[]) => Part & { models: object[] };
  rowsOf: (results: object) => Record<string, unknown>;
};

t.test('tests: one that failed or was not run has its name; nothing that passed is no success', async (t) => {
  const results = (...statuses: string[]) => ({
    seconds: 1,
    results: [
      { file: 'test/a.test.js', tests: statuses.map((status, i) => ({ name: `test ${i}`, status })) },
    ],
  });
  t.match(testsOf(results('ok', 'skipped'), ''), { isOk: true, passed: 1, skipped: 1, failed: [] });
  t.match(testsOf(results('ok', 'failed'), ''), { isOk: false, failed: ['test/a.test.js: test 1'] });
  t.match(testsOf(results('skipped'), ''), { isOk: false, passed: 0 });
  const late = testsOf(results('ok'), '1 tests passed\n  not run, for want of time: b.test.js c.test.js\n');
  t.match(late, { isOk: false, isWhole: false, notRun: ['b.test.js', 'c.test.js'] });
});

const run = (...accuracies: number[]): Accuracy[] =>
  accuracies.map((accuracy, i) => ({
    model: `M${i}`,
    accuracy,
    interval: [accuracy - 0.02, accuracy + 0.02],
  }));
const summary = (...accuracies: number[]) => ({
  models: run(...accuracies).map(({ model, ...sampled }) => ({ model, tasks: [{ name: 'sums', sampled }] })),
});

t.test('the demo: every accuracy lies within what the CPU gives, however its sums are rounded', async (t) => {
  const cpu = [
    { cream: run(0.35, 0.5), srlm: run(0.35, 0.1) },
    { cream: run(0.36, 0.4), srlm: run(0.36, 0.4) },
  ];
  const found = demoOf({ cream: summary(0.34, 0.45), srlm: summary(0.34, 0.09) }, cpu);
  t.match(found, { isOk: true });
  t.match(found.models[1], { method: 'cream', model: 'M1', accuracy: 0.45, cpu: [0.38, 0.52] });
  for (const accuracy of [0.32, 0.39, Number.NaN]) {
    const other = demoOf({ cream: summary(accuracy, 0.45), srlm: summary(0.34, 0.09) }, cpu);
    t.match(other, { isOk: false, models: [{ isWithin: false }, { isWithin: true }] }, `${accuracy}`);
  }
});

t.test('the CPU of the demo was measured in both formats, for all models of both methods', async (t) => {
  const file = join(ROOT, 'bench/results/demo-cpu.json');
  const cpu = JSON.parse(readFileSync(file, 'utf8')) as Record<string, Record<string, Accuracy[]>[]>;
  for (const dtype of ['float32', 'bfloat16']) {
    t.ok(cpu[dtype]!.length >= 4, `${dtype}: several roundings`);
    for (const one of cpu[dtype]!)
      for (const method of ['cream', 'srlm'])
        t.strictSame(
          one[method]!.map(({ model }) => model),
          ['M0', 'M1', 'M2', 'M3', 'M4'],
        );
    // What training from nothing and fine-tuning leave is known closely; only later models are not.
    for (const index of [0, 1]) {
      const accuracies = cpu[dtype]!.map((one) => one['cream']![index]!.accuracy);
      t.ok(Math.max(...accuracies) - Math.min(...accuracies) < 0.06, `M${index}`);
    }
  }
});

t.test('rows: what failed, what had no time, what is below what is wanted', async (t) => {
  const rows = {
    'decode-8b': { value: 30, wanted: 20 },
    'score-8b': { value: 600, wanted: 650 },
    'iteration-8b': { value: 90, wanted: 85, isLess: true },
    'train-8b': { skipped: 'does not fit' },
    'peer-generate-8b': { value: 10, ratio: 3.1, wantedRatio: 3 },
    'peer-continuous-8b': { value: 5, ratio: 1, wantedRatio: 3, slowerThan: 'peer-generate-8b' },
    'peer-train-8b': { value: 5, ratio: 1.7, wantedRatio: 1.8 },
    'head-8b': { error: 'not begun: 10 s are expected' },
  };
  t.strictSame(rowsOf({ rows }), {
    isOk: false,
    measured: Object.keys(rows).filter((name) => name !== 'train-8b' && name !== 'head-8b'),
    leftOut: ['train-8b'],
    failed: [],
    notBegun: ['head-8b'],
    belowWanted: ['score-8b', 'iteration-8b', 'peer-train-8b'],
  });
  t.match(rowsOf({ rows: { 'copy-8b': { error: 'no such thing' } } }), { isOk: false, failed: ['copy-8b'] });
});

const isBuilt = existsSync(join(ROOT, 'dist/lib/index.js'));
t.test(
  'a command continues another: rows add up, what is asked for wrongly is named',
  isBuilt ? {} : { skip: 'dist is not built' },
  async (t) => {
    const folder = t.testdir();
    const checkIn = (env: Record<string, string>, ...parameters: string[]) => {
      const script = join(ROOT, 'scripts/gpu-check.cjs');
      const common = ['--device', 'cpu', '--shape', 'tiny', '--part', 'rows'];
      return spawnSync(process.execPath, [script, ...common, ...parameters], {
        encoding: 'utf8',
        env: { ...process.env, OMP_NUM_THREADS: '1', ...env },
      });
    };
    const check = (...parameters: string[]) => checkIn({}, ...parameters);
    const [first, second] = [join(folder, 'first'), join(folder, 'second')];
    const begun = check('--row', 'adamw-8b', '--out', first);
    t.equal(begun.status, 0, begun.stdout + begun.stderr);
    const done = check('--row', 'head-8b', '--merge', first, '--out', second);
    t.equal(done.status, 0, done.stdout + done.stderr);
    t.match(done.stdout, /^head-8b +\d.*^adamw-8b +\d.*^all is well/ms);
    const { parts } = JSON.parse(readFileSync(join(second, 'check.json'), 'utf8'));
    t.strictSame(parts.rows.measured, ['head-8b', 'adamw-8b']);
    const late = check('--row', 'head-8b', '--total', '6', '--out', second);
    t.equal(late.status, 1, late.stderr);
    t.match(late.stdout, /notBegun: head-8b/);
    // A program that does not end by itself is ended, and what it left is told.
    const slow = join(folder, 'slow.mjs');
    writeFileSync(
      slow,
      "if (process.argv[1]?.endsWith('run.mjs')) await new Promise((r) => setTimeout(r, 60e3));\n",
    );
    const hung = checkIn(
      { NODE_OPTIONS: `--import ${slow}` },
      '--row',
      'head-8b',
      '--total',
      '1',
      '--out',
      second,
    );
    t.equal(hung.status, 1);
    t.match(hung.stdout, /^rows: NOT OK, 3 s$/m);
    t.match(check('--merge', folder).stderr, /--merge .*: there is no check\.json/);
    t.match(check('--part', 'row').stderr, /--part must be of build, tests, demo, rows, got row/);
  },
);
