import { readCheckpoint } from '../data/checkpoint.js';
import type { ModelConfig } from '../data/model-config.js';
import { CreamError } from '../errors.js';
import { type NativeModel, loadBinding } from './binding.js';
import { type ScoreRequestGroup, toScoreGroups } from './arguments.js';
import { AbortableCall, native } from './call.js';
import { resolveDevice } from './device.js';
import { dtypeOf, type LoadOptions, prepare, toNative } from './loading.js';

const HEAD = 'score.weight';

export interface RewardsOptions {
  /** Memory bound of a forward pass, in tokens. 0, the default: the engine's choice. */
  maxTokensPerBatch?: number;
  signal?: AbortSignal | undefined;
}

/**
 * A reward model: a sequence classifier of one label, whose logit is the reward of prompt + response. Dispose it: its
 * memory is outside of what the garbage collector sees.
 */
export class RewardModel implements AsyncDisposable {
  readonly directory: string;
  readonly config: ModelConfig;
  readonly dtype: 'float32' | 'bfloat16';
  readonly numParameters: number;
  readonly #native: NativeModel;

  private constructor(nativeModel: NativeModel, config: ModelConfig, directory: string) {
    this.#native = nativeModel;
    this.config = config;
    this.directory = directory;
    this.dtype = nativeModel.dtype;
    this.numParameters = nativeModel.numParameters;
  }

  /** Reads a Hugging Face checkpoint folder of Llama-, Mistral-, Qwen2- or Qwen3ForSequenceClassification. */
  static async load(directory: string, options: LoadOptions = {}): Promise<RewardModel> {
    return AbortableCall.during(options.signal, async () => {
      const { config, files, embeddingFile } = await readCheckpoint(directory, 'reward');
      const { dtype = 'auto' } = options;
      const loaded = await native(() => {
        checkHead(directory, files);
        return prepare(options).loadModel({
          config: toNative(config),
          files,
          dtype: dtype === 'auto' ? dtypeOf(embeddingFile) : dtype,
          device: resolveDevice(options.device),
        });
      });
      if (options.signal?.aborted === true) loaded.dispose();
      return new RewardModel(loaded, config, directory);
    });
  }

  /**
   * One number per response: the logit at the last token of prompt + response that is not the padding token of
   * config.json, as transformers pools. Prompts are computed once per group.
   */
  async rewards(groups: readonly ScoreRequestGroup[], options: RewardsOptions = {}): Promise<number[][]> {
    const { maxTokensPerBatch = 0, signal } = options;
    const converted = toScoreGroups(groups, 'rewards');
    const padId = this.config.padTokenId ?? -1;
    const rewards = await AbortableCall.once(signal, (token) =>
      this.#native.rewards(converted, { maxTokensPerBatch, padId }, token),
    );
    return rewards.map((list) => [...list]);
  }

  /** Releases the memory once the verbs in progress have ended. Later calls reject. */
  dispose(): void {
    this.#native.dispose();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.dispose();
  }
}

/** A head of several labels is no reward, and which of its rows would be one nothing says. */
function checkHead(directory: string, files: readonly string[]): void {
  const heads = files
    .flatMap((file) => loadBinding().safetensorsHeader(file))
    .filter(({ name }) => name === HEAD);
  const labels = heads[0]?.shape[0];
  if (labels === undefined || labels === 1) return;
  throw new CreamError(
    'INVALID_CHECKPOINT',
    `${directory}: ${HEAD} has ${labels} labels; a reward is one number. Give a reward model that was trained with ` +
      'num_labels 1 (in Python: AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1))',
  );
}
