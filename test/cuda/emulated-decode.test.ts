import { createRequire } from 'node:module';
import { addonPath } from '../../lib/native/binding.js';
import { close } from '../helpers/close.js';
import { GPU, t } from '../helpers/gpu.js';
import { normal } from '../helpers/random.js';
import { attend, BFLOAT16, type Rows, type Shape, siblings, TOLERANCE } from '../helpers/slot-attention.js';

const ops = createRequire(import.meta.url)(addonPath()) as {
  _multiplyTiles(options: object): Float64Array;
};

// Ragged prompts and responses, an idle slot, a row without a slot, a prompt of one token.
const RAGGED: Rows = [
  ...siblings(0, [1, 37, 16, 0, 48]),
  ...siblings(1, [5]),
  ...siblings(2, [-1, 3, 33]),
  ...siblings(3, [17, 2]),
];
const PROMPTS = [70, 16, 1, 33];

const SHAPES: Record<string, Shape> = {
  'one head': { heads: 1, kvHeads: 1, headDim: 64 },
  'a key head for each head': { heads: 3, kvHeads: 3, headDim: 32 },
  'four heads a key head': { heads: 8, kvHeads: 2, headDim: 128 },
  'seven heads a key head': { heads: 14, kvHeads: 2, headDim: 64 },
  'eight heads a key head': { heads: 8, kvHeads: 1, headDim: 96 },
};
const MORE: Record<string, Shape> = {
  'heads of 80': { heads: 4, kvHeads: 1, headDim: 80 },
  'heads of 6, which no vector divides': { heads: 4, kvHeads: 2, headDim: 6 },
  'heads of 256': { heads: 2, kvHeads: 1, headDim: 256 },
};

const FLOAT32 = { kernel: 'auto', dtype: 'float32' } as const;

for (const [name, shape, all] of [
  ...Object.entries(SHAPES).map((item) => [...item, [BFLOAT16('plain'), BFLOAT16('tiles')]] as const),
  ...Object.entries(MORE).map((item) => [...item, [BFLOAT16('auto'), FLOAT32]] as const),
]) {
  for (const options of all) {
    t.test(`attention in slots, ${name}, ${options.dtype}, ${options.kernel}`, async (t) => {
      for (const [window, sizes] of [
        [0, {}],
        [20, { pieceTokens: 32, itemRows: 2 }],
        [1, {}],
      ] as const) {
        const { out, reference } = attend({ ...shape, window }, PROMPTS, RAGGED, { ...options, ...sizes });
        close(t, out, reference, TOLERANCE[options.dtype], `window ${window}`);
      }
    });
  }
}

for (const [name, shape, count] of [
  ['20 queries: two tiles', { heads: 4, kvHeads: 1, headDim: 128 }, 5],
  ['42 queries: three tiles', { heads: 7, kvHeads: 1, headDim: 64 }, 6],
  ['56 queries: four tiles', { heads: 8, kvHeads: 1, headDim: 32 }, 7],
  ['150 queries: more than a pass', { heads: 6, kvHeads: 2, headDim: 96 }, 50],
] as const) {
  t.test(`a prompt that many rows share, ${name}`, async (t) => {
    const rows = siblings(
      0,
      Array.from({ length: count }, (_, i) => 1 + ((i * 7) % 20)),
    );
    for (const window of [0, 60]) {
      const { out, reference } = attend({ ...shape, window }, [130], rows, {
        kernel: 'tiles',
        dtype: 'bfloat16',
      });
      close(t, out, reference, TOLERANCE.bfloat16, `window ${window}`);
    }
  });
}

t.test('what a row gets does not depend on the rows beside it', async (t) => {
  const shape = { heads: 4, kvHeads: 1, headDim: 64 };
  const width = shape.heads * shape.headDim;
  for (const kernel of ['plain', 'tiles'] as const) {
    const rows = (owns: number[]) => [...siblings(0, owns), ...siblings(1, [30])];
    const { out: all } = attend(shape, [100, 40], rows([9, 12, 7, 11, 20]), BFLOAT16(kernel));
    const { out: few } = attend(shape, [100, 40], rows([-1, 12, 0, 0, -1]), BFLOAT16(kernel));
    for (const row of [1, 5]) {
      const of = (out: Float64Array) => out.slice(row * width, (row + 1) * width);
      t.strictSame(of(few), of(all), `${kernel}: row ${row}, to the bit`);
    }
    t.ok(
      few.slice(2 * width, 5 * width).every((x) => x === 0),
      `${kernel}: zeros without a response`,
    );
  }
});

t.test('tiles are refused where they cannot be', async (t) => {
  const rows = siblings(0, [3]);
  t.throws(
    () => attend({ heads: 1, kvHeads: 1, headDim: 64 }, [5], rows, { kernel: 'tiles', dtype: 'float32' }),
    { message: /bfloat16 and head_dim 32, 64, 96 or 128, not for float32 and 64/ },
  );
  t.throws(
    () => attend({ heads: 1, kvHeads: 1, headDim: 48 }, [5], rows, { kernel: 'tiles', dtype: 'bfloat16' }),
    { message: /not for bfloat16 and 48/ },
  );
});

t.test('a product of tiles is a matrix product', async (t) => {
  const toBfloat16 = (x: number) => {
    const bits = new Uint32Array(Float32Array.of(x).buffer)[0]!;
    return new Float32Array(Uint32Array.of((bits + 0x7fff + ((bits >>> 16) & 1)) & 0xffff0000).buffer)[0]!;
  };
  const a = normal(256, { seed: 3 }).map(toBfloat16);
  const b = normal(128, { seed: 4 }).map(toBfloat16);
  const d = normal(128, { seed: 5 });
  const expected = d.map((x, i) => {
    const [row, column] = [i >> 3, i & 7];
    let sum = x;
    for (let k = 0; k < 16; k++) sum += a[row * 16 + k]! * b[k * 8 + column]!;
    return sum;
  });
  close(t, ops._multiplyTiles({ a, b, d, dtype: 'float32', device: GPU }), expected, {
    rtol: 1e-5, // tensor cores cut off what is small beside the largest of the summed products
    atol: 1e-5,
  });
});
