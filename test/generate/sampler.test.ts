import { createRequire } from 'node:module';
import t from 'tap';
import { addonPath } from '../../lib/native/binding.js';
import { close } from '../helpers/close.js';
import { normal, uniform } from '../helpers/random.js';

interface Options {
  logits: Float32Array;
  vocab: number;
  temperature: number;
  topP: number;
  topK: number;
  dtype: 'float32' | 'bfloat16';
}
interface Ops {
  _sample(a: Options & { uniforms: Float32Array }): { ids: Int32Array; logprobs: Float32Array };
  _samplingDistribution(a: Options): Float64Array;
  _philox(counter: Uint32Array, key: Uint32Array): Uint32Array;
}
const ops = createRequire(import.meta.url)(addonPath()) as Ops;
const PLAIN = { temperature: 1, topP: 1, topK: 0, dtype: 'float32' } as const;

function uniforms(length: number, seed: number): Float32Array {
  const next = uniform(seed);
  // The engine's grid: 24 bits, never 0 or 1.
  return Float32Array.from({ length }, () => (Math.floor(next() * 2 ** 24) + 0.5) / 2 ** 24);
}

/** Inverse of the cumulative distribution in id order: what `_sample` promises. */
function invert(probabilities: ArrayLike<number>, u: number): number {
  let sum = 0;
  let last = 0;
  for (let id = 0; id < probabilities.length; id++) {
    if (probabilities[id] === 0) continue;
    sum += probabilities[id]!;
    last = id;
    if (sum > u) return id;
  }
  return last;
}

function logSoftmax(logits: ArrayLike<number>): Float64Array {
  const values = Float64Array.from(logits);
  const max = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const lse = max + Math.log(values.reduce((sum, x) => sum + Math.exp(x - max), 0));
  return values.map((x) => x - lse);
}

t.test('philox gives the published answers of Philox4x32-10', async (t) => {
  // Known-answer vectors of Random123.
  const ones = 0xffffffff;
  const cases = [
    [
      [0, 0, 0, 0],
      [0, 0],
      [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    ],
    [
      [ones, ones, ones, ones],
      [ones, ones],
      [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    ],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ] as const;
  for (const [counter, key, expected] of cases) {
    t.same([...ops._philox(Uint32Array.from(counter), Uint32Array.from(key))], expected);
  }
});

t.test('the reference distribution is right where the answer is known', async (t) => {
  const logits = Float32Array.from([0.4, 0.3, 0.2, 0.1].map(Math.log));
  const expect = (options: Partial<Options>, expected: number[]) =>
    close(t, ops._samplingDistribution({ ...PLAIN, logits, vocab: 4, ...options }), expected, { atol: 1e-6 });
  expect({}, [0.4, 0.3, 0.2, 0.1]);
  expect({ temperature: 0 }, [1, 0, 0, 0]);
  expect({ temperature: 0.5 }, [16 / 30, 9 / 30, 4 / 30, 1 / 30]);
  expect({ topK: 2 }, [4 / 7, 3 / 7, 0, 0]);
  expect({ topP: 0.65 }, [4 / 7, 3 / 7, 0, 0]); // the token that crosses is kept
  expect({ topP: 0.75 }, [4 / 9, 3 / 9, 2 / 9, 0]);
  expect({ topP: 0.5, topK: 2 }, [1, 0, 0, 0]); // topP counts what topK left: 4/7 >= 0.5
  expect({ topP: 1e-6 }, [1, 0, 0, 0]);
});

const SETTINGS = [
  { temperature: 1, topP: 1, topK: 0 },
  { temperature: 0.8, topP: 0.95, topK: 0 },
  { temperature: 1.5, topP: 0.5, topK: 0 },
  { temperature: 0.7, topP: 1, topK: 17 },
  { temperature: 1.2, topP: 0.9, topK: 40 },
];
// One token, fewer than a vector, a prime above one block, and many blocks; scales from flat to peaked.
const SHAPES = [
  [1, 1],
  [13, 1],
  [257, 3],
  [1009, 0.05],
  [20011, 4],
] as const;

for (const settings of SETTINGS) {
  for (const [vocab, scale] of SHAPES) {
    for (const dtype of ['float32', 'bfloat16'] as const) {
      const name = `${JSON.stringify(settings)}, vocabulary ${vocab}, logits x ${scale}, ${dtype}`;
      t.test(`every draw inverts the reference distribution: ${name}`, async (t) => {
        const options = { ...settings, logits: normal(vocab, { seed: 11, scale }), vocab, dtype };
        const probabilities = ops._samplingDistribution(options);
        const us = uniforms(400, 5);
        const { ids } = ops._sample({ ...options, uniforms: us });
        let mismatches = 0;
        us.forEach((u, i) => {
          if (ids[i] !== invert(probabilities, u)) mismatches++;
        });
        // Only where u falls within float32 rounding of a boundary may the neighbour be taken.
        t.ok(mismatches <= 2, 'draws agree', { mismatches });
        t.ok(
          ids.every((id) => probabilities[id]! > 0),
          'only kept tokens are drawn',
        );
      });
    }
  }
}

t.test('frequencies of 200,000 draws pass a chi-square test', async (t) => {
  for (const [seed, settings] of SETTINGS.entries()) {
    const options = {
      ...settings,
      logits: normal(50, { seed: 3, scale: 1.5 }),
      vocab: 50,
      dtype: 'float32' as const,
    };
    const probabilities = ops._samplingDistribution(options);
    const draws = 200_000;
    const counts = new Float64Array(50);
    for (const id of ops._sample({ ...options, uniforms: uniforms(draws, 100 + seed) }).ids) counts[id]!++;
    let statistic = 0;
    let cells = 0;
    let strays = 0; // draws of a cut token
    for (const [id, p] of probabilities.entries()) {
      if (p === 0) {
        strays += counts[id]!;
        continue;
      }
      statistic += (counts[id]! - draws * p) ** 2 / (draws * p);
      cells++;
    }
    t.equal(strays, 0, 'a cut token is never drawn');
    // Wilson-Hilferty: the cube root of chi-square over its degrees is nearly normal; 4 deviations.
    const degrees = cells - 1;
    const z = (Math.cbrt(statistic / degrees) - (1 - 2 / (9 * degrees))) / Math.sqrt(2 / (9 * degrees));
    t.ok(Math.abs(z) < 4, 'chi-square', { settings, statistic, degrees, z });
  }
});

t.test('log-probs are those of temperature 1 without truncation', async (t) => {
  for (const settings of [...SETTINGS, { temperature: 0, topP: 1, topK: 0 }]) {
    const logits = normal(5003, { seed: 8, scale: 6 });
    const { ids, logprobs } = ops._sample({
      ...settings,
      logits,
      vocab: 5003,
      dtype: 'float32',
      uniforms: uniforms(50, 2),
    });
    const expected = logSoftmax(logits);
    close(
      t,
      logprobs,
      Array.from(ids, (id) => expected[id]!),
      { rtol: 1e-6, atol: 2e-6 },
    );
  }
});

t.test('equal logits: lower ids come first', async (t) => {
  const drawn = (values: number[], options: Partial<Options>) => {
    const logits = Float32Array.from(values);
    const { ids } = ops._sample({
      ...PLAIN,
      ...options,
      logits,
      vocab: logits.length,
      uniforms: uniforms(2000, 1),
    });
    return [...new Set(ids)].toSorted((a, b) => a - b);
  };
  t.same(drawn([1, 3, 3, 2, 3], { temperature: 0 }), [1], 'greedy');
  const flat = new Array<number>(40).fill(0.5);
  t.same(drawn(flat, { topK: 3 }), [0, 1, 2], 'top-k');
  t.same(drawn(flat, { topP: 0.06 }), [0, 1, 2], 'top-p: 3 of 40 reach 0.06');
  t.same(drawn([0, 2, 0, 0, 2, 0], { topK: 3 }), [0, 1, 4], 'top-k with a tie at the cut');
  t.same(drawn(flat, { topK: 8, topP: 0.5 }), [0, 1, 2, 3], 'top-p among the ties that top-k left');
});

t.test('minus infinity is never drawn, and one finite logit is always', async (t) => {
  const logits = new Float32Array(100).fill(-Infinity);
  logits[37] = -50;
  for (const settings of SETTINGS) {
    const { ids, logprobs } = ops._sample({
      ...PLAIN,
      ...settings,
      logits,
      vocab: 100,
      uniforms: uniforms(64, 4),
    });
    t.ok(ids.every((id) => id === 37) && logprobs.every((x) => x === 0), JSON.stringify(settings));
  }
});

t.test('large and far apart logits stay exact', async (t) => {
  const logits = Float32Array.of(1e30, -1e30, 3e38, 0);
  const { ids, logprobs } = ops._sample({ ...PLAIN, topP: 0.9, logits, vocab: 4, uniforms: uniforms(10, 4) });
  t.ok(ids.every((id) => id === 2) && logprobs.every((x) => x === 0));
});

t.test('logits without a finite maximum are refused by row', async (t) => {
  for (const bad of [Number.NaN, Infinity]) {
    for (const temperature of [0, 1]) {
      const logits = normal(3 * 70, { seed: 1 });
      logits[70 + 69] = bad;
      t.throws(() => ops._sample({ ...PLAIN, temperature, logits, vocab: 70, uniforms: uniforms(3, 1) }), {
        message: /logits of row 1 are not finite/,
      });
    }
  }
  const logits = new Float32Array(5).fill(-Infinity);
  t.throws(() => ops._sample({ ...PLAIN, logits, vocab: 5, uniforms: uniforms(1, 1) }), {
    message: /not finite/,
  });
});

t.test('options outside of their range are refused with their value', async (t) => {
  const logits = new Float32Array(4);
  const refuse = (options: Partial<Options>, message: RegExp) =>
    t.throws(() => ops._sample({ ...PLAIN, ...options, logits, vocab: 4, uniforms: uniforms(1, 1) }), {
      message,
    });
  refuse({ temperature: -0.5 }, /temperature must be .* got -0\.5/);
  refuse({ temperature: Number.NaN }, /temperature must be .* got nan/);
  refuse({ topP: 0 }, /topP must be in \(0, 1\], got 0/);
  refuse({ topP: 1.5 }, /topP must be in \(0, 1\], got 1\.5/);
  refuse({ topK: -1 }, /topK must be >= 0 .* got -1/);
});
