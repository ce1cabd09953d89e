import { createRequire } from 'node:module';
import type { Test } from 'tap';
import { addonPath } from '../../lib/native/binding.js';
import { close, closeInNorm } from '../helpers/close.js';
import { GPU, t } from '../helpers/gpu.js';
import { normal } from '../helpers/random.js';

// The GPU's kernels, run on the CPU by the emulation of CUDA, beside the ops of the CPU, which their own tests hold to
// float64 definitions; where an op has a plain definition, beside that as well.

type Result = Record<string, Float32Array>;
type Op = (options: object) => Result;
const ops = createRequire(import.meta.url)(addonPath()) as Record<
  '_rmsNorm' | '_rmsNormMore' | '_swiglu' | '_tokenLogprobs',
  Op
> & {
  _rope(options: object): Float32Array;
  _adamw(options: object): Result & { moved: number; squaredNorm: number };
};

const DTYPES = ['float32', 'bfloat16'] as const;
type Dtype = (typeof DTYPES)[number];
/** Both sides compute in float32 in different orders; bfloat16 then rounds to 8 bits, to neighbours at worst. */
const tolerance = (dtype: Dtype) =>
  dtype === 'float32' ? { rtol: 1e-5, atol: 1e-5 } : { rtol: 2 ** -7, atol: 1e-3 };
/** Sums over rows stay float32. */
const SUMS = { rtol: 2e-5, atol: 1e-4 };

function sameOutputs(t: Test, actual: Result, expected: Result, dtype: Dtype): void {
  t.strictSame(Object.keys(actual).sort(), Object.keys(expected).sort());
  for (const [key, values] of Object.entries(expected)) {
    close(t, actual[key]!, values, key === 'dWeight' ? SUMS : tolerance(dtype), `${dtype} ${key}`);
  }
}

// One element; a width no vector divides; widths of one warp, of one block, and that end inside an access; many rows.
for (const [rows, width] of [
  [1, 1],
  [5, 33],
  [70, 64],
  [9, 1000],
  [600, 8],
  [300, 1024],
] as const) {
  for (const dtype of DTYPES) {
    t.test(`RMSNorm and its gradient, [${rows}, ${width}] ${dtype}`, async (t) => {
      const x = normal(rows * width, { seed: 1, scale: 3 });
      const dy = normal(rows * width, { seed: 2 });
      const weight = normal(width, { seed: 3 }).map((w) => 1 + w / 4);
      const base = { x, dy, weight, epsilon: 1e-5, dtype };
      const actual = ops._rmsNorm({ ...base, device: GPU });
      sameOutputs(t, actual, ops._rmsNorm(base), dtype);
      const { y } = ops._rmsNorm({ x, weight, epsilon: 1e-5, dtype, reference: true });
      close(t, actual.y!, y!, tolerance(dtype), 'the definition');
      t.strictSame(ops._rmsNorm({ ...base, device: GPU }), actual, 'and again, to the bit');
    });
  }
}

for (const [rows, heads, headWidth] of [
  [1, 2, 3],
  [33, 5, 16],
  [7, 3, 128],
  [4, 2, 640],
] as const) {
  for (const dtype of DTYPES) {
    t.test(`residual and per-head RMSNorm, ${rows} rows of ${heads} x ${headWidth} ${dtype}`, async (t) => {
      const base = {
        x: normal(rows * heads * headWidth, { seed: 4, scale: 2 }),
        dy: normal(rows * heads * headWidth, { seed: 5 }),
        weight: normal(headWidth, { seed: 6 }),
        heads,
        epsilon: 1e-6,
        dtype,
      };
      sameOutputs(t, ops._rmsNormMore({ ...base, device: GPU }), ops._rmsNormMore(base), dtype);
    });
  }
}

for (const [rows, width] of [
  [1, 1],
  [7, 33],
  [40, 128],
] as const) {
  for (const dtype of DTYPES) {
    t.test(`SwiGLU and its gradient, [${rows}, ${width}] ${dtype}`, async (t) => {
      const base = {
        gateUp: normal(rows * 2 * width, { seed: 7, scale: 4 }),
        dy: normal(rows * width, { seed: 8 }),
        width,
        dtype,
      };
      sameOutputs(t, ops._swiglu({ ...base, device: GPU }), ops._swiglu(base), dtype);
    });
  }
}

for (const [heads, headDim] of [
  [1, 2],
  [3, 10],
  [5, 64],
] as const) {
  t.test(`RoPE forth and back, ${heads} heads of ${headDim}`, async (t) => {
    const positions = Int32Array.from([0, 1, 5, 4000, 2, 2, 77]);
    const x = normal(positions.length * heads * headDim, { seed: 9 });
    const base = { heads, headDim, positions, theta: 10000 };
    const turned = ops._rope({ ...base, x, device: GPU });
    close(t, turned, ops._rope({ ...base, x }), { rtol: 1e-6, atol: 1e-6 });
    close(
      t,
      ops._rope({ ...base, x: turned, inverse: true, device: GPU }),
      x,
      { rtol: 1e-5, atol: 1e-5 },
      'back',
    );
  });
}

// [rows, vocabulary, width, rows per chunk]
for (const [rows, vocab, width, chunkRows] of [
  [1, 1, 2, 512],
  [5, 257, 32, 2],
  [23, 1032, 16, 8],
] as const) {
  for (const dtype of DTYPES) {
    t.test(`the head, ${rows} rows of ${vocab} logits, ${chunkRows} at a time, ${dtype}`, async (t) => {
      const pairs = Array.from({ length: rows }, (_, row) =>
        row % 4 === 3
          ? []
          : row % 4 === 2
            ? [row, (row * 7) % vocab, row, vocab - 1]
            : [row, (row * 31) % vocab],
      ).flat();
      const targets = Int32Array.from(pairs);
      const base = {
        hidden: normal(rows * width, { seed: 10 }),
        head: normal(vocab * width, { seed: 11 }),
        weights: normal(targets.length / 2, { seed: 12 }),
        width,
        dtype,
        targets,
        chunkRows,
      };
      const actual = ops._tokenLogprobs({ ...base, device: GPU });
      const { logprobs } = ops._tokenLogprobs({ ...base, reference: true });
      // Logits are float32 for either type, so log-probs are exact to float32.
      close(t, actual.logprobs!, logprobs!, { rtol: 1e-5, atol: 1e-5 }, 'the definition');
      const expected = ops._tokenLogprobs(base);
      close(t, actual.lse!, expected.lse!, { rtol: 1e-5, atol: 1e-5 }, 'lse');
      for (const key of ['dHidden', 'dHead']) {
        // Of one token alone the probability is 1 and the gradient nothing.
        if (dtype === 'float32' || vocab === 1) {
          close(t, actual[key]!, expected[key]!, { rtol: 1e-4, atol: 2e-5 }, key);
        } else {
          // The gradient of each logit is rounded once, by at most 2^-9 of itself, and so is each of these sums.
          closeInNorm(t, actual[key]!, expected[key]!, 2 ** -8, key);
        }
      }
    });
  }
}

// A response of 300 tokens with logits of the size that trained models have. A step of bfloat16 between 16 and 32 is
// 0.125: with rounded logits the sum would be off by 0.3 to 0.6 nats.
t.test(
  'the head keeps logits of size 20: a sequence of 300 tokens within 0.05 nats of float64',
  async (t) => {
    const [rows, vocab, width] = [300, 512, 64];
    const base = {
      hidden: normal(rows * width, { seed: 20 }),
      head: normal(vocab * width, { seed: 21, scale: 20 / Math.sqrt(width) }),
      width,
      dtype: 'bfloat16',
      targets: Int32Array.from({ length: 2 * rows }, (_, i) => (i % 2 === 0 ? i / 2 : (i * 37) % vocab)),
      chunkRows: 128,
    };
    const sum = (values: Float32Array) => values.reduce((total, x) => total + x, 0);
    const { logprobs } = ops._tokenLogprobs({ ...base, device: GPU });
    const { logprobs: exact } = ops._tokenLogprobs({ ...base, reference: true });
    const error = Math.abs(sum(logprobs!) - sum(exact!));
    t.ok(error <= 0.05, `off by ${error} nats of ${sum(exact!)}`);
    close(t, logprobs!, exact!, { rtol: 1e-5, atol: 1e-4 }, 'and each token');
  },
);

t.test('a row of the head that is not a number says so, and only it', async (t) => {
  for (const vocab of [7, 5000]) {
    const hidden = normal(3 * 8, { seed: 30 });
    hidden[8] = Number.NaN; // of row 1: every logit is NaN
    const { logprobs, lse } = ops._tokenLogprobs({
      hidden,
      head: normal(vocab * 8, { seed: 31 }),
      width: 8,
      dtype: 'float32',
      targets: Int32Array.of(0, 1, 1, 1, 2, 1),
      chunkRows: 8,
      device: GPU,
    });
    t.strictSame([...logprobs!].map(Number.isNaN), [false, true, false], `${vocab} logits`);
    t.ok(Number.isFinite(lse![0]!) && Number.isFinite(lse![2]!));
  }
});

const ADAMW = {
  learningRate: 0.01,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0.1,
  gradientScale: 0.5,
};

for (const [size, decaySize] of [
  [1, 1],
  [1027, 500],
  [40_001, 20_003],
] as const) {
  const update = {
    ...ADAMW,
    step: 3,
    decaySize,
    master: normal(size, { seed: 1 }),
    gradient: normal(size, { seed: 2, scale: 0.1 }),
    m: normal(size, { seed: 3, scale: 0.1 }),
    v: normal(size, { seed: 4, scale: 0.1 }).map((x) => x * x),
  };
  for (const dtype of DTYPES) {
    t.test(`AdamW, ${size} ${dtype} weights`, async (t) => {
      const actual = ops._adamw({ ...update, dtype, device: GPU });
      const expected = ops._adamw({ ...update, dtype });
      for (const key of ['master', 'm', 'v'])
        close(t, actual[key]!, expected[key]!, { rtol: 1e-6, atol: 1e-7 }, key);
      t.strictSame(actual.gradient, update.gradient, 'the gradient is left as it is');
      close(t, [actual.squaredNorm], [expected.squaredNorm], { rtol: 1e-12 });
      const moved = Math.abs(actual.moved - expected.moved);
      t.ok(moved <= size / 1000, `${actual.moved} weights moved, ${expected.moved} on the CPU`);
    });
  }

  t.test(`AdamW with the master in two halves is AdamW with a whole one, ${size} weights`, async (t) => {
    const whole = ops._adamw({ ...update, dtype: 'bfloat16', device: GPU });
    const split = ops._adamw({ ...update, dtype: 'bfloat16', split: true, device: GPU });
    t.strictSame(split.master, whole.master, 'the master, to the bit');
    const ties = (i: number) => (new Uint32Array(whole.master!.buffer)[i]! & 0xffff) === 0x8000;
    const differ = [...split.weights!.keys()].filter((i) => split.weights![i] !== whole.weights![i]);
    t.strictSame(
      differ.filter((i) => !ties(i)),
      [],
      'the weights, but for ties',
    );
  });
}

t.test('the low half of a master may be anything', async (t) => {
  // Every low half around the tie, with an even and an odd high half, of either sign, and no step.
  const bits = Uint32Array.from(
    [0x3f80, 0x3f81, 0xbf80, 0xbf81].flatMap((high) =>
      [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff].map((low) => high * 65536 + low),
    ),
  );
  const master = new Float32Array(bits.buffer);
  const zeros = new Float32Array(master.length);
  const { master: after, moved } = ops._adamw({
    ...ADAMW,
    dtype: 'bfloat16',
    split: true,
    device: GPU,
    step: 1,
    decaySize: 0,
    master,
    gradient: zeros,
    m: zeros,
    v: zeros,
  });
  t.strictSame(after, master);
  t.equal(moved, 0);
});
