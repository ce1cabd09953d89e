import { createRequire } from 'node:module';
import t from 'tap';
import { addonPath } from '../../lib/native/binding.js';
import { close } from '../helpers/close.js';
import { normal } from '../helpers/random.js';

interface Update {
  master: Float32Array;
  gradient: Float32Array;
  m: Float32Array;
  v: Float32Array;
  dtype: 'float32' | 'bfloat16';
  learningRate: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  weightDecay: number;
  gradientScale: number;
  step: number;
  decaySize: number;
}
interface Updated {
  squaredNorm: number;
  moved: number;
  master: Float32Array;
  weights: Float32Array;
  m: Float32Array;
  v: Float32Array;
  gradient: Float32Array;
}
const ops = createRequire(import.meta.url)(addonPath()) as { _adamw(update: Update): Updated };

const SETTINGS = {
  learningRate: 0.01,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0.1,
  gradientScale: 0.5,
};

/** The published algorithm (Loshchilov and Hutter, algorithm 2) in float64. */
function definition(u: Update) {
  const [m, v, w] = [
    new Float64Array(u.m.length),
    new Float64Array(u.m.length),
    new Float64Array(u.m.length),
  ];
  for (let i = 0; i < w.length; i++) {
    const g = u.gradient[i]! * u.gradientScale;
    m[i] = u.beta1 * u.m[i]! + (1 - u.beta1) * g;
    v[i] = u.beta2 * u.v[i]! + (1 - u.beta2) * g * g;
    const mean = m[i]! / (1 - u.beta1 ** u.step);
    const square = v[i]! / (1 - u.beta2 ** u.step);
    const decay = i < u.decaySize ? u.learningRate * u.weightDecay : 0;
    w[i] = u.master[i]! * (1 - decay) - (u.learningRate * mean) / (Math.sqrt(square) + u.epsilon);
  }
  return { m, v, w };
}

// One element; a prime; several blocks of 65,536 with the end of the decay inside one.
for (const [size, decaySize] of [
  [1, 1],
  [127, 64],
  [200_003, 100_001],
] as const) {
  for (const step of [1, 1000]) {
    t.test(`the update is AdamW's, ${size} elements, step ${step}`, async (t) => {
      const update: Update = {
        ...SETTINGS,
        step,
        decaySize,
        dtype: 'float32',
        master: normal(size, { seed: 1 }),
        gradient: normal(size, { seed: 2, scale: 0.1 }),
        m: normal(size, { seed: 3, scale: 0.1 }),
        v: normal(size, { seed: 4, scale: 0.1 }).map((x) => x * x),
      };
      const actual = ops._adamw(update);
      const expected = definition(update);
      close(t, actual.m, expected.m, { rtol: 1e-5, atol: 1e-8 }, 'first moment');
      close(t, actual.v, expected.v, { rtol: 1e-6, atol: 1e-12 }, 'second moment');
      close(t, actual.master, expected.w, { rtol: 1e-5, atol: 1e-6 }, 'weights');
      close(t, [actual.squaredNorm], [update.gradient.reduce((sum, g) => sum + g * g, 0)], { rtol: 1e-12 });
      t.ok(
        actual.gradient.every((g) => g === 0),
        'the gradient is zero afterwards',
      );
      t.equal(actual.moved, update.master.filter((w, i) => w !== actual.master[i]).length, 'moved weights');
    });
  }
}

t.test('§6.5 bfloat16 weights follow a float32 master that small steps do move', async (t) => {
  // A step of 1e-6 is far below bfloat16's spacing of 0.0078 at 1, so the working weights wait for the master.
  let state: Omit<Update, 'step' | 'gradient'> = {
    ...SETTINGS,
    learningRate: 1e-4,
    weightDecay: 0,
    dtype: 'bfloat16',
    decaySize: 0,
    master: Float32Array.of(1, -1, 0.001, 0),
    m: new Float32Array(4),
    v: new Float32Array(4),
  };
  const moved: number[] = [];
  for (let step = 1; step <= 50; step++) {
    const after = ops._adamw({ ...state, step, gradient: Float32Array.of(1, -1, 1, 0) });
    state = { ...state, master: after.master, m: after.m, v: after.v };
    moved.push(after.moved);
    t.equal(Math.fround(after.weights[0]!), after.weights[0]!, 'a float32 value');
  }
  close(
    t,
    state.master,
    [1 - 0.005, -1 + 0.005, 0.001 - 0.005, 0],
    { atol: 1e-6 },
    'the master took 50 steps',
  );
  t.equal(moved[0], 1, 'at first only the small weight moves in bfloat16');
  t.ok(Math.max(...moved) === 3, 'then the large ones, once the master has gone half a spacing');
});

t.test('the norm of a gradient with an element that is not finite is not finite', async (t) => {
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
    const gradient = new Float32Array(70_000);
    gradient[69_999] = bad;
    const zeros = new Float32Array(70_000);
    const base = { ...SETTINGS, dtype: 'float32' as const, step: 1, decaySize: 0 };
    t.notOk(
      Number.isFinite(ops._adamw({ ...base, master: zeros, gradient, m: zeros, v: zeros }).squaredNorm),
    );
  }
});

t.test('the squares of large gradients do not overflow', async (t) => {
  const base = { ...SETTINGS, dtype: 'float32' as const, step: 1, decaySize: 0 };
  const zeros = new Float32Array(2);
  const { squaredNorm } = ops._adamw({
    ...base,
    master: zeros,
    gradient: Float32Array.of(1e30, 1e30),
    m: zeros,
    v: zeros,
  });
  close(t, [squaredNorm], [2e60], { rtol: 1e-6 });
});
