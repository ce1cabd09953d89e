import { createRequire } from 'node:module';
import { addonPath } from '../../lib/native/binding.js';
import { close } from '../helpers/close.js';
import { bulk as t, GPU } from '../helpers/gpu.js';
import { attend, BFLOAT16, type Rows, type Shape, siblings, TOLERANCE } from '../helpers/slot-attention.js';

// Attention by a ring of bulk copies (native/cuda/kernels/decode_attention_ring.cu).

const RING = BFLOAT16('ring');
// More than a pass of blocks, all lengths about the ends of stages, idle slots and rows without one.
const RAGGED: Rows = [
  ...siblings(0, [1, 37, 16, 0, 48, 15, 17, 33, 64, 65, 2]),
  ...siblings(1, [5]),
  ...siblings(2, [-1, 3, 33]),
  ...siblings(3, [17, 2]),
  ...siblings(4, [0, -1]),
  ...siblings(5, [100, 1, 31, 32, 129, 7, 80, 16]),
];
const PROMPTS = [70, 16, 1, 33, 20, 150];

const perHead = (groups: number, headDim: number): Shape => ({ heads: groups * 2, kvHeads: 2, headDim });

for (const headDim of [64, 128]) {
  for (const groups of [1, 2, 3, 4, 5, 6, 7, 8]) {
    t.test(`rings, ${groups} heads of ${headDim} a key head`, async (t) => {
      for (const window of groups === 4 ? [0, 1, 20, 75] : [0]) {
        const { out, reference } = attend({ ...perHead(groups, headDim), window }, PROMPTS, RAGGED, RING);
        close(t, out, reference, TOLERANCE.bfloat16, `window ${window}`);
      }
    });
  }
}

t.test('groups of every number of rows', async (t) => {
  for (const groupRows of [1, 2, 3, 4, 5, 6, 7, 8]) {
    for (const window of [0, 60]) {
      const shape = { heads: 4, kvHeads: 1, headDim: 128, window };
      const { out, reference } = attend(shape, PROMPTS, RAGGED, { ...RING, groupRows });
      close(t, out, reference, TOLERANCE.bfloat16, `${groupRows} rows, window ${window}`);
    }
  }
});

t.test('a prompt that 64 rows share, and lengths up to 1025', async (t) => {
  const owns = Array.from({ length: 64 }, (_, i) => 1 + ((i * 7) % 40));
  const shape = { heads: 7, kvHeads: 1, headDim: 64 };
  const many = attend(shape, [300], siblings(0, owns), { ...RING, groupRows: 8 });
  close(t, many.out, many.reference, TOLERANCE.bfloat16, '64 rows');
  for (const window of [0, 500]) {
    const rows = [...siblings(0, [1025, 3, 512, 1024]), ...siblings(1, [1000])];
    const long = attend({ ...perHead(4, 128), window }, [1025, 15], rows, { ...RING, groupRows: 4 });
    close(t, long.out, long.reference, TOLERANCE.bfloat16, `long, window ${window}`);
  }
});

t.test('the bits of a row depend on nothing beside it', async (t) => {
  for (const window of [0, 50]) {
    const shape = { heads: 4, kvHeads: 1, headDim: 128, window };
    const width = shape.heads * shape.headDim;
    const run = (owns: number[], groupRows: number) =>
      attend(shape, [100, 40], [...siblings(0, owns), ...siblings(1, [40])], { ...RING, groupRows }).out;
    const all = run([9, 12, 48, 11, 20], 5);
    for (const [owns, groupRows] of [
      [[-1, 12, 0, 0, -1], 5],
      [[48, 12, 1, 1, 1], 5],
      [[9, 12, 48, 11, 20], 1],
      [[9, 12, 48, 11, 20], 8],
      [[-1, 12, 40, 11, 48], 3],
    ] as const) {
      const out = run([...owns], groupRows);
      for (const row of [1, 5]) {
        t.strictSame(
          out.slice(row * width, (row + 1) * width),
          all.slice(row * width, (row + 1) * width),
          `row ${row} beside ${owns.join()} in groups of ${groupRows}, to the bit`,
        );
      }
      for (const [row, own] of owns.entries()) {
        if (own <= 0) t.ok(out.slice(row * width, (row + 1) * width).every((x) => x === 0));
      }
    }
  }
});

t.test('rings and tiles agree', async (t) => {
  const shape = { heads: 8, kvHeads: 2, headDim: 128 };
  const { out } = attend(shape, PROMPTS, RAGGED, RING);
  const { out: tiles } = attend(shape, PROMPTS, RAGGED, BFLOAT16('tiles'));
  close(t, out, tiles, { rtol: 2 ** -7, atol: 4e-4 });
});

t.test('rings are refused where they cannot be', async (t) => {
  for (const [shape, dtype] of [
    [{ heads: 1, kvHeads: 1, headDim: 64 }, 'float32'],
    [{ heads: 1, kvHeads: 1, headDim: 96 }, 'bfloat16'],
    [{ heads: 9, kvHeads: 1, headDim: 64 }, 'bfloat16'],
  ] as const) {
    t.throws(() => attend(shape, [5], siblings(0, [3]), { kernel: 'ring', dtype }), {
      message:
        /rings are for compute capability 9.0 and later, bfloat16, head_dim 64 or 128 and at most 8 heads/,
    });
  }
});

const ops = createRequire(import.meta.url)(addonPath()) as {
  _loadMatrices(options: object): Uint32Array;
  _copyByRing(options: object): Uint8Array;
};

t.test(
  'matrices are loaded as PTX has it: lane l gets row l / 4, columns 2 (l % 4) and the next',
  async (t) => {
    const matrices = Uint16Array.from({ length: 256 }, (_, i) => 40_000 + 3 * i);
    for (const transposed of [false, true]) {
      const words = ops._loadMatrices({ matrices, transposed, device: GPU });
      const expected = Uint32Array.from({ length: 128 }, (_, i) => {
        const [lane, matrix] = [i >> 2, i & 3];
        const [row, column] = [lane >> 2, 2 * (lane & 3)];
        const at = (r: number, c: number) => matrices[64 * matrix + (transposed ? 8 * c + r : 8 * r + c)]!;
        return at(row, column) + 2 ** 16 * at(row, column + 1);
      });
      t.strictSame(words, expected, transposed ? 'transposed' : 'as they are');
    }
  },
);

t.test('bulk copies through a ring bring every byte', async (t) => {
  for (const length of [16, 512, 528, 1024, 4000]) {
    const bytes = Uint8Array.from({ length }, (_, i) => (7 * i + (i >> 8)) & 255);
    t.strictSame(ops._copyByRing({ bytes, fault: 0, device: GPU }), bytes, `${length} bytes`);
  }
});

if (GPU !== 'emulated') {
  // Blocks walk over several units each; the emulation does so with few.
  t.test('more groups than a GPU has places for', async (t) => {
    for (const [headDim, count, groupRows] of [
      [64, 40, 5],
      [128, 24, 8],
    ] as const) {
      const prompts = Array.from({ length: count }, (_, i) => 20 + ((i * 11) % 25));
      const rows = prompts.flatMap((_, i) =>
        siblings(
          i,
          Array.from({ length: groupRows }, (_, j) => ((i * 13 + j * 7) % 48) + 1),
        ),
      );
      const shape = { heads: 32, kvHeads: 8, headDim };
      const { out, reference } = attend(shape, prompts, rows, { ...RING, groupRows });
      close(t, out, reference, TOLERANCE.bfloat16, `heads of ${headDim}`);
      const again = attend(shape, prompts, rows, { ...RING, groupRows });
      t.equal(Buffer.from(again.out.buffer).compare(Buffer.from(out.buffer)), 0, 'the same bits again');
    }
  });
}

if (GPU === 'emulated') {
  t.test('the emulation ends what would wait for ever', async (t) => {
    const bytes = new Uint8Array(2048);
    for (const fault of [1, 2, 3, 4]) {
      t.throws(() => ops._copyByRing({ bytes, fault, device: GPU }), {
        message: fault === 4 ? /more arrivals at a barrier/ : /a wait for a phase that nobody ends/,
      });
    }
  });
}
