import { createRequire } from 'node:module';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { LoraOptions } from '../data/adapter.js';
import { CreamError } from '../errors.js';

// Loads cream.node and types all of it. Only lib/native imports this file.

/** The numbers of a config.json that the transformer needs (native/model/model_config.h). */
export interface NativeModelConfig {
  vocabSize: number;
  hiddenSize: number;
  intermediateSize: number;
  numLayers: number;
  numHeads: number;
  numKvHeads: number;
  headDim: number;
  maxPositionEmbeddings: number;
  rmsNormEps: number;
  ropeTheta: number;
  ropeScaling: 'none' | 'linear' | 'llama3';
  ropeFactor: number;
  ropeLowFreqFactor: number;
  ropeHighFreqFactor: number;
  ropeOriginalMaxPositionEmbeddings: number;
  qkvBias: boolean;
  oBias: boolean;
  mlpBias: boolean;
  qkNorm: boolean;
  tieWordEmbeddings: boolean;
  /** Of a sequence classifier; 0 or left out: a language model. */
  numLabels?: number;
  /** Per layer, in tokens; 0 = the whole context. */
  slidingWindow: number[];
}

export type NativeDtype = 'float32' | 'bfloat16';

export interface NativeInfo {
  libtorch: string;
  /** What LibTorch's own operators use: AVX2, AVX512. */
  cpuCapability: string;
  /** What the addon's kernels use, and the maker: `avx512_bf16 other` (native/ops/cpu_features.h). */
  cpuPath: string;
  /** The library that GPUs multiply matrices with: `default` (LibTorch's choice), or what CREAM_BLAS says. */
  gpuProducts: string;
  threads: number;
  cuda: boolean;
  /** Compute capabilities that the kernels are compiled for, as `80 90`; empty without CUDA. */
  cudaArchs: string;
  buildFlags: string;
}

export interface NativeDevices {
  /** Versions as CUDA writes them: 13000 is 13.0; 0 where there is none. */
  driver: number;
  runtime: number;
  gpus: {
    name: string;
    computeCapability: string;
    totalBytes: number;
    multiprocessors: number;
    l2Bytes: number;
  }[];
  /** Why `gpus` is empty. */
  problem?: string;
}

/** Bytes. `free` and `total` are of the whole GPU; the rest is this process's. All zero for the CPU. */
export interface NativeDeviceMemory {
  free: number;
  total: number;
  /** In tensors. */
  allocated: number;
  /** Taken from the GPU. */
  reserved: number;
  /** Most allocated since the last reset. */
  peak: number;
}

/** Cancels a running verb; created by `cancelToken()`. */
export interface NativeCancelToken {
  cancel(): void;
}

export interface NativeGenerateOptions {
  numSamples: number;
  maxNewTokens: number;
  temperature: number;
  topP: number;
  topK: number;
  stopIds: Int32Array;
  seed: bigint;
  maxLiveTokens: number;
  maxLiveSequences: number;
  /** Of a GPU, between two looks at its slots; the engine's choice where it is missing. */
  stepsPerPoll?: number;
  minP?: number;
  repetitionPenalty?: number;
  noRepeatNgramSize?: number;
  minNewTokens?: number;
  badWordsIds?: Int32Array[];
  suppressTokens?: Int32Array;
  beginSuppressTokens?: Int32Array;
  forcedEosId?: number;
}

export interface NativeResponse {
  promptIndex: number;
  sample: number;
  ids: Int32Array;
  logprobs: Float32Array;
  finishReason: 'stop' | 'length';
}

export interface NativeScoreGroup {
  promptIds: Int32Array;
  responses: Int32Array[];
}

export interface NativeScores {
  /** Per group, per response: sum over the response's tokens. */
  logprobs: Float64Array[];
  /** Per group, per response, per token; only with `perToken`. */
  tokenLogprobs?: Float32Array[][];
}

export interface NativeAdamWOptions {
  beta1: number;
  beta2: number;
  epsilon: number;
  weightDecay: number;
  maxGradNorm: number;
  /** Of an adapter's dropout and of the rounding of bfloat16 moments. */
  seed: bigint;
  /** Of the learning rate, each 1 when left out: native/train/parameter_groups.h. */
  learningRateFactors?: NativeRateFactors;
  /** float32 when left out, both. */
  momentsDtype?: NativeDtype;
  gradientsDtype?: NativeDtype;
  /** selective when left out. */
  recompute?: NativeRecompute;
  deterministic?: boolean;
}

export interface NativeRateFactors {
  embeddings?: number;
  head?: number;
  norms?: number;
  layerDecay?: number;
}

/** A number: selective, and the gate and up projections of so many layers. */
export type NativeRecompute = 'selective' | 'full' | 'none' | number;

export interface NativeSftExample {
  promptIds: Int32Array;
  responseIds: Int32Array;
  /** 1 for each response token that carries loss, 0 for others; left out: all carry it. */
  trained?: Int32Array;
}

export interface NativePairExample {
  promptIds: Int32Array;
  chosenIds: Int32Array;
  rejectedIds: Int32Array;
  consistency: number;
  referenceChosen: number;
  referenceRejected: number;
  /** Of the agreement term (native/train/loss.h); 0 when left out. */
  implicitMargin?: number;
  judgeMargin?: number;
}

export interface NativePreferenceOptions {
  loss: 'sigmoid' | 'hinge' | 'ipo' | 'sigmoid-norm';
  beta: number;
  sftCoefficient: number;
  /** 0 when left out, as the next two: native/train/loss.h. */
  lengthTerm?: number;
  agreementCoefficient?: number;
  agreementEntropy?: number;
  /**
   * Default true. false is the definition of the fast path: each response is a sequence of its own with the prompt before
   * it. The same numbers up to rounding (an adapter's dropout apart), more rows. For tests and measurements.
   */
  sharePrompts?: boolean;
}

/** native/train/trainer.h StepMetrics. */
export interface NativeStepMetrics {
  loss: number;
  gradNorm: number;
  applied: boolean;
  tokens: number;
  targetTokens: number;
  microBatches: number;
  /** The bound that the micro-batches kept to: less than the caller's where memory ran out. */
  maxTokensPerBatch: number;
  weightsMoved: number;
  rewardsChosen: number;
  rewardsRejected: number;
  rewardsMargins: number;
  rewardsAccuracies: number;
  logpsChosen: number;
  logpsRejected: number;
}

export interface NativeTensor {
  name: string;
  shape: number[];
  data: Float32Array;
}

export interface NativeTrainer {
  sftStep(
    batch: NativeSftExample[],
    learningRate: number,
    maxTokensPerBatch: number,
    token: NativeCancelToken,
  ): Promise<NativeStepMetrics>;
  preferenceStep(
    batch: NativePairExample[],
    options: NativePreferenceOptions,
    learningRate: number,
    maxTokensPerBatch: number,
    token: NativeCancelToken,
  ): Promise<NativeStepMetrics>;
  saveState(path: string): Promise<void>;
  loadState(path: string): Promise<void>;
  /** Ends the training and releases optimizer memory; the model stays. */
  dispose(): void;
  // For tests.
  _sftGradients(batch: NativeSftExample[], maxTokensPerBatch: number): Promise<NativeTensor[]>;
  _preferenceGradients(
    batch: NativePairExample[],
    options: NativePreferenceOptions,
    maxTokensPerBatch: number,
  ): Promise<NativeTensor[]>;
  /** Micro-batches of more rows fail for want of memory; 0 = off. */
  _simulateMemoryOf(rows: number): Promise<void>;
}

export interface NativeModel {
  readonly numParameters: number;
  readonly dtype: NativeDtype;
  /**
   * Resolves when all responses have been delivered; `onResponse` is called as they finish. A promise that it
   * returns holds the response's place in a bounded queue: the engine waits when too many are unsettled, unless
   * another verb is queued. What it throws cancels the work and becomes the rejection.
   */
  generate(
    prompts: { ids: Int32Array; key: bigint; maxNewTokens?: number | number[] }[],
    options: NativeGenerateOptions,
    onResponse: (response: NativeResponse) => void | Promise<void>,
    token: NativeCancelToken,
  ): Promise<void>;
  score(
    groups: NativeScoreGroup[],
    options: { maxTokensPerBatch: number; perToken: boolean; sharePrompts?: boolean },
    token: NativeCancelToken,
  ): Promise<NativeScores>;
  /** Of a sequence classifier: one number per response. padId -1: there is no padding token. */
  rewards(
    groups: NativeScoreGroup[],
    options: { maxTokensPerBatch: number; padId: number },
    token: NativeCancelToken,
  ): Promise<Float64Array[]>;
  /** Resolves to the names of the files written into an existing directory, each flushed to disk. */
  save(directory: string, maxShardBytes: number): Promise<string[]>;
  clone(): Promise<NativeModel>;
  snapshot(onHost: boolean): Promise<NativeModel>;
  /** native/model/residence.h: seconds of the move. */
  offload(): Promise<number>;
  onload(): Promise<number>;
  /** A handle of its own on the same weights, with a new adapter that changes nothing yet. */
  addAdapter(options: LoraOptions, seed: bigint): Promise<NativeModel>;
  /** The same with the tensors of an adapter_model.safetensors. */
  loadAdapter(options: LoraOptions, file: string): Promise<NativeModel>;
  /** Writes adapter_model.safetensors into an existing directory, flushed to disk. */
  saveAdapter(directory: string): Promise<void>;
  /** A model of its own with the adapter added to the weights. */
  mergeAdapter(): Promise<NativeModel>;
  createTrainer(options: NativeAdamWOptions): Promise<NativeTrainer>;
  /** Safe while a verb runs: the memory is released when it ends. Later calls reject. */
  dispose(): void;
  // For tests.
  _logits(ids: Int32Array): Promise<Float32Array>;
  _tensors(): Promise<NativeTensor[]>;
}

/** Everything cream.node exports. Errors have `code` (one of ErrorCode) and a message for people. */
export interface NativeBinding {
  info(): NativeInfo;
  /** The GPUs that this build can see. The first call starts the driver. */
  devices(): NativeDevices;
  /** After the verbs before it. */
  deviceMemory(device: string, resetPeak: boolean): Promise<NativeDeviceMemory>;
  /**
   * Seconds of each kind of work since the last call; then counts each op (a GPU decodes without CUDA graphs meanwhile),
   * or recorded decoding steps as one kind, or nothing. For benchmarks.
   */
  phases(mode: 'off' | 'ops' | 'steps'): Promise<{ name: string; seconds: number; count: number }[]>;
  /** Threads of LibTorch's operators, for the whole process. */
  setThreads(threads: number): void;
  cancelToken(): NativeCancelToken;
  /** Linux: end this process when its parent dies. */
  dieWithParent(): void;
  /** glibc: keep freed buffers in the process. Never in a foreign host: it changes malloc for everyone. */
  tuneMalloc(): void;
  loadModel(options: {
    config: NativeModelConfig;
    files: string[];
    dtype: NativeDtype;
    device: string;
  }): Promise<NativeModel>;
  randomModel(options: {
    config: NativeModelConfig;
    seed: bigint;
    dtype: NativeDtype;
    device: string;
  }): Promise<NativeModel>;
  /** native/model/merge_checkpoint.h; resolves to the names of the files, each flushed to disk. */
  mergeCheckpoint(options: {
    config: NativeModelConfig;
    files: string[];
    adapter: LoraOptions;
    adapterFile: string;
    dtype: 'own' | NativeDtype;
    directory: string;
    maxShardBytes: number;
  }): Promise<string[]>;
  /** Reads only the header of a safetensors file: name -> dtype and shape. */
  safetensorsHeader(path: string): { name: string; dtype: string; shape: number[] }[];
  // For tests: ops beside their plain definitions. Arguments are described at each export in native/addon.
  [testExport: `_${string}`]: (...args: never[]) => unknown;
}

/** build/Release/cream.node of this package, from sources (lib/native) or compiled (dist/lib/native). */
export function addonPath(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'package.json'))) {
    const parent = dirname(directory);
    if (parent === directory) throw new CreamError('ENVIRONMENT', 'the cream-lm package.json was not found');
    directory = parent;
  }
  return join(directory, 'build', 'Release', 'cream.node');
}

let loaded: NativeBinding | undefined;

/** Loads the addon once. Throws ENVIRONMENT with the command that builds it when it is missing or unusable. */
export function loadBinding(): NativeBinding {
  if (loaded !== undefined) return loaded;
  const path = addonPath();
  if (!existsSync(path)) {
    throw new CreamError(
      'ENVIRONMENT',
      `the native addon is not built (${path} is missing); run: npm run build`,
    );
  }
  try {
    loaded = createRequire(import.meta.url)(path) as NativeBinding;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    if ((cause as { code?: unknown }).code === 'INVALID_ARGUMENT') {
      throw new CreamError('INVALID_ARGUMENT', reason, { cause });
    }
    throw new CreamError('ENVIRONMENT', `the native addon does not load: ${reason}; run: npm run build`, {
      cause,
    });
  }
  return loaded;
}
