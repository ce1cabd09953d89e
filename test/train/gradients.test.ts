import { join } from 'node:path';
import t from 'tap';
import type {
  NativeModelConfig,
  NativePairExample,
  NativePreferenceOptions,
  NativeSftExample,
  NativeTensor,
  NativeTrainer,
} from '../../lib/native/binding.js';
import { closeInNorm } from '../helpers/close.js';
import { normal } from '../helpers/random.js';
import {
  binding,
  EVERYTHING,
  genericTensors,
  ids,
  modelFrom,
  randomIds,
  TIED,
} from '../helpers/tiny-model.js';

// The gradient of a whole step (embedding to loss) is compared with central differences of the step's own loss, along
// a direction per parameter tensor. The loss itself is checked against transformers in test/model/golden.test.ts.

const OPTIMIZER = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0, maxGradNorm: 0, seed: 0n };
const LARGE = 1 << 20;
// Small enough for the curvature of the embedding, large enough for float32 losses.
const STEP = 0.006;

const SFT: NativeSftExample[] = [
  { promptIds: ids(1, 5, 9), responseIds: ids(7, 3, 11, 2) },
  { promptIds: ids(4), responseIds: ids(8) },
  { promptIds: randomIds(17, 1), responseIds: randomIds(23, 2) },
];
const PAIRS: NativePairExample[] = [
  { promptIds: ids(1, 5, 9), chosenIds: ids(7, 3, 11, 2), rejectedIds: ids(7, 4) },
  { promptIds: ids(4), chosenIds: ids(8), rejectedIds: ids(6, 6, 6) },
  { promptIds: randomIds(17, 1), chosenIds: randomIds(23, 2), rejectedIds: randomIds(9, 3) },
].map((pair, i) => ({
  ...pair,
  // Margins of either sign, on both sides of the hinge's kinks.
  referenceChosen: [-12, -4, -80][i]!,
  referenceRejected: [-9, -8, -36][i]!,
  consistency: 0.8,
}));

interface Task {
  gradients: (trainer: NativeTrainer) => Promise<NativeTensor[]>;
  loss: (trainer: NativeTrainer) => Promise<number>;
}
const token = binding.cancelToken();
binding.setThreads(1); // products this small only wait for each other

const sft: Task = {
  gradients: (trainer) => trainer._sftGradients(SFT, LARGE),
  loss: async (trainer) => (await trainer.sftStep(SFT, 0, LARGE, token)).loss,
};
function preference(options: Partial<NativePreferenceOptions>, consistency: number): Task {
  const complete = { loss: 'sigmoid' as const, beta: 0.1, sftCoefficient: 0, ...options };
  const pairs = PAIRS.map((pair) => ({ ...pair, consistency }));
  return {
    gradients: (trainer) => trainer._preferenceGradients(pairs, complete, LARGE),
    loss: async (trainer) => (await trainer.preferenceStep(pairs, complete, 0, LARGE, token)).loss,
  };
}

const norm = (x: Float32Array) => Math.sqrt(x.reduce((sum, value) => sum + value * value, 0));

class Landscape {
  readonly path: string;
  readonly config: NativeModelConfig;
  readonly tensors: NativeTensor[];
  constructor(path: string, config: NativeModelConfig, tensors: NativeTensor[]) {
    this.path = path;
    this.config = config;
    this.tensors = tensors;
  }

  async with<T>(tensors: NativeTensor[], use: (trainer: NativeTrainer) => Promise<T>): Promise<T> {
    const model = await modelFrom(this.path, this.config, tensors);
    const trainer = await model.createTrainer(OPTIMIZER);
    try {
      return await use(trainer);
    } finally {
      trainer.dispose();
      model.dispose();
    }
  }

  /** The loss with every tensor moved by `distance` along its direction. */
  lossAt(task: Task, directions: readonly Float32Array[], distance: number): Promise<number> {
    const moved = this.tensors.map((tensor, i) => {
      const direction = directions[i]!;
      return { ...tensor, data: tensor.data.map((x, j) => x + distance * direction[j]!) };
    });
    return this.with(moved, task.loss);
  }

  /** The fourth-order central difference. */
  async slope(task: Task, directions: readonly Float32Array[], h: number): Promise<number> {
    const at = (distance: number) => this.lossAt(task, directions, distance);
    const [f2, f1, b1, b2] = [await at(2 * h), await at(h), await at(-h), await at(-2 * h)];
    return (8 * (f1 - b1) - (f2 - b2)) / (12 * h);
  }
}

const zeroed = (tensor: NativeTensor) => ({ ...tensor, data: new Float32Array(tensor.data.length) });

const scaled = (x: Float32Array, size: number) => {
  const scale = size / (norm(x) || 1);
  return x.map((value) => value * scale);
};

/** Half along the gradient, so that the slope is large; half anywhere, so that no parameter is left out. */
function directionOf(gradients: readonly NativeTensor[]): Float32Array[] {
  const whole = Math.hypot(...gradients.map(({ data }) => norm(data))) || 1;
  const anywhere = gradients.map(({ data }, i) => normal(data.length, { seed: 7 + i }));
  const size = Math.hypot(...anywhere.map(norm));
  return gradients.map(({ data }, i) =>
    data.map((g, j) => (0.7 * g) / whole + (0.7 * anywhere[i]![j]!) / size),
  );
}

const dot = (a: readonly Float32Array[], b: readonly Float32Array[]) =>
  a.reduce((sum, x, i) => x.reduce((inner, value, j) => inner + value * b[i]![j]!, sum), 0);

const PER_TENSOR = ['SFT', 'CREAM, C = 0.3'];
const TASKS: [string, Task][] = [
  ['SFT', sft],
  ...[0, 0.3, 0.5, 1].map((c): [string, Task] => [`CREAM, C = ${c}`, preference({}, c)]),
  ['hinge, C = 0.7', preference({ loss: 'hinge' }, 0.7)],
  ['ipo, C = 0.7', preference({ loss: 'ipo', beta: 0.5 }, 0.7)],
  ['sigmoid-norm, C = 0.7', preference({ loss: 'sigmoid-norm', beta: 2 }, 0.7)],
  ['CREAM with sftCoefficient, C = 0.7', preference({ sftCoefficient: 0.5 }, 0.7)],
];

for (const [architecture, config] of Object.entries({ EVERYTHING, TIED })) {
  for (const [name, task] of TASKS) {
    t.test(`the step's gradient is the finite difference: ${name}, ${architecture}`, async (t) => {
      const landscape = new Landscape(
        join(t.testdir(), 'm.safetensors'),
        config,
        await genericTensors(config),
      );
      const gradients = await landscape.with(landscape.tensors, task.gradients);
      t.same(
        gradients.map(({ name }) => name),
        landscape.tensors.map(({ name }) => name),
      );
      const data = gradients.map((gradient) => gradient.data);
      const whole = Math.hypot(...data.map(norm));
      const check = async (directions: Float32Array[], claim: string) => {
        const expected = await landscape.slope(task, directions, STEP);
        const actual = dot(data, directions);
        const error = Math.abs(actual - expected) / whole;
        t.ok(error < 3e-4, claim, { actual, expected, whole, error });
      };
      await check(directionOf(gradients), 'all parameters');
      if (!PER_TENSOR.includes(name)) return;
      const zeros = data.map((values) => new Float32Array(values.length));
      for (const [index, gradient] of gradients.entries()) {
        const significant = norm(gradient.data) > 1e-4 * whole ? [gradient] : [zeroed(gradient)];
        const [direction] = directionOf(significant) as [Float32Array];
        await check(zeros.with(index, scaled(direction, 1)), gradient.name);
      }
    });
  }
}

for (const dtype of ['float32', 'bfloat16'] as const) {
  t.test(`any split into micro-batches gives the same loss and gradient, ${dtype}`, async (t) => {
    const path = join(t.testdir(), 'm.safetensors');
    const model = await modelFrom(path, EVERYTHING, await genericTensors(EVERYTHING), dtype);
    const trainer = await model.createTrainer(OPTIMIZER);
    const options = { loss: 'sigmoid' as const, beta: 0.1, sftCoefficient: 0.1 };
    const flatten = (tensors: NativeTensor[]) => Float32Array.from(tensors.flatMap(({ data }) => [...data]));
    // bfloat16: products of other shapes are rounded elsewhere.
    const tolerance = dtype === 'float32' ? 1e-5 : 1e-2;
    const whole = {
      sft: flatten(await trainer._sftGradients(SFT, LARGE)),
      pairs: flatten(await trainer._preferenceGradients(PAIRS, options, LARGE)),
    };
    const metrics = {
      sft: await trainer.sftStep(SFT, 0, LARGE, token),
      pairs: await trainer.preferenceStep(PAIRS, options, 0, LARGE, token),
    };
    for (const [budget, parts] of [
      [1, 3],
      [8, 2],
      [45, 2],
    ] as const) {
      closeInNorm(
        t,
        flatten(await trainer._sftGradients(SFT, budget)),
        whole.sft,
        tolerance,
        `SFT, ${budget}`,
      );
      const pairs = flatten(await trainer._preferenceGradients(PAIRS, options, budget));
      closeInNorm(t, pairs, whole.pairs, tolerance, `pairs, ${budget}`);
      const step = await trainer.sftStep(SFT, 0, budget, token);
      t.equal(step.microBatches, parts, `micro-batches for ${budget}`);
      t.equal(step.tokens, metrics.sft.tokens);
      t.equal(step.targetTokens, 4 + 1 + 23);
      t.ok(Math.abs(step.loss / metrics.sft.loss - 1) < tolerance);
      const preference = await trainer.preferenceStep(PAIRS, options, 0, budget, token);
      t.ok(Math.abs(preference.loss / metrics.pairs.loss - 1) < tolerance);
      t.ok(Math.abs(preference.rewardsMargins - metrics.pairs.rewardsMargins) < tolerance);
    }
    trainer.dispose();
    model.dispose();
  });
}
