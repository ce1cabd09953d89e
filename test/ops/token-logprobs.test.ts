import { createRequire } from 'node:module';
import t from 'tap';
import { addonPath } from '../../lib/native/binding.js';
import { bfloat16 } from '../helpers/bfloat16.js';
import { close, closeInNorm } from '../helpers/close.js';
import { normal, uniform } from '../helpers/random.js';

interface HeadArguments {
  hidden: Float32Array;
  head: Float32Array;
  width: number;
  dtype: 'float32' | 'bfloat16';
  /** (row, token) pairs. */
  targets: Int32Array;
  chunkRows: number;
  reference: boolean;
  weights?: Float32Array;
}
interface HeadResult {
  logprobs: Float32Array;
  lse?: Float32Array;
  dHidden?: Float32Array;
  dHead?: Float32Array;
}
const ops = createRequire(import.meta.url)(addonPath()) as { _tokenLogprobs(a: HeadArguments): HeadResult };

/** One to three targets per row; every seventh row has none. */
function targetsOf(rows: number, vocab: number, seed: number): Int32Array {
  const next = uniform(seed);
  const pairs: number[] = [];
  for (let row = 0; row < rows; row++) {
    const count = rows > 6 && row % 7 === 3 ? 0 : row % 5 === 0 ? 3 : 1;
    for (let i = 0; i < count; i++) pairs.push(row, Math.floor(next() * vocab));
  }
  return Int32Array.from(pairs);
}

/** The gradients of sum_i weight_i logprob_i in float64. */
function gradients({ hidden, head, width, targets }: HeadArguments, weights: Float32Array) {
  const [rows, vocab] = [hidden.length / width, head.length / width];
  const [dHidden, dHead] = [new Float64Array(hidden.length), new Float64Array(head.length)];
  for (let row = 0; row < rows; row++) {
    const logits = Float64Array.from({ length: vocab }, (_, v) => {
      let sum = 0;
      for (let c = 0; c < width; c++) sum += hidden[row * width + c]! * head[v * width + c]!;
      return sum;
    });
    const top = logits.reduce((a, b) => Math.max(a, b));
    const total = logits.reduce((sum, x) => sum + Math.exp(x - top), 0);
    const d = new Float64Array(vocab);
    for (let i = 0; i < weights.length; i++) {
      if (targets[2 * i] !== row) continue;
      for (let v = 0; v < vocab; v++) d[v]! -= (weights[i]! * Math.exp(logits[v]! - top)) / total;
      d[targets[2 * i + 1]!]! += weights[i]!;
    }
    for (let v = 0; v < vocab; v++) {
      for (let c = 0; c < width; c++) {
        dHidden[row * width + c]! += d[v]! * head[v * width + c]!;
        dHead[v * width + c]! += d[v]! * hidden[row * width + c]!;
      }
    }
  }
  return { dHidden, dHead };
}

// [rows, vocabulary, width, rows per chunk]: one element; a vocabulary and rows that no tile divides; more than one
// chunk, tile and part of the vocabulary; an odd width, which bfloat16's tiles do not take.
const SHAPES = [
  [1, 1, 2, 512],
  [3, 257, 64, 512],
  [70, 1009, 32, 16],
  [150, 613, 34, 128],
  [37, 101, 15, 16],
] as const;

for (const [rows, vocab, width, chunkRows] of SHAPES) {
  const title = `[${rows}, ${width}] x [${vocab}, ${width}], chunks of ${chunkRows}`;
  const targets = targetsOf(rows, vocab, 3);
  const weights = normal(targets.length / 2, { seed: 4 });
  const hidden = normal(rows * width, { seed: 1 });
  const head = normal(vocab * width, { seed: 2, scale: 3 / Math.sqrt(width) });
  const base = { width, targets, chunkRows, reference: false };

  for (const dtype of ['float32', 'bfloat16'] as const) {
    const inputs =
      dtype === 'float32' ? { hidden, head } : { hidden: bfloat16(hidden), head: bfloat16(head) };

    t.test(`§6.10 token log-probs agree with their float64 definition, ${dtype}, ${title}`, async (t) => {
      const actual = ops._tokenLogprobs({ ...base, ...inputs, dtype });
      const expected = ops._tokenLogprobs({ ...base, ...inputs, dtype, reference: true });
      // float32 sums of products; only the plain path for odd widths rounds logits (up to 16) to bfloat16.
      const atol = dtype === 'bfloat16' && width % 2 === 1 ? 0.1 : 1e-5;
      close(t, actual.logprobs, expected.logprobs, { rtol: 1e-5, atol });
      t.ok(actual.logprobs.every((x) => x <= 0));
    });

    t.test(`the head's gradients are those of the definition, ${dtype}, ${title}`, async (t) => {
      const actual = ops._tokenLogprobs({ ...base, ...inputs, dtype, weights });
      const expected = gradients({ ...base, ...inputs, dtype }, weights);
      if (vocab === 1) {
        // A vocabulary of one has no gradient.
        close(t, actual.dHead!, expected.dHead, { atol: 1e-6 });
        return;
      }
      // bfloat16 rounds the gradient by the logits, and the result, to 8 bits.
      const tolerance = dtype === 'float32' ? 2e-6 : width % 2 === 1 ? 2e-2 : 5e-3;
      closeInNorm(t, actual.dHidden!, expected.dHidden, tolerance, 'by the hidden states');
      closeInNorm(t, actual.dHead!, expected.dHead, tolerance, 'by the head');
    });
  }
}

t.test('equal logits give -log V', async (t) => {
  for (const dtype of ['float32', 'bfloat16'] as const) {
    for (const vocab of [5, 1000]) {
      const { logprobs } = ops._tokenLogprobs({
        hidden: new Float32Array(6),
        head: normal(vocab * 2, { seed: 1 }),
        width: 2,
        dtype,
        targets: Int32Array.of(0, 0, 1, 1, 2, 4),
        chunkRows: 2,
        reference: false,
      });
      close(
        t,
        logprobs,
        new Float32Array(3).fill(-Math.log(vocab)),
        { rtol: 1e-6 },
        `${dtype}, V = ${vocab}`,
      );
    }
  }
});

t.test('large logits do not overflow, and the likeliest token has log-prob 0', async (t) => {
  for (const dtype of ['float32', 'bfloat16'] as const) {
    const { logprobs } = ops._tokenLogprobs({
      hidden: Float32Array.of(100, 0),
      head: Float32Array.of(100, 0, -100, 0, 0, 0),
      width: 2,
      dtype,
      targets: Int32Array.of(0, 0, 0, 1, 0, 2),
      chunkRows: 1,
      reference: false,
    });
    t.same([...logprobs], [0, -20000, -10000], dtype);
  }
});

t.test(
  'a logit that is not a number makes the log-probs of its row, and no other, not a number',
  async (t) => {
    for (const dtype of ['float32', 'bfloat16'] as const) {
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
        const { logprobs } = ops._tokenLogprobs({
          hidden: Float32Array.of(1, 1, bad, 1),
          head: normal(2 * 301, { seed: 5 }),
          width: 2,
          dtype,
          targets: Int32Array.of(0, 300, 1, 7),
          chunkRows: 8,
          reference: false,
        });
        t.ok(Number.isFinite(logprobs[0]!));
        t.notOk(Number.isFinite(logprobs[1]!));
      }
    }
  },
);

t.test('wrong targets are refused by name', async (t) => {
  const call = (targets: number[], weights?: Float32Array) =>
    ops._tokenLogprobs({
      hidden: new Float32Array(4),
      head: new Float32Array(6),
      width: 2,
      dtype: 'float32',
      targets: Int32Array.from(targets),
      chunkRows: 2,
      reference: false,
      ...(weights && { weights }),
    });
  t.throws(() => call([2, 0]), {
    code: 'INVALID_ARGUMENT',
    message: /target 0 must have a row in \[0, 2\), got 2/,
  });
  t.throws(() => call([1, 0, 0, 0]), {
    code: 'INVALID_ARGUMENT',
    message: /target 1 must have a row in \[1, 2\)/,
  });
  t.throws(() => call([0, 3]), {
    code: 'INVALID_ARGUMENT',
    message: /target 0 must be a token in \[0, 3\), got 3/,
  });
  t.throws(() => call([0, 0], new Float32Array(2)), {
    code: 'INVALID_ARGUMENT',
    message: /1 weights.*got 2/,
  });
});
