import { createRequire } from 'node:module';
import t from 'tap';
import { addonPath } from '../../lib/native/binding.js';
import { bfloat16 } from '../helpers/bfloat16.js';
import { close } from '../helpers/close.js';
import { normal } from '../helpers/random.js';

type Dtype = 'float32' | 'bfloat16';
interface Ops {
  _linearRows(a: { x: Float32Array; w: Float32Array; bias?: Float32Array; k: number; dtype: Dtype }): {
    y: Float64Array;
    single: Float64Array;
  };
  _decodeAttention(a: {
    kv: Float32Array;
    qkv: Float32Array;
    groups: Int32Array;
    heads: number;
    kvHeads: number;
    headDim: number;
    window: number;
    dtype: Dtype;
  }): { out: Float64Array; reference: Float64Array };
}
const ops = createRequire(import.meta.url)(addonPath()) as Ops;

// [rows, outputs, K]: one element; primes; several tiles and a remainder of each; one row; more rows than a tile.
for (const [r, n, k] of [
  [1, 1, 1],
  [3, 7, 13],
  [5, 33, 32],
  [1, 64, 96],
  [20, 67, 160],
  [37, 129, 64],
  [16, 32, 257],
] as const) {
  for (const dtype of ['float32', 'bfloat16'] as const) {
    for (const hasBias of [false, true]) {
      const title = `[${r}, ${k}] x [${n}, ${k}]${hasBias ? ' + bias' : ''}, ${dtype}`;
      t.test(`linear_rows is the product, and a row does not see the others: ${title}`, async (t) => {
        const exact = (values: Float32Array) => (dtype === 'bfloat16' ? bfloat16(values) : values);
        const x = exact(normal(r * k, { seed: 1 }));
        const w = exact(normal(n * k, { seed: 2 }));
        const bias = exact(normal(n, { seed: 3 }));
        const expected = new Float64Array(r * n);
        for (let i = 0; i < r; i++) {
          for (let j = 0; j < n; j++) {
            let sum = hasBias ? bias[j]! : 0;
            for (let l = 0; l < k; l++) sum += x[i * k + l]! * w[j * k + l]!;
            expected[i * n + j] = sum;
          }
        }
        const { y, single } = ops._linearRows({ x, w, k, dtype, ...(hasBias ? { bias } : {}) });
        close(t, y, expected, { rtol: 1e-5, atol: 2e-5 });
        close(t, single, y, {}, 'one row at a time');
      });
    }
  }
}

const SHAPES = [
  { heads: 4, kvHeads: 4, headDim: 64, window: 0 },
  { heads: 6, kvHeads: 2, headDim: 10, window: 0 }, // GQA, width that no vector divides
  { heads: 8, kvHeads: 1, headDim: 80, window: 7 },
  { heads: 2, kvHeads: 2, headDim: 8, window: 1 },
  { heads: 6, kvHeads: 3, headDim: 16, window: 40 },
];
// (prompt, new tokens, siblings): one of each; block borders; more siblings than a task takes; long own parts.
const GROUPS = [1, 1, 1, 16, 16, 2, 17, 1, 5, 45, 31, 19, 5, 140, 3, 33, 33, 1];

for (const shape of SHAPES) {
  for (const dtype of ['float32', 'bfloat16'] as const) {
    const title = `${shape.heads}/${shape.kvHeads} heads of ${shape.headDim}, window ${shape.window}, ${dtype}`;
    t.test(`decode attention equals its float64 definition: ${title}`, async (t) => {
      let cached = 0;
      let rows = 0;
      for (let i = 0; i < GROUPS.length; i += 3) {
        cached += GROUPS[i]! + (GROUPS[i + 1]! - 1) * GROUPS[i + 2]!;
        rows += GROUPS[i + 2]!;
      }
      const { out, reference } = ops._decodeAttention({
        ...shape,
        kv: normal(cached * 2 * shape.kvHeads * shape.headDim, { seed: 4, scale: 1.5 }),
        qkv: normal(rows * (shape.heads + 2 * shape.kvHeads) * shape.headDim, { seed: 5, scale: 1.5 }),
        groups: Int32Array.from(GROUPS),
        dtype,
      });
      // Inputs are the same in both; bfloat16 rounds the output alone (2^-8).
      close(
        t,
        out,
        reference,
        dtype === 'float32' ? { rtol: 1e-5, atol: 1e-5 } : { rtol: 2 ** -7, atol: 1e-3 },
      );
    });
  }
}

t.test('with one visible token, decode attention returns its value', async (t) => {
  const [headDim, kvHeads] = [8, 2];
  const qkv = normal(3 * (4 + 2 * kvHeads) * headDim, { seed: 6 });
  const { out } = ops._decodeAttention({
    kv: normal((5 + 3 * 3) * 2 * kvHeads * headDim, { seed: 7 }),
    qkv,
    groups: Int32Array.of(5, 4, 3),
    heads: 4,
    kvHeads,
    headDim,
    window: 1,
    dtype: 'float32',
  });
  const expected: number[] = [];
  for (let row = 0; row < 3; row++) {
    for (let head = 0; head < 4; head++) {
      const value = row * 8 * headDim + (4 + kvHeads + Math.floor(head / 2)) * headDim;
      expected.push(...qkv.subarray(value, value + headDim));
    }
  }
  close(t, out, expected, { rtol: 1e-6 });
});
