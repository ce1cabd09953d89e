import { CreamError } from '../errors.js';
import { ConfigReader, type JsonObject } from './config-reader.js';

// config.json of a Hugging Face checkpoint: which transformer it describes. Every key is either read, known to be
// without effect on the computation, or refused by name, so that no model is computed differently in silence.

export const MODEL_TYPES = ['llama', 'mistral', 'qwen2', 'qwen3'] as const;
export type ModelType = (typeof MODEL_TYPES)[number];

export type RopeScaling = 'none' | 'linear' | 'llama3';

/** A transformer as the engine computes it, and what else a config.json says of it. */
export interface ModelConfig {
  modelType: ModelType;
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
  ropeScaling: RopeScaling;
  ropeFactor: number;
  ropeLowFreqFactor: number;
  ropeHighFreqFactor: number;
  ropeOriginalMaxPositionEmbeddings: number;
  qkvBias: boolean;
  oBias: boolean;
  mlpBias: boolean;
  qkNorm: boolean;
  tieWordEmbeddings: boolean;
  /** Of a sequence classifier, whose head has one row per label in place of one per token. */
  numLabels?: number;
  /** Per layer, in tokens; 0 = the whole context. */
  slidingWindow: number[];
  bosTokenId?: number;
  eosTokenIds?: number[];
  padTokenId?: number;
}

/** What the transformer ends in: logits of the vocabulary, or one number for a sequence (a reward model). */
export type ModelHead = 'language' | 'reward';

const FAMILIES: Readonly<Record<ModelType, string>> = {
  llama: 'Llama',
  mistral: 'Mistral',
  qwen2: 'Qwen2',
  qwen3: 'Qwen3',
};
const architectureOf = (modelType: ModelType, head: ModelHead) =>
  `${FAMILIES[modelType]}For${head === 'language' ? 'CausalLM' : 'SequenceClassification'}`;

/** What transformers assumes for a key that is absent. */
const DEFAULTS = {
  rmsNormEps: 1e-6,
  ropeTheta: 10000,
  mistralWindow: 4096,
  qwenWindow: 4096,
  maxWindowLayers: 28,
};

/** Only these values are computed; another one would change the result. */
const FIXED: Readonly<Record<string, unknown>> = {
  hidden_act: 'silu',
  attention_dropout: 0,
  pretraining_tp: 1,
  partial_rotary_factor: 1,
  use_mrope: false,
  is_encoder_decoder: false,
  is_decoder: false,
  add_cross_attention: false,
  rope_interleaved: false,
};

const REFUSED: Readonly<Record<string, string>> = {
  auto_map: 'names Python code of the checkpoint, and code of a checkpoint is never run',
  quantization_config:
    'the weights are quantised; give the unquantised checkpoint (float32, bfloat16 or float16)',
  compression_config:
    'the weights are compressed; give the unquantised checkpoint (float32, bfloat16 or float16)',
};

/** Of no influence on the computed function: how Python runs it, training history, settings of text generation. */
const IGNORED: ReadonlySet<string> = new Set(
  `_attn_implementation _attn_implementation_autoset _commit_hash _name_or_path attn_implementation bad_words_ids
   begin_suppress_tokens chunk_size_feed_forward classifier_dropout cross_attention_hidden_size
   decoder_start_token_id diversity_penalty do_sample dtype early_stopping encoder_no_repeat_ngram_size
   exponential_decay_length_penalty finetuning_task forced_bos_token_id forced_eos_token_id id2label
   initializer_range keys_to_ignore_at_inference label2id length_penalty max_length min_length
   no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_attentions output_hidden_states
   output_scores prefix problem_type pruned_heads remove_invalid_values repetition_penalty return_dict
   return_dict_in_generate sep_token_id suppress_tokens task_specific_params temperature tf_legacy_loss
   tie_encoder_decoder tokenizer_class top_k top_p torch_dtype torchscript transformers.js_config
   transformers_version typical_p unk_token_id unsloth_fixed unsloth_version use_bfloat16 use_cache
   use_return_dict`.split(/\s+/),
);

const isModelType = (value: unknown): value is ModelType =>
  (MODEL_TYPES as readonly unknown[]).includes(value);

/** Reads a parsed config.json; `where` begins the messages. Throws INVALID_CHECKPOINT. */
export function readModelConfig(json: unknown, where: string, head: ModelHead = 'language'): ModelConfig {
  const config: ConfigReader = new ConfigReader(json, where);
  for (const [key, reason] of Object.entries(REFUSED)) {
    if (config.has(key)) config.fail(`${key} is not supported: ${reason}`);
  }
  const modelType = config.take('model_type');
  if (!isModelType(modelType)) {
    config.fail(
      `model_type must be one of ${MODEL_TYPES.join(', ')}, got ${JSON.stringify(modelType) ?? 'nothing'}`,
    );
  }
  checkArchitectures(config, modelType, head);
  if (head === 'reward') config.mustBe('num_labels', 1);
  for (const [key, value] of Object.entries(FIXED)) config.mustBe(key, value);

  const vocabSize = config.integer('vocab_size', 1, 2 ** 24);
  const hiddenSize = config.integer('hidden_size', 1, 2 ** 20);
  const intermediateSize = config.integer('intermediate_size', 1, 2 ** 20);
  const numLayers = config.integer('num_hidden_layers', 1, 1024);
  const numHeads = config.integer('num_attention_heads', 1, 4096);
  // Llama 1 and 2 checkpoints may leave it out; the other families have a default that fits one size only.
  const numKvHeads = config.integer(
    'num_key_value_heads',
    1,
    numHeads,
    modelType === 'llama' ? numHeads : undefined,
  );
  if (numHeads % numKvHeads !== 0) {
    config.fail(
      `num_attention_heads (${numHeads}) must be a multiple of num_key_value_heads (${numKvHeads})`,
    );
  }
  const headDim = readHeadDim(config, modelType, hiddenSize, numHeads);
  const maxPositionEmbeddings = config.integer('max_position_embeddings', 1, 2 ** 30);
  const attentionBias = readAttentionBias(config, modelType);
  if (modelType !== 'llama') config.mustBe('mlp_bias', false);

  const result: ModelConfig = {
    modelType,
    vocabSize,
    hiddenSize,
    intermediateSize,
    numLayers,
    numHeads,
    numKvHeads,
    headDim,
    maxPositionEmbeddings,
    rmsNormEps: config.number('rms_norm_eps', 0, 1, DEFAULTS.rmsNormEps),
    ...readRope(config),
    qkvBias: attentionBias || modelType === 'qwen2',
    oBias: attentionBias,
    mlpBias: modelType === 'llama' && config.boolean('mlp_bias', false),
    qkNorm: modelType === 'qwen3',
    // The head of a classifier is never the embedding, whatever the file says.
    tieWordEmbeddings: config.boolean('tie_word_embeddings', false) && head === 'language',
    ...(head === 'reward' && { numLabels: 1 }),
    slidingWindow: readSlidingWindow(config, modelType, numLayers),
    ...readTokenIds(config),
  };
  const unknown = config.remaining().filter((key) => !IGNORED.has(key));
  if (unknown.length > 0) {
    config.fail(
      `${unknown.map((key) => JSON.stringify(key)).join(', ')} is not known for model_type ${modelType} ` +
        'and might change what the model computes; remove it if it does not',
    );
  }
  return result;
}

function checkArchitectures(config: ConfigReader, modelType: ModelType, head: ModelHead): void {
  const value = config.take('architectures');
  const named: unknown = Array.isArray(value) && value.length === 1 ? value[0] : undefined;
  const wanted = architectureOf(modelType, head);
  if (named === wanted || (value === undefined && head === 'language')) return;
  const other = architectureOf(modelType, head === 'language' ? 'reward' : 'language');
  const advice =
    head === 'language'
      ? 'it is a reward model, which cannot write; give it as reward.model'
      : 'it is a language model, which gives no reward for a text; give a sequence classifier of one label';
  config.fail(
    `architectures must be ["${wanted}"] for model_type ${modelType}, got ${JSON.stringify(value) ?? 'nothing'}` +
      (named === other ? `: ${advice}` : ''),
  );
}

function readHeadDim(
  config: ConfigReader,
  modelType: ModelType,
  hiddenSize: number,
  numHeads: number,
): number {
  const fallback = modelType === 'qwen3' ? 128 : hiddenSize / numHeads;
  const headDim = config.integer('head_dim', 2, 1024, fallback);
  if (!Number.isInteger(headDim)) {
    config.fail(`hidden_size (${hiddenSize}) must be a multiple of num_attention_heads (${numHeads})`);
  }
  if (headDim % 2 !== 0) config.fail(`the size of a head must be even, got ${headDim}`);
  return headDim;
}

/** attention_bias: llama and qwen3 put it on q, k, v and o; qwen2 always has it on q, k and v, mistral never. */
function readAttentionBias(config: ConfigReader, modelType: ModelType): boolean {
  if (modelType === 'llama' || modelType === 'qwen3') return config.boolean('attention_bias', false);
  config.mustBe('attention_bias', modelType === 'qwen2');
  return false;
}

function readTokenIds(config: ConfigReader): Pick<ModelConfig, 'bosTokenId' | 'eosTokenIds' | 'padTokenId'> {
  const isId = (value: unknown): value is number => Number.isSafeInteger(value);
  const ids = (key: string): number[] | undefined => {
    const value = config.take(key);
    if (value === undefined) return undefined;
    const list: unknown[] = Array.isArray(value) ? value : [value];
    if (list.every(isId)) return list;
    return config.fail(`${key} must be a token id or a list of them, got ${JSON.stringify(value)}`);
  };
  const bos = ids('bos_token_id')?.[0];
  const eos = ids('eos_token_id');
  const pad = ids('pad_token_id')?.[0];
  return {
    ...(bos !== undefined && { bosTokenId: bos }),
    ...(eos !== undefined && { eosTokenIds: eos }),
    ...(pad !== undefined && { padTokenId: pad }),
  };
}

type Rope = Pick<
  ModelConfig,
  | 'ropeTheta'
  | 'ropeScaling'
  | 'ropeFactor'
  | 'ropeLowFreqFactor'
  | 'ropeHighFreqFactor'
  | 'ropeOriginalMaxPositionEmbeddings'
>;

/**
 * rope_theta and rope_scaling up to transformers 4; rope_parameters, which holds both, from 5 on. Where a file has
 * more than one of them, they must agree.
 */
function readRope(config: ConfigReader): Rope {
  const topTheta = config.has('rope_theta') ? config.number('rope_theta', 1e-3, 1e15) : undefined;
  const scaling = config.object('rope_scaling');
  const parameters = config.object('rope_parameters');
  if (scaling !== undefined && parameters !== undefined && !sameEntries(scaling.json, parameters.json)) {
    config.fail('rope_scaling and rope_parameters contradict each other; remove one of them');
  }
  const rope = parameters ?? scaling;
  const theta = rope?.has('rope_theta') ? rope.number('rope_theta', 1e-3, 1e15) : undefined;
  if (theta !== undefined && topTheta !== undefined && theta !== topTheta) {
    config.fail(`rope_theta is ${topTheta} and rope_parameters.rope_theta is ${theta}; remove one of them`);
  }
  const result: Rope = {
    ropeTheta: theta ?? topTheta ?? DEFAULTS.ropeTheta,
    ropeScaling: 'none',
    ropeFactor: 1,
    ropeLowFreqFactor: 1,
    ropeHighFreqFactor: 4,
    ropeOriginalMaxPositionEmbeddings: 8192,
  };
  if (rope === undefined) return result;
  readScaling(rope, result);
  rope.mustBe('partial_rotary_factor', 1);
  const unknown = rope.remaining();
  if (unknown.length > 0)
    rope.fail(`${unknown.map((key) => JSON.stringify(key)).join(', ')} is not supported`);
  return result;
}

function readScaling(rope: ConfigReader, result: Rope): void {
  const type = rope.take('rope_type');
  const legacyType = rope.take('type');
  if (type !== undefined && legacyType !== undefined && type !== legacyType) {
    rope.fail(
      `rope_type is ${JSON.stringify(type)} and type is ${JSON.stringify(legacyType)}; remove one of them`,
    );
  }
  switch (type ?? legacyType ?? 'default') {
    case 'default':
      return;
    case 'linear':
      result.ropeScaling = 'linear';
      result.ropeFactor = rope.number('factor', 1e-6, 1e6);
      return;
    case 'llama3':
      result.ropeScaling = 'llama3';
      result.ropeFactor = rope.number('factor', 1e-6, 1e6);
      result.ropeLowFreqFactor = rope.number('low_freq_factor', 1e-6, 1e6);
      result.ropeHighFreqFactor = rope.number('high_freq_factor', 1e-6, 1e6);
      result.ropeOriginalMaxPositionEmbeddings = rope.integer('original_max_position_embeddings', 1, 2 ** 30);
      if (result.ropeHighFreqFactor <= result.ropeLowFreqFactor) {
        rope.fail('high_freq_factor must be larger than low_freq_factor');
      }
      return;
    default:
      rope.fail(
        `rope_type must be default, linear or llama3, got ${JSON.stringify(type ?? legacyType)}: ` +
          'other position scalings are not computed',
      );
  }
}

function sameEntries(a: JsonObject, b: JsonObject): boolean {
  const shared = Object.keys(a).filter((key) => key !== 'type' && Object.hasOwn(b, key));
  return shared.every((key) => a[key] === b[key]);
}

function readSlidingWindow(config: ConfigReader, modelType: ModelType, numLayers: number): number[] {
  const every = (window: number) => new Array<number>(numLayers).fill(window);
  const window = (fallback: number) =>
    config.isNull('sliding_window') ? undefined : config.integer('sliding_window', 1, 2 ** 30, fallback);
  if (modelType === 'llama') return every(0);
  if (modelType === 'mistral') return every(window(DEFAULTS.mistralWindow) ?? 0);

  const size = window(DEFAULTS.qwenWindow);
  const isUsed = config.boolean('use_sliding_window', false) && size !== undefined;
  const firstLayer = config.integer('max_window_layers', 0, 2 ** 30, DEFAULTS.maxWindowLayers);
  const types = config.take('layer_types');
  if (types === undefined) return every(0).map((_, layer) => (isUsed && layer >= firstLayer ? size : 0));
  if (!Array.isArray(types) || types.length !== numLayers) {
    return config.fail(`layer_types must list the ${numLayers} layers, got ${JSON.stringify(types)}`);
  }
  return types.map((type: unknown, layer) => {
    if (type === 'full_attention') return 0;
    if (type !== 'sliding_attention') {
      return config.fail(
        `layer_types[${layer}] must be "full_attention" or "sliding_attention", got ${JSON.stringify(type)}`,
      );
    }
    return isUsed
      ? size
      : config.fail(`layer_types[${layer}] is "sliding_attention", but no sliding window is in use`);
  });
}

/** The family whose checkpoints look like this. Only for configs that were not read from a file. */
export function inferModelType(config: Omit<ModelConfig, 'modelType'>): ModelType {
  if (config.qkNorm) return 'qwen3';
  if (config.qkvBias && !config.oBias) return 'qwen2';
  return config.slidingWindow.some((window) => window > 0) ? 'mistral' : 'llama';
}

/** The config.json that transformers (4 and 5) and readModelConfig read as this model. */
export function writeModelConfig(config: ModelConfig, dtype: 'float32' | 'bfloat16'): JsonObject {
  const { modelType } = config;
  const json: JsonObject = {
    architectures: [architectureOf(modelType, 'language')],
    model_type: modelType,
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    num_hidden_layers: config.numLayers,
    num_attention_heads: config.numHeads,
    num_key_value_heads: config.numKvHeads,
    head_dim: config.headDim,
    hidden_act: 'silu',
    max_position_embeddings: config.maxPositionEmbeddings,
    rms_norm_eps: config.rmsNormEps,
    rope_theta: config.ropeTheta,
    rope_scaling: ropeScalingJson(config),
    tie_word_embeddings: config.tieWordEmbeddings,
    attention_dropout: 0,
    torch_dtype: dtype,
    use_cache: true,
    // transformers has defaults of its own for absent ids.
    bos_token_id: config.bosTokenId ?? null,
    eos_token_id: config.eosTokenIds?.length === 1 ? config.eosTokenIds[0] : (config.eosTokenIds ?? null),
    pad_token_id: config.padTokenId ?? null,
  };
  if (modelType === 'llama' || modelType === 'qwen3') json.attention_bias = config.oBias;
  if (modelType === 'llama') json.mlp_bias = config.mlpBias;
  const window = config.slidingWindow.find((size) => size > 0);
  if (modelType === 'mistral') json.sliding_window = window ?? null;
  if (modelType === 'qwen2' || modelType === 'qwen3') {
    json.use_sliding_window = window !== undefined;
    json.sliding_window = window ?? null;
    json.layer_types = config.slidingWindow.map((size) =>
      size > 0 ? 'sliding_attention' : 'full_attention',
    );
  }
  return checkedRoundTrip(json, config);
}

function ropeScalingJson(config: ModelConfig): JsonObject | null {
  if (config.ropeScaling === 'none') return null;
  if (config.ropeScaling === 'linear') return { rope_type: 'linear', factor: config.ropeFactor };
  return {
    rope_type: 'llama3',
    factor: config.ropeFactor,
    low_freq_factor: config.ropeLowFreqFactor,
    high_freq_factor: config.ropeHighFreqFactor,
    original_max_position_embeddings: config.ropeOriginalMaxPositionEmbeddings,
  };
}

/** A mixture of settings that no family has (two window sizes, a bias where none can be) cannot be written. */
function checkedRoundTrip(json: JsonObject, config: ModelConfig): JsonObject {
  const read = readModelConfig(json, 'the model configuration') as unknown as JsonObject;
  for (const [key, value] of Object.entries(config)) {
    const isUnused = config.ropeScaling !== 'llama3' && key.startsWith('rope') && key !== 'ropeTheta';
    if (isUnused || JSON.stringify(read[key]) === JSON.stringify(value)) continue;
    throw new CreamError(
      'INVALID_ARGUMENT',
      `a ${config.modelType} model cannot have ${key} = ${JSON.stringify(value)} (it would be read as ` +
        `${JSON.stringify(read[key])})`,
    );
  }
  return json;
}
