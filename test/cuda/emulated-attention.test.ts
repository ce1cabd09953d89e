import { createRequire } from 'node:module';
import { addonPath } from '../../lib/native/binding.js';
import { close, closeInNorm } from '../helpers/close.js';
import { GPU, t } from '../helpers/gpu.js';
import { normal } from '../helpers/random.js';

// Packed attention on the GPU's path: index tables, the prompt's keys repeated for each sibling, their gradients summed.
// The call of LibTorch's flash kernels is replaced by the plain kernel of the same contract, which runs on the CPU by
// emulation; both are called through the same tables.

type Result = Record<'out' | 'lse' | 'dQkv', Float32Array>;
const { _packedAttention } = createRequire(import.meta.url)(addonPath()) as {
  _packedAttention: (options: object) => Result;
};

// The flash kernels round the probabilities and their gradients to bfloat16 before they multiply by them.
const NEAR = GPU === 'emulated' ? 2 ** -7 : 2 ** -6;

// tap's own comparison takes seconds for a million numbers.
const sameBits = (a: Float32Array, b: Float32Array) =>
  Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(Buffer.from(b.buffer, b.byteOffset, b.byteLength));

/**
 * How far two float32 computations of one formula may be apart, |difference| / |value| of the whole vectors. Numbers in q
 * and k are of size s = 2, so a score is a sum of n = headDim products of size s^2. Partial sums grow to s^2 sqrt(i), and
 * each addition rounds by up to u = 2^-24 of that: as a random walk s^2 n / sqrt(2) u in all, scaled by 1 / sqrt(n). A
 * weight, exp of the score, is off by as much, relative to itself; a sum of `terms` weighted vectors is rounded by
 * sqrt(terms / 2) u in the same way. An absolute bound for single elements would ask the more of a head the wider it is,
 * and a gradient that cancels to nothing has no relative error.
 */
function spread(headDim: number, terms: number): number {
  const [u, s] = [2 ** -24, 2];
  return u * (s * s * Math.sqrt(headDim / 2) + Math.sqrt(terms / 2));
}

// (length, trunk or -1) per segment.
const PACKS = {
  'one row': [1, -1],
  'a trunk of a prime length': [67, -1],
  'trunks without leaves': [5, -1, 33, -1, 1, -1],
  'groups with ragged leaves': [13, -1, 9, 0, 1, 0, 40, 0, 20, -1, 19, 4, 35, 4, 5, -1],
} as const;
const SHAPES = [
  { heads: 2, kvHeads: 2, headDim: 16, window: 0 },
  { heads: 6, kvHeads: 2, headDim: 10, window: 0 }, // GQA, width that no vector divides
  { heads: 2, kvHeads: 1, headDim: 40, window: 7 }, // more columns than a warp has lanes
  { heads: 2, kvHeads: 2, headDim: 8, window: 1 },
];

// Llama's and Qwen's heads over several blocks of a flash kernel; the emulation would take minutes for them.
const LONG = { 'long groups': [130, -1, 300, 0, 257, 0, 1, 0, 129, -1] } as const;
const WIDE = [
  { heads: 8, kvHeads: 2, headDim: 128, window: 0 },
  { heads: 4, kvHeads: 4, headDim: 64, window: 100 },
  { heads: 7, kvHeads: 1, headDim: 256, window: 0 },
];

for (const [name, pack] of Object.entries({ ...PACKS, ...(GPU === 'cuda' ? LONG : {}) })) {
  for (const shape of [...SHAPES, ...(GPU === 'cuda' ? WIDE : [])]) {
    const title = `${name}, ${shape.heads}/${shape.kvHeads} heads of ${shape.headDim}, window ${shape.window}`;
    const rows = pack.reduce((sum: number, length, i) => sum + (i % 2 === 0 ? length : 0), 0);
    const qkv = normal(rows * (shape.heads + 2 * shape.kvHeads) * shape.headDim, { seed: 5, scale: 2 });
    const dOut = normal(rows * shape.heads * shape.headDim, { seed: 6 });
    const base = { ...shape, qkv, dOut, segments: Int32Array.from(pack) };

    t.test(`attention by tables equals the definition and the CPU's gradient: ${title}`, async (t) => {
      const actual = _packedAttention({ ...base, dtype: 'float32', device: GPU });
      const { out, lse } = _packedAttention({ ...base, dtype: 'float32', reference: true });
      closeInNorm(t, actual.out, out, spread(shape.headDim, rows), 'out');
      close(t, actual.lse, lse, { rtol: 1e-5, atol: 1e-5 }, 'log-sum-exp');
      const { dQkv } = _packedAttention({ ...base, dtype: 'float32' });
      // Twice, for the CPU's is float32 too.
      const seen = (rows * shape.heads) / shape.kvHeads;
      closeInNorm(t, actual.dQkv, dQkv, 2 * spread(shape.headDim, seen), 'gradient');
      const again = _packedAttention({ ...base, dtype: 'float32', device: GPU });
      t.ok(sameBits(again.dQkv, actual.dQkv), 'and again, to the bit');

      const half = _packedAttention({ ...base, dtype: 'bfloat16', device: GPU });
      const halfCpu = _packedAttention({ ...base, dtype: 'bfloat16' });
      closeInNorm(t, half.out, halfCpu.out, NEAR, 'bfloat16 out');
      closeInNorm(t, half.lse, halfCpu.lse, 1e-3, 'bfloat16 log-sum-exp');
      // A sibling's part of a prompt's gradient is rounded before the float32 sum, as the flash kernels do.
      closeInNorm(t, half.dQkv, halfCpu.dQkv, NEAR, 'bfloat16 gradient');
    });
  }
}

t.test('the gradient is the finite difference of the definition', async (t) => {
  const shape = {
    heads: 4,
    kvHeads: 2,
    headDim: 8,
    window: 0,
    segments: Int32Array.of(6, -1, 4, 0, 5, 0, 3, -1),
  };
  const qkv = normal(18 * 8 * 8, { seed: 1 });
  const dOut = normal(18 * 4 * 8, { seed: 2 });
  const { dQkv } = _packedAttention({ ...shape, qkv, dOut, dtype: 'float32', device: GPU });
  for (const seed of [3, 4, 5]) {
    const direction = normal(qkv.length, { seed });
    const step = 1e-2;
    const value = (sign: number) => {
      const moved = qkv.map((x, i) => x + sign * step * direction[i]!);
      const { out } = _packedAttention({ ...shape, qkv: moved, dtype: 'float32', reference: true });
      return out.reduce((sum, x, i) => sum + x * dOut[i]!, 0);
    };
    const expected = (value(1) - value(-1)) / (2 * step);
    const actual = dQkv.reduce((sum, x, i) => sum + x * direction[i]!, 0);
    t.ok(Math.abs(actual - expected) <= 1e-3 * Math.hypot(...dQkv), `${actual} for ${expected}`);
  }
});

t.test('heads that no kernel has are refused', async (t) => {
  const shape = { heads: 1, kvHeads: 1, headDim: 264, window: 0, segments: Int32Array.of(1, -1) };
  const qkv = normal(3 * 264, { seed: 1 });
  t.throws(() => _packedAttention({ ...shape, qkv, dtype: 'float32', device: GPU }), /at most 256 columns/);
});
