import type {
  NativeAdamWOptions,
  NativeModel,
  NativePreferenceOptions,
  NativeStepMetrics,
  NativeTrainer,
} from './binding.js';
import { toInt32Array, toObjects, toSeed } from './arguments.js';
import { AbortableCall, native } from './call.js';

export type TrainerOptions = Partial<Omit<NativeAdamWOptions, 'seed'>> & {
  /** Of an adapter's dropout and of the rounding of bfloat16 moments. */
  seed?: number | bigint;
};
export type StepMetrics = NativeStepMetrics;

type Ids = readonly number[] | Int32Array;

export interface SftStepExample {
  promptIds: Ids;
  responseIds: Ids;
  /** 1 for each response token that carries loss, 0 for others; left out: all carry it. */
  trained?: Ids;
}

export interface PreferenceStepPair {
  promptIds: Ids;
  chosenIds: Ids;
  rejectedIds: Ids;
  /** C of the loss, in [0, 1]. */
  consistency: number;
  /** Sequence log-probs under the frozen reference. */
  referenceChosen: number;
  referenceRejected: number;
  /** Margin of the implicit reward at the reference, and the judge's margin: for the agreement term alone. */
  implicitMargin?: number;
  judgeMargin?: number;
}

export interface StepOptions {
  learningRate: number;
  /** Bounds the memory of a step: the batch is split into micro-batches of at most so many rows. */
  maxTokensPerBatch: number;
  signal?: AbortSignal | undefined;
}

const ADAMW: NativeAdamWOptions = {
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0.01,
  maxGradNorm: 1,
  seed: 0n,
};

/** AdamW over a model's weights; made by `model.createTrainer()`. Dispose it to free the optimizer's memory. */
export class Trainer implements AsyncDisposable {
  readonly #native: NativeTrainer;

  private constructor(nativeTrainer: NativeTrainer) {
    this.#native = nativeTrainer;
  }

  static async start(model: NativeModel, options: TrainerOptions): Promise<Trainer> {
    const { beta1, beta2, epsilon, weightDecay, maxGradNorm, seed } = { ...ADAMW, ...options };
    const { learningRateFactors, momentsDtype, gradientsDtype, recompute, deterministic } = options;
    const adamw = {
      beta1,
      beta2,
      epsilon,
      weightDecay,
      maxGradNorm,
      seed: toSeed(seed, 'createTrainer'),
      ...(learningRateFactors === undefined ? {} : { learningRateFactors }),
      ...(momentsDtype === undefined ? {} : { momentsDtype }),
      ...(gradientsDtype === undefined ? {} : { gradientsDtype }),
      ...(recompute === undefined ? {} : { recompute }),
      ...(deterministic === undefined ? {} : { deterministic }),
    };
    return new Trainer(await native(() => model.createTrainer(adamw)));
  }

  /** One optimizer step; the loss is the mean over the batch's response tokens. */
  async sftStep(
    batch: readonly SftStepExample[],
    { learningRate, maxTokensPerBatch, signal }: StepOptions,
  ): Promise<StepMetrics> {
    const examples = toObjects(batch, 'sftStep: batch').map(({ promptIds, responseIds, trained }, i) => ({
      promptIds: toInt32Array(promptIds, `sftStep: batch[${i}].promptIds`),
      responseIds: toInt32Array(responseIds, `sftStep: batch[${i}].responseIds`),
      ...(trained !== undefined && { trained: toInt32Array(trained, `sftStep: batch[${i}].trained`) }),
    }));
    return AbortableCall.once(signal, (token) =>
      this.#native.sftStep(examples, learningRate, maxTokensPerBatch, token),
    );
  }

  /** One optimizer step on preference pairs; the loss is the mean over pairs. */
  async preferenceStep(
    batch: readonly PreferenceStepPair[],
    { learningRate, maxTokensPerBatch, signal, ...loss }: StepOptions & NativePreferenceOptions,
  ): Promise<StepMetrics> {
    const pairs = toObjects(batch, 'preferenceStep: batch').map((pair, i) => ({
      ...pair,
      promptIds: toInt32Array(pair.promptIds, `preferenceStep: batch[${i}].promptIds`),
      chosenIds: toInt32Array(pair.chosenIds, `preferenceStep: batch[${i}].chosenIds`),
      rejectedIds: toInt32Array(pair.rejectedIds, `preferenceStep: batch[${i}].rejectedIds`),
    }));
    return AbortableCall.once(signal, (token) =>
      this.#native.preferenceStep(pairs, loss, learningRate, maxTokensPerBatch, token),
    );
  }

  /** Everything that continues the training bit by bit, in one file that is flushed to disk. */
  async saveState(path: string): Promise<void> {
    await native(() => this.#native.saveState(path));
  }

  async loadState(path: string): Promise<void> {
    await native(() => this.#native.loadState(path));
  }

  /** Ends the training; the model stays. */
  dispose(): void {
    this.#native.dispose();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.dispose();
  }
}
