import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { whyNoGpu } from '../helpers/gpu.js';

// The GPU's bench without a GPU: its limits are the derived ones, and the program runs with a toy model.

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const FOLDER = join(ROOT, 'bench/cuda');
const BENCH = join(FOLDER, 'run.mjs');

interface Size {
  trunk: number;
  head: number;
  parameters: number;
}
interface Floors {
  ceilings: (name: string, given: object) => { flops: number; bandwidth: number };
  decodeStep: (size: Size, vocabSize: number, work: object, caps: object) => number;
  scoreFlop: (size: Size, work: object, prompts: number) => number;
  scoreFlopUnshared: Floors['scoreFlop'];
  trainFlop: (size: Size, work: object, pairs: number, options?: object) => number;
  trainFlopUnshared: Floors['trainFlop'];
  iterationFloor: (size: Size, vocabSize: number, work: object, caps: object) => Record<string, number>;
}
interface Shapes {
  SHAPES: Record<string, { vocabSize: number }>;
  sizes: (shape: object) => Size;
}

t.test(
  'the limits are those derived for an H200 in a burst: 40.8 k, 215 k, 509 k and 286 tokens a second',
  async (t) => {
    const floors = (await import(join(FOLDER, 'floors.mjs'))) as Floors;
    const { SHAPES, sizes } = (await import(join(FOLDER, 'shapes.mjs'))) as Shapes;
    const caps = floors.ceilings('NVIDIA H200', { flops: '790', bandwidth: '4.3' });
    const paper = { P: 128, T: 300, N: 5 };
    const prompts = 21_000;
    const size = sizes(SHAPES['8b']!);
    const tokensPerSecond = (shape: string, B: number, N: number) => {
      const { vocabSize } = SHAPES[shape]!;
      return B / floors.decodeStep(sizes(SHAPES[shape]!), vocabSize, { ...paper, B, N }, caps);
    };
    const parts = floors.iterationFloor(size, 128_256, { ...paper, prompts, live: 512, batch: 32 }, caps);
    // What was derived by hand, with T rows for a response of T tokens; the last token of one needs no row.
    const table: [string, number, number, number][] = [
      ['decode, 8B', tokensPerSecond('8b', 256, 5), 40_800, 0.005],
      ['decode, 8B, prompts not shared', tokensPerSecond('8b', 256, 1), 36_000, 0.02],
      ['decode, 1.24 B', tokensPerSecond('1.2b', 256, 5), 215_000, 0.005],
      ['decode, 0.5 B', tokensPerSecond('0.5b', 256, 5), 509_000, 0.005],
      ['decode, 8B, one sequence', tokensPerSecond('8b', 1, 1), 286, 0.005],
      ['score one model, s', floors.scoreFlop(size, paper, prompts) / caps.flops, 651, 0.015],
      ['prompts not shared', floors.scoreFlopUnshared(size, paper, prompts) / caps.flops, 842, 0.015],
      ['train, s', floors.trainFlop(size, paper, prompts) / caps.flops, 868, 0.015],
      ['train LoRA, s', floors.trainFlop(size, paper, prompts, { lora: true }) / caps.flops, 581, 0.02],
      ['iteration, min', Object.values(parts).reduce((a, b) => a + b) / 60, 61, 0.025],
      [
        'gain of sharing in training',
        floors.trainFlopUnshared(size, paper, 1) / floors.trainFlop(size, paper, 1),
        1.17,
        0.02,
      ],
      [
        'the same, P 512',
        floors.trainFlopUnshared(size, { P: 512, T: 300 }, 1) / floors.trainFlop(size, { P: 512, T: 300 }, 1),
        1.44,
        0.02,
      ],
    ];
    // What it sustains allows less.
    const sustained = floors.ceilings('NVIDIA H200', {});
    const step = floors.decodeStep(size, 128_256, { ...paper, B: 512 }, sustained);
    const all = floors.iterationFloor(size, 128_256, { ...paper, prompts, live: 512, batch: 32 }, sustained);
    table.push(
      ['sustained: a step at 512, ms', 1e3 * step, 14.3, 0.01],
      ['sustained: iteration, min', Object.values(all).reduce((a, b) => a + b) / 60, 71, 0.015],
    );
    for (const [what, actual, expected, tolerance] of table) {
      t.comment(`${what.padEnd(32)} ${actual.toPrecision(5).padStart(9)}  derived ${expected}`);
      t.ok(Math.abs(actual / expected - 1) <= tolerance, what, { actual, expected });
    }
  },
);

t.test('a stream has the lengths that it states, and full slots the context of its slots', async (t) => {
  const { gammaLengths, equalContext, stageRate } = (await import(join(FOLDER, 'stream.mjs'))) as {
    gammaLengths: (of: { mean: number; deviation: number; cap: number }, count: number) => number[];
    equalContext: (lengths: number[]) => number;
    stageRate: (measured: Record<string, number>) => number;
  };
  const lengths = gammaLengths({ mean: 300, deviation: 180, cap: 1e9 }, 50_000);
  const mean = lengths.reduce((sum, x) => sum + x, 0) / lengths.length;
  const deviation = Math.sqrt(lengths.reduce((sum, x) => sum + (x - mean) ** 2, 0) / lengths.length);
  t.ok(Math.abs(mean - 300) < 3, `mean ${mean}`);
  t.ok(Math.abs(deviation - 180) < 4, `deviation ${deviation}`);
  t.equal(Math.max(...gammaLengths({ mean: 300, deviation: 180, cap: 768 }, 5000)), 768);
  // A slot is as often at a token of the response of 3 as at one of the three of 1: (1 + 1 + 1 + 9) / 6.
  t.equal(equalContext([1, 1, 1, 3]), 2);
  // 100 tokens in 20 s, of which 10 are the beginning and the end; 900 more at 10 a second.
  t.equal(stageRate({ tokens: 100, seconds: 20, steadyTokensPerSecond: 10, share: 0.1 }), 1000 / 110);
});

const isBuilt = existsSync(join(ROOT, 'dist/lib/index.js'));

function bench(parameters: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [BENCH, '--shape', 'tiny', ...parameters], {
    encoding: 'utf8',
    env: { ...process.env, OMP_NUM_THREADS: '1' },
  });
  return { status, stdout, stderr };
}

const TELLING = [
  'ceilings',
  'decode-8b',
  'score-8b',
  'train-8b',
  'iteration-8b',
  'lora-8b',
  'adamw-8b',
  'swap-8b',
  'stream-8b',
];
const asRows = (names: readonly string[]) => names.flatMap((name) => ['--row', name]);

for (const device of ['cpu', 'emulated']) {
  const skip = isBuilt ? whyNoGpu(device) : 'dist is not built';
  t.test(`the bench measures its rows on the device ${device}`, skip ? { skip } : {}, async (t) => {
    const out = join(t.testdir(), 'results.json');
    const { status, stdout, stderr } = bench([
      '--device',
      device,
      '--quick',
      ...asRows(TELLING),
      '--out',
      out,
    ]);
    t.equal(status, 0, stderr);
    const { rows, ceilings } = JSON.parse(readFileSync(out, 'utf8'));
    const { burst, ...sustained } = ceilings;
    t.equal(sustained.isMeasured, true);
    t.ok(burst.flops >= sustained.flops && burst.bandwidth >= sustained.bandwidth);
    t.ok(sustained.flops > 0 && sustained.bandwidth > 0 && sustained.host > 0);
    t.ok(
      Math.abs(rows['score-8b'].floor / (sustained.flops / 1e12) - 1) < 1e-9,
      'rows are held to what was measured in the same command',
    );
    for (const name of TELLING) {
      t.match(stdout, new RegExp(`^${name} `, 'm'));
      if (name === 'swap-8b' && device === 'cpu') {
        t.match(rows[name].skipped, /nothing moves/);
      } else {
        t.ok(rows[name].value > 0, name);
        t.equal(rows[name].floor > 0, name !== 'ceilings');
      }
    }
    for (const name of ['decode-8b', 'score-8b', 'train-8b', 'lora-8b']) {
      const { total, ...parts } = rows[name].where;
      const sum = Object.values(parts as Record<string, number>).reduce((a, b) => a + b, 0);
      t.ok(Math.abs(sum / total - 1) < 1e-6, `the parts of ${name} are the whole`);
      t.ok(parts.gemm > 0 && parts.attention > 0);
      t.equal(parts.optimizer > 0, name === 'train-8b' || name === 'lora-8b');
    }
    t.ok(rows['train-8b'].extra.sharingGain > 0);
    const { extra: stream } = rows['stream-8b'];
    t.equal(stream.ratioToFullSlots, rows['stream-8b'].value / stream.fullSlotsTokensPerSecond);
    t.ok(stream.meanLength < stream.fullSlotsLength, 'long responses hold their slots for longer');
    const { work, extra } = rows['iteration-8b'];
    t.equal(work.steps, 1);
    t.equal(work.pairs, work.prompts);
    // The policy is the reference in the first step: what was generated, scored and trained on is the same.
    t.ok(Math.abs(extra.lastLoss - Math.LN2) < 0.02, `loss ${extra.lastLoss}`);
    t.equal(extra.movedSeconds > 0, device === 'emulated', 'models move through host memory');
    t.ok(extra.idleShare >= 0 && extra.idleShare < 1);
  });
}

t.test(
  'commands with a time limit add up to one file',
  isBuilt ? {} : { skip: 'dist is not built' },
  async (t) => {
    const folder = t.testdir();
    const [first, second] = [join(folder, 'first.json'), join(folder, 'second.json')];
    const common = ['--device', 'cpu', '--quick', '--no-peer', '--limit', '60'];
    const begun = bench([
      ...common,
      '--row',
      'head-8b',
      '--row',
      'decode-8b',
      '--total',
      '4.1',
      '--out',
      first,
    ]);
    t.equal(begun.status, 1, 'something is left to do');
    t.match(begun.stdout, /head-8b +failed +not begun: .*0 of 4.1 s were left/);
    const done = bench([...common, '--row', 'head-8b', '--out', first]);
    t.equal(done.status, 0, done.stderr);
    const before = JSON.parse(readFileSync(first, 'utf8'));

    const rest = bench([...common, '--merge', first, '--row', 'decode-8b', '--out', second]);
    t.equal(rest.status, 0, rest.stderr);
    const { rows } = JSON.parse(readFileSync(second, 'utf8'));
    t.same(Object.keys(rows), ['decode-8b', 'head-8b'], 'in the order of the bench');
    t.equal(rows['head-8b'].value, before.rows['head-8b'].value);
    t.equal(rows['head-8b'].date, before.date);

    writeFileSync(first, JSON.stringify({ ...before, gpu: { name: 'another' } }));
    const foreign = bench([...common, '--merge', first, '--row', 'decode-8b', '--out', second]);
    t.equal(foreign.status, 1);
    t.match(foreign.stderr, /was measured on another, not on cpu/);

    const planned = bench(['--device', 'cpu', '--schedule', '--row', 'decode-8b']);
    t.match(planned.stdout, /^decode-8b +0 +1$/m);
    t.match(bench(['--device', 'cpu', '--row', 'none']).stderr, /there is no row none/);
  },
);

t.test('what does not fit is planned, not tried', isBuilt ? {} : { skip: 'dist is not built' }, async (t) => {
  const { planStep } = (await import(join(FOLDER, 'plan.mjs'))) as {
    planStep: (context: object, step: object) => Record<string, unknown>;
  };
  const { SHAPES } = (await import(join(FOLDER, 'shapes.mjs'))) as Shapes;
  const pairs = { longest: 856, batchRows: 44 * 856, maxTokens: 8192, most: 135e9 };
  const plan = (free: number) =>
    planStep({ config: SHAPES['8b'], device: 'cuda', memory: { free, total: free } }, pairs);
  const [h200, small] = [plan(149e9), plan(24e9)];
  t.equal(h200['skipped'], undefined);
  t.ok((h200['plannedBytes'] as number) <= 135e9);
  t.ok((h200['maxTokensPerBatch'] as number) >= 4096);
  t.match(
    small['skipped'],
    /does not fit: training of all weights needs \d+\.\d GB and a reserve, and 24.0 GB are free/,
  );
  t.comment(`H200: ${JSON.stringify(h200)}`);
  t.comment(`H100 of 80 GB: ${JSON.stringify(plan(83.5e9))}`);
});

t.test('of two peers of a row the faster one is the peer', async (t) => {
  const { withRatios } = (await import(join(FOLDER, 'output.mjs'))) as {
    withRatios: (rows: object) => Record<string, { ratio: number; slowerThan?: string; wantedRatio: number }>;
  };
  const rows = {
    'decode-8b': { value: 30 },
    'peer-generate-8b': { value: 10 },
    'peer-continuous-8b': { value: 12 },
  };
  const found = withRatios(withRatios(rows));
  t.match(found['peer-generate-8b'], { ratio: 3, slowerThan: 'peer-continuous-8b', wantedRatio: 3 });
  t.match(found['peer-continuous-8b'], { ratio: 2.5, slowerThan: undefined });
});

t.test("the README's table of a GPU is that of the results that it names", async (t) => {
  const readme = readFileSync(join(ROOT, 'README.md'), 'utf8');
  const results = /\((bench\/results\/cuda-[^)]*\.json)\)/.exec(readme)![1]!;
  const { status, stdout, stderr } = spawnSync(process.execPath, [BENCH, '--readme', join(ROOT, results)], {
    encoding: 'utf8',
  });
  t.equal(status, 0, stderr);
  const table = stdout.split('\n').filter((line) => line.startsWith('|'));
  t.ok(table.length > 10);
  for (const line of table) t.ok(readme.includes(`\n${line}\n`), line);
});
