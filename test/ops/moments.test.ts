import { createRequire } from 'node:module';
import { addonPath } from '../../lib/native/binding.js';
import { close } from '../helpers/close.js';
import { GPU, t } from '../helpers/gpu.js';
import { normal } from '../helpers/random.js';

// Moments in bfloat16, rounded by random numbers of (seed, step, element).

type Result = Record<'master' | 'weights' | 'm' | 'v' | 'gradient', Float32Array>;
const { _adamw: adamw } = createRequire(import.meta.url)(addonPath()) as { _adamw: (o: object) => Result };
const SETTINGS = {
  learningRate: 0.01,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0.1,
  gradientScale: 1,
  dtype: 'float32',
  decaySize: 0,
  step: 3,
  seed: 11,
};
const bits = (x: number) => new Uint32Array(Float32Array.of(x).buffer)[0]!;
const below = (x: number) => new Float32Array(Uint32Array.of(bits(x) & 0xffff0000).buffer)[0]!;
const above = (x: number) => new Float32Array(Uint32Array.of((bits(x) & 0xffff0000) + 0x10000).buffer)[0]!;

for (const emulated of [false, true]) {
  const device = emulated ? "the GPU's kernel" : 'the CPU';
  t.test(`a moment becomes one of its two neighbours, and their mean is the moment: ${device}`, async (t) => {
    const size = 40_000;
    const zeros = new Float32Array(size);
    const constant = (value: number) => new Float32Array(size).fill(value);
    const base = { ...SETTINGS, master: zeros, m: zeros, v: zeros, device: emulated ? GPU : 'cpu' };
    for (const gradient of [0.3, -1.7e-5]) {
      const whole = adamw({ ...base, gradient: constant(gradient) });
      const half = adamw({ ...base, gradient: constant(gradient), momentsDtype: 'bfloat16' });
      for (const key of ['m', 'v'] as const) {
        const exact = whole[key][0]!;
        const [low, high] = [below(exact), above(exact)];
        t.ok(
          half[key].every((x) => x === low || x === high),
          `${key} of ${gradient}: ${low} or ${high}`,
        );
        const mean = half[key].reduce((sum, x) => sum + x, 0) / size;
        // The mean of 40,000 draws from two points is off by less than 4 deviations of 1/400 of their distance.
        t.ok(Math.abs(mean - exact) < Math.abs(high - low) * 0.01, `${mean} for ${exact}`);
      }
      close(t, half.master, whole.master, { rtol: 1e-6 }, 'the step uses the moments before rounding');
    }
  });
}

t.test('the noise depends on seed, step and element alone', async (t) => {
  const size = 1003;
  const base = {
    ...SETTINGS,
    master: normal(size, { seed: 1 }),
    gradient: normal(size, { seed: 2, scale: 0.1 }),
    m: normal(size, { seed: 3, scale: 0.1 }),
    v: normal(size, { seed: 4, scale: 0.1 }).map((x) => x * x),
    momentsDtype: 'bfloat16',
  };
  const result = adamw(base);
  t.strictSame(adamw(base).m, result.m);
  t.notSame(adamw({ ...base, seed: 12 }).m, result.m);
  t.notSame(adamw({ ...base, step: 4 }).m, result.m);
  const { m } = adamw({ ...base, device: GPU });
  // Both sides form the moment in float32, one with a fused product: only a value at the edge may round otherwise.
  const differ = m.filter((x, i) => x !== result.m[i]).length;
  t.ok(differ <= 3, `${differ} of ${size} differ on the GPU's path`);

  // The end of the buffer as a buffer of its own, as groups of parameters are updated.
  const tail = (values: Float32Array) => values.slice(500);
  const part = adamw({
    ...base,
    first: 500,
    master: tail(base.master),
    gradient: tail(base.gradient),
    m: tail(base.m),
    v: tail(base.v),
  });
  t.strictSame(part.m, tail(result.m));
  t.strictSame(part.v, tail(result.v));
});

t.test('fifty updates of a split master are those of a float32 master, to the bit', async (t) => {
  const size = 257;
  const start: Pick<Result, 'm' | 'v' | 'master'> = {
    m: new Float32Array(size),
    v: new Float32Array(size),
    master: normal(size, { seed: 5 }),
  };
  const run = (split: boolean) => {
    let state = start;
    for (let step = 1; step <= 50; step++) {
      const gradient = normal(size, { seed: 100 + step, scale: 0.3 });
      const options = { ...SETTINGS, ...state, step, gradient, dtype: 'bfloat16', decaySize: 100 };
      const { m, v, master } = adamw({ ...options, split, device: GPU });
      state = { m, v, master };
    }
    return state;
  };
  const whole = run(false);
  t.strictSame(run(true), whole);
  t.ok(
    whole.master.some((x, i) => Math.abs(x - start.master[i]!) > 0.1),
    'they moved',
  );
});

t.test('bfloat16 gradients give the update of their values', async (t) => {
  const size = 515;
  const gradient = normal(size, { seed: 2 }).map((x) => below(x));
  const base = {
    ...SETTINGS,
    master: normal(size, { seed: 1 }),
    m: new Float32Array(size),
    v: new Float32Array(size),
    gradient,
    dtype: 'bfloat16',
    split: true,
    device: GPU,
  };
  const [half, whole] = [adamw({ ...base, gradientDtype: 'bfloat16' }), adamw(base)];
  t.strictSame(half.master, whole.master);
  t.strictSame(half.gradient, gradient, 'and are left as they are');
});
