import { createHash } from 'node:crypto';
import { readCheckpoint, publishCheckpoint, writeCompanions } from '../data/checkpoint.js';
import { inferModelType, type ModelConfig, modelConfigText, withDtype } from '../data/model-config.js';
import { type LoraOptions, readAdapter, writeAdapterConfig } from '../data/adapter.js';
import { CreamError } from '../errors.js';
import { type NativeModel, type NativeModelConfig, type NativeResponse, loadBinding } from './binding.js';
import {
  type ScoreRequestGroup,
  toInt32Array,
  toObjects,
  toScoreGroups,
  toSeed,
  shown,
} from './arguments.js';
import { AbortableCall, native } from './call.js';
import { resolveDevice } from './device.js';
import { adapterSource, dtypeOf, type LoadOptions, prepare, toNative } from './loading.js';
import { Trainer, type TrainerOptions } from './trainer.js';
import { type LogitsSettings, nativeLogitsSettings } from './logits-settings.js';

export type { LoadOptions } from './loading.js';
export { Trainer } from './trainer.js';

export interface RandomOptions extends LoadOptions {
  seed: bigint;
}

export interface GenerateRequest extends LogitsSettings {
  prompts: readonly {
    id: string;
    ids: readonly number[] | Int32Array;
    /** Its own limit, where that is less than the request's: the room that its length leaves, say. Or one per response. */
    maxNewTokens?: number | readonly number[];
  }[];
  /** Responses per prompt. Default 1. */
  n?: number;
  maxNewTokens: number;
  /** 0 = greedy. Default 1. */
  temperature?: number;
  /** Default 1: no cut. */
  topP?: number;
  /** 0 = off, the default. */
  topK?: number;
  stopIds?: readonly number[];
  seed?: number | bigint;
  /** Mixed into every prompt's key, as "iteration-1": the same prompt gets other responses in another stream. */
  stream?: string;
  signal?: AbortSignal | undefined;
}

export interface GeneratedResponse {
  promptId: string;
  promptIndex: number;
  sample: number;
  /** The stop token included when it was sampled. */
  ids: Int32Array;
  /** Of each id, at temperature 1 and without truncation, in nats. */
  logprobs: Float32Array;
  finishReason: 'stop' | 'length';
}

export interface ScoreOptions {
  /** Memory bound of a forward pass, in tokens. 0, the default: the engine's choice. */
  maxTokensPerBatch?: number;
  /** Also the log-prob of every token. */
  perToken?: boolean;
  /**
   * Default true. false is the definition of the fast path: each response is scored as a sequence of its own with the
   * prompt before it. The same numbers up to rounding, more rows. For tests and measurements.
   */
  sharePrompts?: boolean;
  signal?: AbortSignal | undefined;
}

export interface GroupScores {
  /** Per response, in nats. */
  logprobs: number[];
  tokenLogprobs?: Float32Array[];
}

export interface SaveOptions {
  /** Folder whose tokenizer, chat template and generation settings are copied. Default: where the model came from. */
  from?: string;
  /** Replace a folder that is there. */
  overwrite?: boolean;
  maxShardBytes?: number;
}

const DEFAULT_SHARD_BYTES = 5_000_000_000;

/** A model on a device. Dispose it: its memory is outside of what the garbage collector sees. */
export class Model implements AsyncDisposable {
  /** The folder it was loaded from. */
  readonly directory: string | undefined;
  readonly config: ModelConfig;
  readonly dtype: 'float32' | 'bfloat16';
  /** Without the adapter's. */
  readonly numParameters: number;
  /** The low-rank adapter beside the weights, if there is one. */
  readonly adapter: LoraOptions | undefined;
  readonly #native: NativeModel;
  /** config.json. */
  readonly #configText: string;
  /** adapter_config.json, of an adapter that came from a file. */
  readonly #adapterText: string | undefined;

  private constructor(
    nativeModel: NativeModel,
    config: ModelConfig,
    configText: string,
    directory: string | undefined,
    adapter?: LoraOptions,
    adapterText?: string,
  ) {
    this.#native = nativeModel;
    this.adapter = adapter;
    this.#configText = configText;
    this.#adapterText = adapterText;
    this.directory = directory;
    this.config = config;
    this.dtype = nativeModel.dtype;
    this.numParameters = nativeModel.numParameters;
  }

  /** Reads a Hugging Face checkpoint folder. */
  static async load(directory: string, options: LoadOptions = {}): Promise<Model> {
    return AbortableCall.during(options.signal, async () => {
      const { config, configText, files, embeddingFile } = await readCheckpoint(directory);
      const { dtype = 'auto' } = options;
      const loaded = await native(() => {
        const binding = prepare(options);
        return binding.loadModel({
          config: toNative(config),
          files,
          dtype: dtype === 'auto' ? dtypeOf(embeddingFile) : dtype,
          device: resolveDevice(options.device),
        });
      });
      return disposeIfAborted(new Model(loaded, config, configText, directory), options.signal);
    });
  }

  /** New weights, the same for the same seed. dtype `auto` is float32. */
  static async random(config: NativeModelConfig | ModelConfig, options: RandomOptions): Promise<Model> {
    const complete: ModelConfig =
      'modelType' in config ? config : { ...config, modelType: inferModelType(config) };
    const { dtype: wanted = 'auto', seed } = options;
    const dtype = wanted === 'auto' ? 'float32' : wanted;
    const configText = modelConfigText(complete, dtype);
    const made = await native(() =>
      prepare(options).randomModel({
        config: toNative(complete),
        seed,
        dtype,
        device: resolveDevice(options.device),
      }),
    );
    return new Model(made, complete, configText, undefined);
  }

  /**
   * Samples responses and yields them as they finish. A response depends on seed, stream, prompt id and sample
   * index, not on what else is in the request. Leaving the loop stops the work.
   */
  async *generate(request: GenerateRequest): AsyncGenerator<GeneratedResponse, void, undefined> {
    const { prompts, stream = '', signal } = request;
    const options = {
      numSamples: request.n ?? 1,
      maxNewTokens: request.maxNewTokens,
      temperature: request.temperature ?? 1,
      topP: request.topP ?? 1,
      topK: request.topK ?? 0,
      stopIds: toInt32Array(request.stopIds ?? [], 'generate: stopIds'),
      seed: toSeed(request.seed ?? 0, 'generate'),
      maxLiveTokens: 0,
      maxLiveSequences: 0,
      ...nativeLogitsSettings(request),
    };
    const keyed = toObjects(prompts, 'generate: prompts').map(({ id, ids, maxNewTokens }, index) => ({
      ids: toInt32Array(ids, `generate: prompts[${index}].ids`),
      key: promptKey(stream, id, `generate: prompts[${index}].id`),
      ...(maxNewTokens !== undefined && {
        maxNewTokens: typeof maxNewTokens === 'number' ? maxNewTokens : [...maxNewTokens],
      }),
    }));

    const call = new AbortableCall(signal);
    let arrived: { response: NativeResponse; taken: () => void }[] = [];
    let wake = () => {};
    let isDone = false;
    // The engine waits when too many responses are not yet taken.
    const onResponse = (response: NativeResponse) =>
      new Promise<void>((taken) => {
        arrived.push({ response, taken });
        wake();
      });
    const work = call.run((token) => this.#native.generate(keyed, options, onResponse, token));
    const settle = (failure?: { error: unknown }) => {
      isDone = true;
      wake();
      return failure;
    };
    const settled = work.then(
      () => settle(),
      (error: unknown) => settle({ error }),
    );
    try {
      while (true) {
        const batch = arrived;
        arrived = [];
        for (const { response, taken } of batch) {
          taken();
          const { id: promptId } = prompts[response.promptIndex] as { id: string };
          yield { promptId, ...response };
        }
        if (arrived.length > 0) continue;
        if (isDone) break;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      const failure = await settled;
      if (failure !== undefined) throw failure.error;
      call.check(); // responses that were on their way are not delivered after it
    } finally {
      call.cancel();
      await settled;
      call.end();
    }
  }

  /** Log-probs of given responses. An empty response has log-prob 0. */
  async score(groups: readonly ScoreRequestGroup[], options: ScoreOptions = {}): Promise<GroupScores[]> {
    const { maxTokensPerBatch = 0, perToken = false, sharePrompts = true, signal } = options;
    const converted = toScoreGroups(groups, 'score');
    const { logprobs, tokenLogprobs } = await AbortableCall.once(signal, (token) =>
      this.#native.score(converted, { maxTokensPerBatch, perToken, sharePrompts }, token),
    );
    return logprobs.map((sums, group) => {
      const tokens = tokenLogprobs?.[group];
      return { logprobs: [...sums], ...(tokens !== undefined && { tokenLogprobs: tokens }) };
    });
  }

  /**
   * A second handle on the same weights with a new low-rank adapter (LoRA), which changes nothing before it is trained:
   * B is zero. The weights are shared: they stay in memory until the last handle is disposed, and must not be trained
   * while adapters over them are in use.
   */
  async addAdapter(options: LoraOptions, { seed = 0 }: { seed?: number | bigint } = {}): Promise<Model> {
    this.#refuseSecondAdapter();
    const made = await native(() => this.#native.addAdapter(options, toSeed(seed, 'addAdapter')));
    return new Model(made, this.config, this.#configText, this.directory, options);
  }

  /** A second handle on the same weights with an adapter in PEFT's format: adapter_config.json and its safetensors. */
  async loadAdapter(directory: string): Promise<Model> {
    this.#refuseSecondAdapter();
    const { options, file, text } = await native(() => readAdapter(directory, adapterSource(this.config)));
    const loaded = await native(() => this.#native.loadAdapter(options, file));
    return new Model(loaded, this.config, this.#configText, this.directory, options, text);
  }

  /**
   * A model of its own with the adapter added to the weights: W + scale B A, rounded once to the dtype that the model
   * computes in. `mergeCheckpoint` keeps the dtype of the files, float16 too.
   */
  async merge(): Promise<Model> {
    const merged = await native(() => this.#native.mergeAdapter());
    return new Model(merged, this.config, this.#configText, this.directory);
  }

  /** Starts training, in place: of the adapter where there is one, else of all weights. One trainer at a time. */
  async createTrainer(options: TrainerOptions = {}): Promise<Trainer> {
    return Trainer.start(this.#native, options);
  }

  async clone(): Promise<Model> {
    const copy = await native(() => this.#native.clone());
    return new Model(copy, this.config, this.#configText, this.directory, this.adapter, this.#adapterText);
  }

  /**
   * The model as it is now, to keep while this one is trained: a copy of the adapter over the same base where there is
   * one, else of all weights. `on: 'host'` leaves the copy in pinned host memory, as after `offload()`, and takes no
   * memory of the GPU; on the CPU there is no difference. Default 'device'.
   */
  async snapshot({ on = 'device' }: { on?: 'device' | 'host' } = {}): Promise<Model> {
    if (on !== 'device' && on !== 'host') {
      throw new CreamError('INVALID_ARGUMENT', `snapshot: on must be 'device' or 'host', got ${String(on)}`);
    }
    const copy = await native(() => this.#native.snapshot(on === 'host'));
    return new Model(copy, this.config, this.#configText, this.directory, this.adapter, this.#adapterText);
  }

  /**
   * Writes a complete checkpoint folder, which appears whole or not at all. Of a model with an adapter that is the
   * adapter alone, in PEFT's format, with the tokenizer's files; `merge()` first for a checkpoint of all weights.
   */
  async save(directory: string, options: SaveOptions = {}): Promise<void> {
    const { from = this.directory, overwrite = false, maxShardBytes = DEFAULT_SHARD_BYTES } = options;
    await publishCheckpoint(
      directory,
      async (temporary) => {
        if (this.adapter === undefined) {
          await writeCompanions(from, temporary, withDtype(this.#configText, this.dtype));
          await native(() => this.#native.save(temporary, maxShardBytes));
        } else {
          await writeCompanions(from, temporary);
          await writeAdapterConfig(temporary, this.adapter, this.directory, this.#adapterText);
          await native(() => this.#native.saveAdapter(temporary));
        }
      },
      { overwrite },
    );
  }

  /**
   * Moves the weights to pinned host memory, so that another model has room on the GPU; adapters over them go with
   * them. Until `onload()` only that and `dispose()` may be called. Returns the seconds that it took; 0 on the CPU, where
   * nothing moves. What was copied stays in host memory until the model is trained or disposed of, so that a model that
   * comes and goes is copied once.
   */
  async offload(): Promise<number> {
    return native(() => this.#native.offload());
  }

  /** Brings the weights back. Returns the seconds that it took. */
  async onload(): Promise<number> {
    return native(() => this.#native.onload());
  }

  /** Releases the memory once the verbs in progress have ended. Later calls reject. */
  dispose(): void {
    this.#native.dispose();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.dispose();
  }

  #refuseSecondAdapter(): void {
    if (this.adapter === undefined) return;
    throw new CreamError(
      'INVALID_ARGUMENT',
      'the model has an adapter already; merge it first, or use its base',
    );
  }
}

/** Linux: ends this process when its parent dies. */
export function dieWithParent(): void {
  loadBinding().dieWithParent();
}

/** Keeps big buffers in the process between steps. For a process of our own: it changes malloc for everyone. */
export function tuneMalloc(): void {
  loadBinding().tuneMalloc();
}

function disposeIfAborted(model: Model, signal: AbortSignal | undefined): Model {
  if (signal?.aborted === true) model.dispose();
  return model;
}

/** Names a prompt in the random stream: the first 8 bytes of a digest, so that any id will do. */
function promptKey(stream: string, id: string, where: string): bigint {
  if (typeof id !== 'string') {
    throw new CreamError('INVALID_ARGUMENT', `${where} must be a string, got ${shown(id)}`);
  }
  return createHash('sha256').update(`${stream}\0${id}`).digest().readBigUInt64BE(0);
}
