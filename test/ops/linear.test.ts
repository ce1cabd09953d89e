import { createRequire } from 'node:module';
import t from 'tap';
import { addonPath } from '../../lib/native/binding.js';
import { bfloat16 } from '../helpers/bfloat16.js';
import { close } from '../helpers/close.js';
import { normal } from '../helpers/random.js';

// native/ops/linear.h: the products of all layers, whichever library or kernel this CPU takes for them.

type Dtype = 'float32' | 'bfloat16';
interface Products {
  y: Float32Array;
  yFloat: Float32Array;
  dx: Float32Array;
  dw: Float32Array;
  dbias: Float32Array;
}
const ops = createRequire(import.meta.url)(addonPath()) as {
  _linear(a: {
    x: Float32Array;
    w: Float32Array;
    dy: Float32Array;
    dw: Float32Array;
    dbias: Float32Array;
    k: number;
    n: number;
    dtype: Dtype;
  }): Products;
};

/** a [m, k] b [k, n], read by strides, in float64. */
function product(
  [m, k, n]: readonly [number, number, number],
  a: (row: number, inner: number) => number,
  b: (inner: number, column: number) => number,
): Float64Array {
  const sums = new Float64Array(m * n);
  for (let i = 0; i < m; i++)
    for (let l = 0; l < k; l++) {
      const left = a(i, l);
      for (let j = 0; j < n; j++) sums[i * n + j]! += left * b(l, j);
    }
  return sums;
}

// [rows, outputs, inputs]: one element; primes; rows beyond a chunk of 512, outputs and inputs beyond a tile of 64 and a
// block of 512; an odd number of each.
for (const [r, n, k] of [
  [1, 1, 1],
  [3, 7, 13],
  [67, 65, 34],
  [600, 130, 515],
] as const) {
  for (const dtype of ['float32', 'bfloat16'] as const) {
    t.test(`linear and its gradients sum in float32: [${r}, ${k}] x [${n}, ${k}], ${dtype}`, async (t) => {
      const exact = (values: Float32Array) => (dtype === 'bfloat16' ? bfloat16(values) : values);
      const [x, w] = [exact(normal(r * k, { seed: 1 })), exact(normal(n * k, { seed: 2 }))];
      const dy = exact(normal(r * n, { seed: 3 }));
      const [dw, dbias] = [normal(n * k, { seed: 4 }), normal(n, { seed: 5 })];
      const actual = ops._linear({ x, w, dy, dw, dbias, k, n, dtype });

      const y = product(
        [r, k, n],
        (i, l) => x[i * k + l]!,
        (l, j) => w[j * k + l]!,
      );
      const dx = product(
        [r, n, k],
        (i, l) => dy[i * n + l]!,
        (l, j) => w[l * k + j]!,
      );
      const byWeight = product(
        [n, r, k],
        (i, l) => dy[l * n + i]!,
        (l, j) => x[l * k + j]!,
      );
      const byBias = product(
        [1, r, n],
        () => 1,
        (l, j) => dy[l * n + j]!,
      );
      // Float32 sums of up to 600 products of size 1; what is returned in bfloat16 is rounded once, by 2^-9.
      const float = { rtol: 1e-5, atol: 2e-4 };
      const rounded = dtype === 'bfloat16' ? { rtol: 2 ** -8, atol: 2e-4 } : float;
      close(t, actual.y, y, rounded, 'y');
      close(t, actual.yFloat, y, float, 'y, float32');
      close(t, actual.dx, dx, rounded, 'dx');
      close(
        t,
        actual.dw,
        byWeight.map((sum, i) => sum + dw[i]!),
        float,
        'dw',
      );
      close(
        t,
        actual.dbias,
        byBias.map((sum, i) => sum + dbias[i]!),
        float,
        'dbias',
      );
    });
  }
}
