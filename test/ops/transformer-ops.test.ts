import { createRequire } from 'node:module';
import t from 'tap';
import { addonPath } from '../../lib/native/binding.js';
import { close, relativeError } from '../helpers/close.js';
import { normal } from '../helpers/random.js';

interface AttentionArguments {
  qkv: Float32Array;
  segments: Int32Array;
  heads: number;
  kvHeads: number;
  headDim: number;
  window: number;
  dtype: 'float32' | 'bfloat16';
  reference: boolean;
  dOut?: Float32Array;
}
interface Ops {
  _packedAttention(a: AttentionArguments): { out: Float32Array; lse: Float32Array; dQkv?: Float32Array };
  _rmsNorm(a: object): { y: Float32Array; dx?: Float32Array; dWeight?: Float32Array };
  _swiglu(a: object): { y: Float32Array; dGateUp?: Float32Array };
  _rope(a: object): Float32Array;
}
const ops = createRequire(import.meta.url)(addonPath()) as Ops;

// (length, trunk or -1) per segment: ragged leaves, one-row segments, more than one block of 64 queries.
const PACKS = {
  'one row': [1, -1],
  'a trunk of a prime length': [67, -1],
  'groups with ragged leaves': [13, -1, 9, 0, 1, 0, 70, 0, 40, -1, 39, 4, 131, 4, 5, -1],
} as const;
const SHAPES = [
  { heads: 4, kvHeads: 4, headDim: 16, window: 0 },
  { heads: 6, kvHeads: 2, headDim: 10, window: 0 }, // GQA, width that no vector divides
  { heads: 4, kvHeads: 1, headDim: 24, window: 7 },
  { heads: 2, kvHeads: 2, headDim: 8, window: 1 },
];

function rowsOf(segments: readonly number[]): number {
  return segments.filter((_, i) => i % 2 === 0).reduce((a, b) => a + b, 0);
}

for (const [name, pack] of Object.entries(PACKS)) {
  for (const shape of SHAPES) {
    const title = `${name}, ${shape.heads}/${shape.kvHeads} heads of ${shape.headDim}, window ${shape.window}`;
    const rows = rowsOf(pack);
    const qkv = normal(rows * (shape.heads + 2 * shape.kvHeads) * shape.headDim, { seed: 5, scale: 2 });
    const base = { ...shape, qkv, segments: Int32Array.from(pack) };

    t.test(`packed attention equals softmax(q k) v in float64: ${title}`, async (t) => {
      const actual = ops._packedAttention({ ...base, dtype: 'float32', reference: false });
      const expected = ops._packedAttention({ ...base, dtype: 'float32', reference: true });
      close(t, actual.out, expected.out, { rtol: 1e-5, atol: 1e-5 }, 'out');
      close(t, actual.lse, expected.lse, { rtol: 1e-5, atol: 1e-5 }, 'log-sum-exp');

      const half = ops._packedAttention({ ...base, dtype: 'bfloat16', reference: false });
      const halfExpected = ops._packedAttention({ ...base, dtype: 'bfloat16', reference: true });
      // Both round the same bfloat16 input; only the output's rounding (2^-8) differs.
      close(t, half.out, halfExpected.out, { rtol: 2 ** -7, atol: 1e-3 }, 'bfloat16 out');
    });

    t.test(`its gradient is the reference's finite difference: ${title}`, async (t) => {
      const dOut = normal(rows * shape.heads * shape.headDim, { seed: 6 });
      const { dQkv } = ops._packedAttention({ ...base, dtype: 'float32', reference: false, dOut });
      if (dQkv === undefined) throw new Error('no gradient');
      // Central differences along three random directions of the float64 definition.
      for (const seed of [1, 2, 3]) {
        const direction = normal(qkv.length, { seed });
        const step = 1e-2;
        const value = (sign: number) => {
          const moved = qkv.map((x, i) => x + sign * step * (direction[i] as number));
          const { out } = ops._packedAttention({ ...base, qkv: moved, dtype: 'float32', reference: true });
          return out.reduce((sum, x, i) => sum + x * (dOut[i] as number), 0);
        };
        const expected = (value(1) - value(-1)) / (2 * step);
        const actual = dQkv.reduce((sum, x, i) => sum + x * (direction[i] as number), 0);
        // The third-order term of the difference at this step is below 1e-3 of the gradient's norm.
        const norm = Math.hypot(...dQkv);
        t.ok(Math.abs(actual - expected) <= 2e-3 * norm, `${actual} for ${expected}, gradient norm ${norm}`);
      }
    });
  }
}

t.test('attention of equal keys is the mean of the values seen', async (t) => {
  // One head of width 2: queries and keys zero, values 1, 2, 3, 4 in the first column.
  const rows = [1, 2, 3, 4].flatMap((v) => [0, 0, 0, 0, v, -v]);
  const shape = { heads: 1, kvHeads: 1, headDim: 2, dtype: 'float32' as const, reference: false };
  const qkv = Float32Array.from(rows);
  const causal = ops._packedAttention({ ...shape, qkv, segments: Int32Array.of(4, -1), window: 0 });
  close(t, causal.out, [1, -1, 1.5, -1.5, 2, -2, 2.5, -2.5], { atol: 1e-6 });
  const leaf = ops._packedAttention({ ...shape, qkv, segments: Int32Array.of(2, -1, 1, 0, 1, 0), window: 0 });
  close(t, leaf.out, [1, -1, 1.5, -1.5, 2, -2, 7 / 3, -7 / 3], { atol: 1e-6 }, 'a leaf sees no sibling');
  const windowed = ops._packedAttention({ ...shape, qkv, segments: Int32Array.of(4, -1), window: 2 });
  close(t, windowed.out, [1, -1, 1.5, -1.5, 2.5, -2.5, 3.5, -3.5], { atol: 1e-6 }, 'window 2');
});

for (const [rows, width] of [
  [1, 1],
  [3, 67],
  [40, 768],
] as const) {
  t.test(`rms_norm and its gradient, [${rows}, ${width}]`, async (t) => {
    const weight = normal(width, { seed: 1 }).map((w) => 1 + 0.3 * w);
    const x = normal(rows * width, { seed: 2, scale: 3 });
    const dy = normal(rows * width, { seed: 3 });
    const base = { x, weight, epsilon: 1e-5, dtype: 'float32' };
    const actual = ops._rmsNorm({ ...base, reference: false, dy });
    close(t, actual.y, ops._rmsNorm({ ...base, reference: true }).y, { rtol: 1e-5, atol: 1e-6 });
    const objective = (x: Float32Array, weight: Float32Array) => {
      let sum = 0;
      for (let r = 0; r < rows; r++) {
        let square = 0;
        for (let c = 0; c < width; c++) square += (x[r * width + c] as number) ** 2;
        const scale = 1 / Math.sqrt(square / width + 1e-5);
        for (let c = 0; c < width; c++) {
          sum += (dy[r * width + c] as number) * (x[r * width + c] as number) * scale * (weight[c] as number);
        }
      }
      return sum;
    };
    const difference = (move: (step: number, sign: number) => number) =>
      (move(1e-3, 1) - move(1e-3, -1)) / 2e-3;
    const direction = normal(rows * width, { seed: 4 });
    const alongX = difference((h, s) =>
      objective(
        x.map((v, i) => v + s * h * (direction[i] as number)),
        weight,
      ),
    );
    const alongWeight = difference((h, s) =>
      objective(
        x,
        weight.map((v, i) => v + s * h * (direction[i] as number)),
      ),
    );
    const dot = (a: Float32Array, length: number) =>
      a.slice(0, length).reduce((sum, v, i) => sum + v * (direction[i] as number), 0);
    const dx = actual.dx as Float32Array;
    const dWeight = actual.dWeight as Float32Array;
    // Moved inputs are rounded to float32: 1e-7 of |x| over a step of 1e-3.
    t.ok(Math.abs(dot(dx, dx.length) - alongX) <= 1e-3 * (Math.hypot(...dx) + 0.01), `dx: ${alongX}`);
    t.ok(
      Math.abs(dot(dWeight, width) - alongWeight) <= 1e-3 * Math.hypot(...dWeight),
      `dWeight: ${alongWeight}`,
    );
  });

  t.test(`swiglu and its gradient, [${rows}, ${width}]`, async (t) => {
    const gateUp = normal(rows * 2 * width, { seed: 2, scale: 4 });
    const dy = normal(rows * width, { seed: 3 });
    const actual = ops._swiglu({ gateUp, width, dtype: 'float32', reference: false, dy });
    const expected = ops._swiglu({ gateUp, width, dtype: 'float32', reference: true });
    close(t, actual.y, expected.y, { rtol: 1e-5, atol: 1e-6 });
    const gradient = new Float64Array(gateUp.length);
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < width; c++) {
        const [gate, up] = [r * 2 * width + c, r * 2 * width + width + c];
        const g = gateUp[gate] as number;
        const s = 1 / (1 + Math.exp(-g));
        const d = dy[r * width + c] as number;
        gradient[gate] = d * (gateUp[up] as number) * (s + g * s * (1 - s));
        gradient[up] = d * g * s;
      }
    }
    close(t, actual.dGateUp as Float32Array, gradient, { rtol: 1e-4, atol: 1e-5 }, 'gradient');
  });
}

t.test('rope rotates each pair of columns by position over theta^(2i/D)', async (t) => {
  const headDim = 6;
  const heads = 2;
  const positions = Int32Array.of(0, 1, 1000);
  const x = normal(positions.length * heads * headDim, { seed: 9 });
  const base = { heads, headDim, positions, theta: 10000 };
  const actual = ops._rope({ ...base, x, inverse: false });
  const expected = new Float64Array(x.length);
  for (let r = 0; r < positions.length; r++) {
    for (let h = 0; h < heads; h++) {
      for (let i = 0; i < headDim / 2; i++) {
        const at = (r * heads + h) * headDim + i;
        const angle = (positions[r] as number) / 10000 ** ((2 * i) / headDim);
        const [a, b] = [x[at] as number, x[at + headDim / 2] as number];
        expected[at] = a * Math.cos(angle) - b * Math.sin(angle);
        expected[at + headDim / 2] = b * Math.cos(angle) + a * Math.sin(angle);
      }
    }
  }
  // float32 angles up to 1000 are known to 6e-5.
  close(t, actual, expected, { atol: 3e-4 }, 'rotated');
  t.ok(relativeError(ops._rope({ ...base, x: actual, inverse: true }), x) < 1e-6, 'the inverse rotates back');
});
