// What a run's own sampling reaches where responses end at different lengths: its stage and its commits with untouched
// defaults, beside steps whose slots are always full.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { defaultConfig } from '../../dist/lib/cli/defaults.js';
import { Model } from '../../dist/lib/native/model.js';
import { inStream } from '../../dist/lib/run/chunks.js';
import { sampleStream } from '../../dist/lib/stages/sample.js';
import { decodeStep } from './floors.mjs';
import { idStream, settle } from './measure.mjs';
import { doesNotFit } from './plan.mjs';
import { SHAPES, sizes } from './shapes.mjs';

/** Share of the prompts with --quick; slots are full for a third of them. */
const QUICK = 0.8;

/** Numbers in [0, 1), from a linear congruential generator. */
function uniforms(seed) {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Lengths of a gamma distribution with this mean and standard deviation, in whole tokens of [1, cap]. */
export function gammaLengths({ mean, deviation, cap }, count, seed = 11) {
  const next = uniforms(seed);
  const normal = () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
  const shape = (mean / deviation) ** 2;
  const d = shape - 1 / 3; // Marsaglia and Tsang, for shapes from 1 on
  const c = 1 / Math.sqrt(9 * d);
  const one = () => {
    for (;;) {
      const x = normal();
      const v = (1 + c * x) ** 3;
      if (v > 0 && Math.log(1 - next()) < (x * x) / 2 + d - d * v + d * Math.log(v)) return d * v;
    }
  };
  return Array.from({ length: count }, () => {
    const tokens = Math.round((one() * mean) / shape);
    return Math.min(cap, Math.max(1, tokens));
  });
}

/** Length at which full slots have the mean context that slots of such lengths have: E[L^2] / E[L]. */
export function equalContext(lengths) {
  const sum = lengths.reduce((total, length) => total + length, 0);
  return Math.round(lengths.reduce((total, length) => total + length * length, 0) / sum);
}

/**
 * Tokens per second of a stage of `of` prompts, of which `prompts` are sampled: the rate while prompts wait, and what
 * beginning and the last responses cost, once.
 */
export function stageRate({ tokens, seconds, steadyTokensPerSecond, share }) {
  const all = tokens / share;
  return all / (seconds + (all - tokens) / steadyTokensPerSecond);
}

/** Tokens per second while slots are full: of the responses that ended between the first fills and the last waiting prompt. */
function steadyRate(ended, { slots, total }) {
  const first = Math.min(ended.length - 1, 2 * slots);
  const last = Math.max(first + 1, Math.min(ended.length - 1, total - slots));
  const tokens = ended.slice(first + 1, last + 1).reduce((sum, { length }) => sum + length, 0);
  return tokens / (ended[last].at - ended[first].at);
}

export async function stream(
  { shape, device, caps, quick, memory },
  { P, N, lengths: distribution, prompts: many, of, live, wanted },
) {
  const config = SHAPES[shape];
  const size = sizes(config);
  const planned = 2 * size.parameters + size.kvBytes * live * (distribution.cap + P / N);
  if (planned > 0.92 * memory.free) return doesNotFit('sampling', planned, memory);
  const { sampling } = defaultConfig();
  const prompts = Math.ceil(many * (quick ? QUICK : 1));
  const take = idStream(config.vocabSize, 17);
  const asked = (count, name) =>
    Array.from({ length: count }, (_, i) => ({ id: `${name}-${i}`, prompt: '', promptIds: [...take(P)] }));
  const drawn = gammaLengths(distribution, prompts * N);
  const model = await Model.random(config, { seed: 1n, device, dtype: 'bfloat16' });
  // Random weights end nowhere: each response ends at the length that is drawn for it, which the engine learns as late
  // as it learns of a stop token.
  const limited = {
    generate: (request) =>
      model.generate({
        ...request,
        prompts: request.prompts.map((prompt) => {
          const i = Number(prompt.id.split('-')[1]);
          return { ...prompt, maxNewTokens: drawn.slice(i * N, (i + 1) * N) };
        }),
      }),
  };
  const common = { decode: (ids) => ids.join(' '), stopIds: [], seed: 1, stream: 'iteration-2' };
  const options = { n: N, maxNewTokens: distribution.cap, temperature: 1, topP: 1, topK: 0 };
  const folder = mkdtempSync(join(tmpdir(), 'cream-stream-'));
  try {
    // Records the steps of all numbers of rows that the others use.
    const few = asked(Math.ceil(live / N), 'first');
    const fixed = equalContext(drawn);
    const full = async (maxNewTokens) => {
      const begin = performance.now();
      let tokens = 0;
      for await (const { result } of sampleStream(
        few,
        { ...options, maxNewTokens },
        { ...common, policy: model },
      ))
        for (const { ids } of result.responses) tokens += ids.length;
      await settle(device);
      return { tokens, seconds: (performance.now() - begin) / 1e3 };
    };
    await full(4);
    const reference = await full(fixed);

    const ended = [];
    const begin = performance.now();
    const slice = asked(prompts, 'prompt');
    const { results } = await inStream(
      slice,
      (missing) =>
        sampleStream(missing, options, {
          ...common,
          policy: limited,
          onResponse: ({ ids }) => ended.push({ length: ids.length, at: (performance.now() - begin) / 1e3 }),
        }),
      { folder, chunkSize: sampling.chunkSize },
    );
    await settle(device);
    const seconds = (performance.now() - begin) / 1e3;
    let count = 0;
    for await (const { responses } of results()) count += responses.length;
    if (count !== prompts * N) throw new Error(`${count} responses in place of ${prompts * N}`);

    const tokens = drawn.reduce((sum, length) => sum + length, 0);
    const steady = steadyRate(ended, { slots: live, total: count });
    const share = prompts / of;
    const value = stageRate({ tokens, seconds, steadyTokensPerSecond: steady, share });
    const fullRate = reference.tokens / reference.seconds;
    return {
      value,
      unit: 'tok/s',
      wanted: wanted && wanted * fullRate,
      seconds,
      floor: caps.flops && live / decodeStep(size, config.vocabSize, { B: live, P, T: fixed, N }, caps),
      work: { P, N, ...distribution, prompts, of, chunkSize: sampling.chunkSize, live, tokens },
      extra: {
        ratioToFullSlots: value / fullRate,
        steadyTokensPerSecond: steady,
        steadyRatio: steady / fullRate,
        sliceTokensPerSecond: tokens / seconds,
        fullSlotsTokensPerSecond: fullRate,
        fullSlotsLength: fixed,
        meanLength: tokens / count,
      },
    };
  } finally {
    model.dispose();
    rmSync(folder, { recursive: true, force: true });
  }
}
