// Every row of the tables of GPU generation, scoring and training, the most telling first: its shape, its work, what is
// wanted on an H200, and how long it takes at least.
import { ceilings } from './ceilings.mjs';
import { adamwBytes, decodeStep, iterationFloor, scoreFlop, trainFlop } from './floors.mjs';
import { adamw, copy, decode, decodeAttention, head, score, swap } from './jobs.mjs';
import { iteration } from './iteration.mjs';
import { stream } from './stream.mjs';
import { train } from './train.mjs';
import { SHAPES, sizes } from './shapes.mjs';

/** Prompts of the iteration that the slice stands for. */
const ITERATION = 21_000;

/** `work`, `passes` times as often as a row does it in full and with --quick. */
const passes = (full, quick) => (isQuick) => (isQuick ? quick : full);

/** `isTiny` shrinks the work for --shape tiny. */
export function makeRows(isTiny) {
  const few = (number, small) => (isTiny ? small : number);
  const paper = isTiny ? { P: 8, T: 12, N: 5 } : { P: 128, T: 300, N: 5 };
  const long = { ...paper, P: few(512, 32) };
  const rows = {};
  const add = (name, shape, job, options, { floor, times }, variables = {}) => {
    const size = sizes(SHAPES[shape]);
    rows[name] = {
      shape,
      /** Of the environment of the row's process. */
      variables,
      run: (context) => job(context, options),
      /** Seconds at the limit of the hardware, of all that the row does. */
      floorSeconds: (caps, isQuick) =>
        times(isQuick) * floor({ size, vocabSize: SHAPES[shape].vocabSize, ...options }, caps),
    };
  };

  const decoding = {
    floor: ({ size, vocabSize, live, P, T, N }, caps) =>
      T * decodeStep(size, vocabSize, { B: live, P, T, N }, caps),
    times: passes(6, 3),
  };
  const scoring = {
    floor: ({ size, P, T, N, prompts }, caps) => scoreFlop(size, { P, T, N }, prompts) / caps.flops,
    times: passes(14, 6),
  };
  const training = {
    floor: ({ size, P, T, pairs, lora }, caps) =>
      trainFlop(size, { P, T }, pairs, { lora }) / caps.flops +
      (lora ? 0 : (adamwBytes() * size.parameters) / caps.bandwidth),
    times: passes(12, 5),
  };
  const heads = {
    floor: ({ size, rows: targets }, caps) => (2 * size.head * targets) / caps.flops,
    times: passes(5, 3),
  };
  const updates = {
    floor: ({ size }, caps) => (adamwBytes() * size.parameters) / caps.bandwidth,
    times: passes(5, 3),
  };
  const moves = { floor: ({ size }, caps) => (2 * size.parameters) / caps.host, times: passes(8, 5) };
  const streams = {
    // The stage, and full slots beside it that write a third as much.
    floor: ({ size, vocabSize, live, P, N, lengths, prompts }, caps) =>
      (1.3 * prompts * N * lengths.mean * decodeStep(size, vocabSize, { B: live, P, T: 408, N }, caps)) /
      live,
    times: passes(1, 0.85),
  };
  const slices = {
    floor: ({ size, vocabSize, ...options }, caps) => {
      const parts = iterationFloor(size, vocabSize, { ...options, batch: 32 }, caps);
      return parts.generate + parts.score + parts.train;
    },
    times: passes(1, 1),
  };
  const fixed = { floor: ({ least }) => least, times: passes(1, 1) };
  const maxTokens = few(8192, 128);
  const pairs = few(44, 3);

  add('ceilings', '8b', ceilings, { isTiny, least: 10 }, fixed);
  add('decode-8b', '8b', decode, { live: few(320, 10), ...paper, wanted: 22_000 }, decoding);
  add('score-8b', '8b', score, { ...paper, prompts: few(48, 3), wanted: 650, wantedSharing: 1.25 }, scoring);
  const step = { ...paper, pairs, maxTokens, wanted: 500, wantedPairs: 12, wantedSharing: 1.13, most: 135e9 };
  add('train-8b', '8b', train, step, training);
  // 510 of the responses of 102 prompts fit into the 512 slots of a model of this size.
  const slice = {
    ...paper,
    prompts: few(204, 6),
    chunk: few(102, 3),
    live: few(510, 15),
    of: few(ITERATION, 600),
  };
  add('iteration-8b', '8b', iteration, { ...slice, maxTokens, wanted: 85, most: 135e9 }, slices);
  // Responses of a run: mostly short of the limit, and of all lengths.
  const lengths = isTiny ? { mean: 12, deviation: 7, cap: 30 } : { mean: 300, deviation: 180, cap: 768 };
  const sampled = {
    P: paper.P,
    N: paper.N,
    lengths,
    prompts: few(500, 24),
    of: few(ITERATION, 600),
    live: few(510, 20),
  };
  add('stream-8b', '8b', stream, { ...sampled, wanted: 0.9 }, streams);
  add('decode-8b-single', '8b', decode, { ...paper, live: 1, N: 1, wanted: 200 }, decoding);
  add('head-8b', '8b', head, { rows: few(32_768, 64), wanted: 600 }, heads);
  add('adamw-8b', '8b', adamw, { wanted: 0.8 * 4.3 }, updates);
  add('lora-8b', '8b', train, { ...paper, pairs, maxTokens, lora: true }, training);
  add('decode-1.2b', '1.2b', decode, { live: few(640, 10), ...paper, wanted: 100_000 }, decoding);
  add('decode-0.5b', '0.5b', decode, { live: few(640, 10), ...paper, wanted: 200_000 }, decoding);
  const small = { ...paper, pairs: few(64, 3), maxTokens: few(16_384, 128) };
  add('train-1.2b', '1.2b', train, { ...small, wanted: 0.45 * 790 }, training);
  add('train-0.5b', '0.5b', train, { ...small, wanted: 0.35 * 790 }, training);
  add('score-8b-512', '8b', score, { ...long, prompts: few(32, 3), wanted: 650 }, scoring);
  const longStep = { ...long, pairs: few(28, 3), maxTokens, wanted: 500, wantedSharing: 1.35, most: 135e9 };
  add('train-8b-512', '8b', train, longStep, training);
  add('swap-8b', '8b', swap, {}, moves);
  // Whole groups alone: 512 slots would decode the last three of 515 responses after all others.
  add('decode-8b-510', '8b', decode, { live: few(510, 10), ...paper }, decoding);
  for (const library of ['cublas', 'cublaslt']) {
    const variables = { CREAM_BLAS: library };
    add(`decode-8b-510-${library}`, '8b', decode, { live: few(510, 10), ...paper }, decoding, variables);
  }
  const points = isTiny
    ? [{ shape: 'tiny', live: 10 }]
    : [
        { shape: '8b', live: 320 },
        { shape: '8b', live: 510 },
        { shape: '1.2b', live: 640 },
        { shape: '0.5b', live: 640 },
      ];
  const kernels = { points, ...paper, copyBytes: few(2 ** 30, 2 ** 16), count: few(200, 2), least: 2 };
  add('decode-8b-attention', '8b', decodeAttention, kernels, fixed);
  add('copy-8b', '8b', copy, {}, moves);
  add('lora-8b-40gb', '8b', train, { ...paper, pairs, maxTokens, lora: true, most: 40e9 }, training);
  return rows;
}

const generation = { against: 'decode-8b', of: (row) => row.value, wanted: 3 };
const step = { against: 'train-8b', of: (row) => row.extra.pairsPerSecond, wanted: 1.8 };

/**
 * Ours that a peer is measured against, how many times as fast is wanted, and seconds: they load, and try batch sizes. Of two
 * peers of one row the faster one is the peer.
 */
export const PEERS = {
  'peer-generate-8b': { job: 'generate', ...generation, batch: 512, seconds: 80 },
  'peer-continuous-8b': { job: 'continuous', ...generation, batch: 320, seconds: 80 },
  'peer-score-8b': {
    job: 'score',
    against: 'score-8b',
    of: (row) => row.extra.tokensPerSecond,
    wanted: 1.6,
    batch: 64,
    seconds: 30,
  },
  'peer-train-8b': { job: 'train', ...step, batch: 8, seconds: 50 },
  'peer-trl-8b': { job: 'trl', ...step, batch: 8, seconds: 150 },
};

/** What tells most for its seconds; the slowest peer comes last of all. */
const FIRST = [
  'ceilings',
  'decode-8b',
  'stream-8b',
  'decode-8b-attention',
  'score-8b',
  'train-8b',
  'decode-8b-510',
  'lora-8b',
  'decode-0.5b',
  'decode-8b-single',
  'peer-generate-8b',
  'iteration-8b',
  'peer-score-8b',
  'peer-train-8b',
  'decode-1.2b',
  'peer-continuous-8b',
];
const LAST = ['peer-trl-8b'];

/** The order in which rows are measured: peers after what they are compared with. */
export function order(rows) {
  const known = [...Object.keys(rows), ...Object.keys(PEERS)];
  const rest = known.filter((name) => !FIRST.includes(name) && !LAST.includes(name));
  return [...FIRST.filter((name) => known.includes(name)), ...rest, ...LAST];
}

/** Starting Node.js, the driver and LibTorch, and making the weights; then so much of the sustained speed. */
const START_SECONDS = 5;
const SHARE_OF_SPEED = 0.7;

/** Seconds that a row is expected to take, from the limits of the hardware; undefined where these are not known. */
export function expectedSeconds(name, rows, caps, { isQuick, isTiny }) {
  if (isTiny) return 0;
  if (Object.hasOwn(PEERS, name)) return isQuick ? 0.8 * PEERS[name].seconds : PEERS[name].seconds;
  if (!caps.flops || !caps.bandwidth) return undefined;
  const host = caps.host ?? 10e9;
  return START_SECONDS + rows[name].floorSeconds({ ...caps, host }, isQuick) / SHARE_OF_SPEED;
}
