import { CreamError } from '../errors.js';
import { refuseOtherArchitectures } from './config-architecture.js';
import { ConfigReader, type JsonObject } from './config-reader.js';
import { jsonText, setMember } from './json-text.js';
import { readRope, type Rope } from './rope-config.js';

// config.json of a Hugging Face checkpoint: which transformer it describes. The rule: what the class of that model_type
// in transformers reads is read or must have the one value that is computed here; a key that speaks of a part of other
// architectures is refused unless its value says that there is none (config-architecture.ts); any other key is one that
// transformers itself does not compute with, and is without effect. No model is computed differently in silence.

export const MODEL_TYPES = ['llama', 'mistral', 'qwen2', 'qwen3'] as const;
export type ModelType = (typeof MODEL_TYPES)[number];

export type { RopeScaling } from './rope-config.js';

/** A transformer as the engine computes it, and what else a config.json says of it. */
export interface ModelConfig extends Rope {
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
const DEFAULTS = { rmsNormEps: 1e-6, window: 4096, maxWindowLayers: 28 };
/** Where the key is absent; null means as many as there are heads of queries. */
const DEFAULT_KV_HEADS: Readonly<Record<ModelType, number | undefined>> = {
  llama: undefined,
  mistral: 8,
  qwen2: 32,
  qwen3: 32,
};

/** Only these values are computed; another one would change the result. */
const FIXED: Readonly<Record<string, unknown>> = {
  attention_dropout: 0,
  is_encoder_decoder: false,
  is_causal: true,
};

const ABSENT: Readonly<Record<string, string>> = {
  quantization_config:
    'the weights are quantised; give the unquantised checkpoint (float32, bfloat16 or float16)',
  quantization: 'the weights are quantised; give the unquantised checkpoint (float32, bfloat16 or float16)',
  compression_config:
    'the weights are compressed; give the unquantised checkpoint (float32, bfloat16 or float16)',
  per_layer_config: 'all layers are alike',
  configuration_files: 'it names another file that is read in place of this one',
  transformers_weights: 'it names other files of weights than model.safetensors',
  fusion_config: 'it rewrites the modules of the model',
  text_config: 'it is the language model of a multimodal one; save that model alone',
};

const isModelType = (value: unknown): value is ModelType =>
  (MODEL_TYPES as readonly unknown[]).includes(value);

/** Reads a parsed config.json; `where` begins the messages. Throws INVALID_CHECKPOINT. */
export function readModelConfig(json: unknown, where: string, head: ModelHead = 'language'): ModelConfig {
  return readKeys(new ConfigReader(json, where), head);
}

/** The keys of a config.json that say nothing of what is computed, in the file's order. */
export function keysWithoutEffect(json: unknown, where: string, head: ModelHead = 'language'): string[] {
  const config = new ConfigReader(json, where);
  readKeys(config, head);
  return config.remaining();
}

function readKeys(config: ConfigReader, head: ModelHead): ModelConfig {
  for (const [key, reason] of Object.entries(ABSENT)) {
    if (!config.isEmpty(key)) config.fail(`${key} is not supported: ${reason}`);
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
  if (config.take('hidden_act') !== 'swish') config.mustBe('hidden_act', 'silu'); // two names of one function

  const vocabSize = config.integer('vocab_size', 1, 2 ** 24);
  const hiddenSize = config.integer('hidden_size', 1, 2 ** 20);
  const intermediateSize = config.integer('intermediate_size', 1, 2 ** 20);
  const numLayers = config.integer('num_hidden_layers', 1, 1024);
  const numHeads = config.integer('num_attention_heads', 1, 4096);
  const fewest = config.isNull('num_key_value_heads') ? numHeads : (DEFAULT_KV_HEADS[modelType] ?? numHeads);
  const numKvHeads = config.integer('num_key_value_heads', 1, numHeads, fewest);
  if (numHeads % numKvHeads !== 0) {
    config.fail(
      `num_attention_heads (${numHeads}) must be a multiple of num_key_value_heads (${numKvHeads})`,
    );
  }
  const headDim = readHeadDim(config, modelType, hiddenSize, numHeads);
  const maxPositionEmbeddings = config.integer('max_position_embeddings', 1, 2 ** 30);
  const attentionBias = readAttentionBias(config, modelType);
  const mlpBias = readMlpBias(config, modelType);

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
    ...readRope(config, maxPositionEmbeddings),
    qkvBias: attentionBias || modelType === 'qwen2',
    oBias: attentionBias,
    mlpBias,
    qkNorm: modelType === 'qwen3',
    // The head of a classifier is never the embedding, whatever the file says.
    tieWordEmbeddings: config.boolean('tie_word_embeddings', false) && head === 'language',
    ...(head === 'reward' && { numLabels: 1 }),
    slidingWindow: readSlidingWindow(config, modelType, numLayers),
    ...readTokenIds(config),
  };
  refuseOtherArchitectures(config, modelType);
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
  if (modelType === 'mistral') config.mustBe('attention_bias', false);
  return false;
}

function readMlpBias(config: ConfigReader, modelType: ModelType): boolean {
  if (modelType === 'llama') return config.boolean('mlp_bias', false);
  config.mustBe('mlp_bias', false);
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

/** Of each layer, in tokens; 0 = the whole context. */
function readSlidingWindow(config: ConfigReader, modelType: ModelType, numLayers: number): number[] {
  const every = (window: number) => new Array<number>(numLayers).fill(window);
  const window = () =>
    config.isNull('sliding_window')
      ? undefined
      : config.integer('sliding_window', 1, 2 ** 30, DEFAULTS.window);
  const types = readLayerTypes(config, numLayers);
  if (modelType === 'llama') {
    checkLlamaWindow(config, types);
    return every(0);
  }
  if (modelType === 'mistral' && types === undefined) return every(window() ?? 0);

  const isUsed = modelType === 'mistral' || config.boolean('use_sliding_window', false);
  const size = isUsed ? window() : undefined;
  if (types === undefined) {
    if (size === undefined) return every(0);
    const firstLayer = config.integer('max_window_layers', 0, 2 ** 30, DEFAULTS.maxWindowLayers);
    return every(0).map((_, layer) => (layer >= firstLayer ? size : 0));
  }
  return types.map((type, layer) => {
    if (type === 'full_attention') return 0;
    return (
      size ?? config.fail(`layer_types[${layer}] is "sliding_attention", but no sliding window is in use`)
    );
  });
}

function readLayerTypes(config: ConfigReader, numLayers: number): string[] | undefined {
  const types = config.take('layer_types');
  if (types === undefined) return undefined;
  if (!Array.isArray(types) || types.length !== numLayers) {
    return config.fail(`layer_types must list the ${numLayers} layers, got ${JSON.stringify(types)}`);
  }
  return types.map((type: unknown, layer) => {
    if (type === 'attention') return 'full_attention'; // its older name
    if (type === 'full_attention' || type === 'sliding_attention') return type;
    return config.fail(
      `layer_types[${layer}] must be "full_attention" or "sliding_attention", got ${JSON.stringify(type)}`,
    );
  });
}

/**
 * The class of transformers computes a llama without a window, but the cache that it generates with takes one from
 * these keys: only what has no effect there either is accepted.
 */
function checkLlamaWindow(config: ConfigReader, types: readonly string[] | undefined): void {
  if (types?.includes('sliding_attention') === true) {
    config.fail('layer_types of a llama must be "full_attention": nothing else is computed');
  }
  for (const key of ['sliding_window', 'attention_chunk_size']) {
    if (!config.has(key)) continue;
    const reach = config.integer('max_position_embeddings', 1, 2 ** 30);
    const size = config.take(key);
    if (types !== undefined || (typeof size === 'number' && size >= reach)) continue;
    config.fail(
      `${key} is ${JSON.stringify(size)}, but the layers of a llama attend to the whole context; remove it if ` +
        'the model was trained so',
    );
  }
}

/** The family whose checkpoints look like this. Only for configs that were not read from a file. */
export function inferModelType(config: Omit<ModelConfig, 'modelType'>): ModelType {
  if (config.qkNorm) return 'qwen3';
  if (config.qkvBias && !config.oBias) return 'qwen2';
  return config.slidingWindow.some((window) => window > 0) ? 'mistral' : 'llama';
}

/** What transformers' classes hold as floats: some of its versions refuse whole numbers in their place. */
const FLOAT_KEYS = ['rms_norm_eps', 'rope_theta', 'attention_dropout', '(?:low_freq_|high_freq_)?factor'];

/** The text of writeModelConfig. */
export const modelConfigText = (config: ModelConfig, dtype: 'float32' | 'bfloat16'): string =>
  jsonText(writeModelConfig(config, dtype), FLOAT_KEYS);

/** `text` of a config.json with another dtype of the weights, under the names of transformers 4 and 5 that it has. */
export function withDtype(text: string, dtype: string): string {
  const json = JSON.parse(text) as JsonObject;
  const named = ['dtype', 'torch_dtype'].filter((key) => Object.hasOwn(json, key));
  const keys = named.length > 0 ? named : ['torch_dtype'];
  return keys.reduce((result, key) => (json[key] === dtype ? result : setMember(result, key, dtype)), text);
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
  const types = config.slidingWindow.map((size) => (size > 0 ? 'sliding_attention' : 'full_attention'));
  if (modelType === 'mistral') {
    json.sliding_window = window ?? null;
    if (new Set(types).size > 1) json.layer_types = types;
  }
  if (modelType === 'qwen2' || modelType === 'qwen3') {
    json.use_sliding_window = window !== undefined;
    json.sliding_window = window ?? null;
    json.layer_types = types;
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
