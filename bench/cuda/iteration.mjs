// One per cent of an iteration, run in one process as a run does: its Models and its stages, without its files.
import { mkdtempSync, rmSync } from 'node:fs';
import { freemem, tmpdir } from 'node:os';
import { join } from 'node:path';
import { defaultConfig } from '../../dist/lib/cli/defaults.js';
import { Model } from '../../dist/lib/native/model.js';
import { Models } from '../../dist/lib/run/models.js';
import { pair } from '../../dist/lib/stages/pair.js';
import { rank } from '../../dist/lib/stages/rank.js';
import { sample } from '../../dist/lib/stages/sample.js';
import { score, withRewards } from '../../dist/lib/stages/score.js';
import { train } from '../../dist/lib/stages/train.js';
import { iterationFloor } from './floors.mjs';
import { binding, idStream, settle } from './measure.mjs';
import { memoryOf, planStep } from './plan.mjs';
import { SHAPES, sizes } from './shapes.mjs';
import { ADAPTER } from './train.mjs';

const BETA = 0.1;
const SEED = 1;
/** The policy, the one before it, and the base model. */
const [POLICY, PREVIOUS, BASE] = [2, 1, 0];

const { train: TRAINING, score: SCORING } = defaultConfig();

/** Adapters of two policies, trained a step apart so that they rank differently, as folders. */
async function writeAdapters(folder, config, device) {
  const base = await Model.random(config, { seed: 0n, device, dtype: 'bfloat16' });
  const take = idStream(config.vocabSize, 3);
  for (const number of [PREVIOUS, POLICY]) {
    const model = await base.addAdapter(ADAPTER, { seed: number });
    const trainer = await model.createTrainer({ seed: number });
    const [promptIds, chosenIds, rejectedIds] = [take(8), take(16), take(16)];
    await trainer.preferenceStep(
      [{ promptIds, chosenIds, rejectedIds, consistency: 1, referenceChosen: 0, referenceRejected: 0 }],
      { loss: 'sigmoid', beta: BETA, sftCoefficient: 0, learningRate: 1e-3, maxTokensPerBatch: 64 },
    );
    trainer.dispose();
    await model.save(join(folder, `M${number}`));
    model.dispose();
  }
  base.dispose();
}

/** Seconds of what is done in `work`, and those in which the device was at work. */
class Stopwatch {
  parts = {};
  #device;

  constructor(device) {
    this.#device = device;
  }

  async time(name, work) {
    await settle(this.#device);
    await binding.phases('steps');
    const begin = performance.now();
    const result = await work();
    await settle(this.#device);
    const seconds = (performance.now() - begin) / 1e3;
    const busy = (await binding.phases('off')).reduce((sum, phase) => sum + phase.seconds, 0);
    this.parts[name] = { seconds, busySeconds: busy };
    return result;
  }
}

function withResolvers() {
  const made = {};
  made.promise = new Promise((resolve) => {
    made.resolve = resolve;
  });
  return made;
}

const sum = (values) => values.reduce((total, value) => total + value, 0);

/**
 * Generates, scores under three models, ranks, pairs and trains `prompts` prompts; minutes of `of` of them. What happens once
 * an iteration (moves of weights, recording of steps, the trainer's memory, the kept policy) is timed apart and not multiplied.
 */
export async function iteration(
  { shape, device, caps, memory },
  { P, T, N, prompts, chunk, of, maxTokens, live, wanted, most },
) {
  const config = SHAPES[shape];
  const size = sizes(config);
  const longest = P + 2 * T;
  const planFor = (lora) =>
    planStep(
      { config, device, lora, memory },
      { longest, batchRows: TRAINING.batchSize * longest, maxTokens, most },
    );
  const full = planFor(undefined);
  const lora = full.skipped === undefined ? undefined : ADAPTER;
  const plan = lora === undefined ? full : planFor(ADAPTER);
  if (plan.skipped !== undefined) return plan;
  const { plannedBytes, ...settings } = plan;

  const folder = mkdtempSync(join(tmpdir(), 'cream-iteration-'));
  const models = new Models({
    directoryOf: (number) => join(folder, `M${number}`),
    load: (directory) =>
      Model.random(config, { seed: BigInt(directory.slice(-1)), device, dtype: 'bfloat16' }),
    lora,
    seed: SEED,
    // The emulated GPU has no room for idle models, so that they move as they do beside an 8B policy.
    gpuMemory:
      device === 'cpu'
        ? undefined
        : async () => (device === 'emulated' ? { free: 0, total: 1 } : memoryOf(device)),
    hostMemory: async () => freemem(),
    warn: (_, message) => process.stderr.write(`${message}\n`),
  });
  try {
    const begin = performance.now();
    if (lora !== undefined) await writeAdapters(folder, config, device);
    for (const number of [POLICY, PREVIOUS, BASE]) await models.borrow(number, async () => {});
    await models.policy(POLICY);
    await settle(device);
    const setUpSeconds = (performance.now() - begin) / 1e3;
    models.takeMovedSeconds();
    await binding.deviceMemory(device, true);

    const clock = new Stopwatch(device);
    const take = idStream(config.vocabSize, 17);
    const asked = Array.from({ length: prompts }, (_, i) => ({
      id: `prompt-${i}`,
      prompt: '',
      promptIds: [...take(P)],
    }));
    const chunks = Array.from({ length: Math.ceil(prompts / chunk) }, (_, i) =>
      asked.slice(i * chunk, (i + 1) * chunk),
    );

    const policy = await models.policy(POLICY);
    const generate = (slice, maxNewTokens) =>
      sample(
        slice,
        { n: N, maxNewTokens, temperature: 1, topP: 1, topK: 0 },
        { policy, decode: (ids) => ids.join(' '), stopIds: [], seed: SEED, stream: 'iteration-2' },
      );
    // Two equal short calls: the first one records the steps.
    const short = Math.min(T, 4);
    await clock.time('firstSteps', () => generate(chunks[0], short));
    await clock.time('sameSteps', () => generate(chunks[0], short));
    const groups = [];
    await clock.time('generate', async () => {
      for (const slice of chunks) groups.push(...(await generate(slice, T)));
    });

    const logprobs = [];
    for (const [number, name] of [
      [POLICY, 'scorePolicy'],
      [PREVIOUS, 'scorePrevious'],
      [BASE, 'scoreBase'],
    ]) {
      const ready = withResolvers();
      const done = withResolvers();
      const borrowed = models.borrow(number, async (model) => {
        ready.resolve(model);
        await done.promise;
      });
      try {
        const model = await clock.time(`bring${name.slice(5)}`, () =>
          Promise.race([ready.promise, borrowed]),
        );
        const pass = [];
        await clock.time(name, async () => {
          for (let at = 0; at < groups.length; at += chunk) {
            pass.push(...(await score(groups.slice(at, at + chunk), model, SCORING)));
          }
        });
        logprobs.push(pass);
      } finally {
        done.resolve();
        await borrowed;
      }
    }

    const chosen = await clock.time('rankAndPair', async () => {
      const judges = { policy: 'implicit', previous: 'implicit' };
      const scored = withRewards(
        groups,
        { policy: logprobs[0], previous: logprobs[1], base: logprobs[2] },
        { beta: BETA, lengthNormalize: false, judges },
      );
      const ranked = rank(scored, { metric: 'kendall', rule: 'linear' });
      const choice = { ties: 'first', weight: 'dataset', minConsistency: 0 };
      return pair(ranked, choice);
    });

    const model = await clock.time('clearIdle', () => models.policy(POLICY));
    await clock.time('keepPolicy', () => models.keepPolicy());
    const trainer = await clock.time('startTrainer', () => model.createTrainer({ seed: SEED, ...settings }));
    let steps = 0;
    const last = await clock.time('train', () =>
      train(chosen.pairs, trainer, {
        options: { ...TRAINING, ...settings },
        beta: BETA,
        dtype: 'bfloat16',
        adapter: lora,
        seed: SEED,
        stream: 'iteration-2/train',
        onStep: () => {
          steps += 1;
        },
      }),
    );
    await clock.time('endTrainer', async () => trainer.dispose());
    await clock.time('becomesNext', async () => models.becomes(POLICY + 1));
    const { peak } = await settle(device);

    const parts = clock.parts;
    parts.record = {
      seconds: Math.max(0, parts.firstSteps.seconds - parts.sameSteps.seconds),
      busySeconds: 0,
    };
    const scaling = ['generate', 'scorePolicy', 'scorePrevious', 'scoreBase', 'rankAndPair', 'train'];
    const fixed = [
      'record',
      'bringPolicy',
      'bringPrevious',
      'bringBase',
      'clearIdle',
      'keepPolicy',
      'startTrainer',
      'endTrainer',
      'becomesNext',
    ];
    const secondsOf = (names) => sum(names.map((name) => parts[name].seconds));
    const share = prompts / of;
    const minutes = (secondsOf(scaling) / share + secondsOf(fixed)) / 60;
    const busy = sum(scaling.map((name) => parts[name].busySeconds));
    const batch = TRAINING.batchSize;
    const floors =
      caps.flops &&
      iterationFloor(
        size,
        config.vocabSize,
        { P, T, N, prompts: of, live, batch, lora: lora !== undefined },
        caps,
      );
    return {
      value: minutes,
      unit: 'min',
      floor: floors && sum(Object.values(floors)) / 60,
      isLess: true,
      wanted,
      seconds: secondsOf(scaling) + secondsOf(fixed),
      peakBytes: peak,
      plannedBytes,
      work: {
        P,
        T,
        N,
        prompts,
        of,
        share,
        chunk,
        lora: lora !== undefined,
        ...(lora !== undefined && { because: full.skipped }),
        ...settings,
        steps,
        pairs: chosen.pairs.length,
        dropped: chosen.dropped.length,
        meanConsistency: chosen.meanConsistency,
      },
      extra: {
        setUpSeconds,
        movedSeconds: models.takeMovedSeconds(),
        idleShare: 1 - busy / secondsOf(scaling),
        minutes: Object.fromEntries(scaling.map((name) => [name, parts[name].seconds / share / 60])),
        floorMinutes: floors && Object.fromEntries(Object.entries(floors).map(([k, s]) => [k, s / 60])),
        idle: Object.fromEntries(
          scaling.map((name) => [name, 1 - parts[name].busySeconds / parts[name].seconds]),
        ),
        fixedSeconds: Object.fromEntries(fixed.map((name) => [name, parts[name].seconds])),
        lastLoss: last.loss,
      },
    };
  } finally {
    models.release();
    rmSync(folder, { recursive: true, force: true });
  }
}
