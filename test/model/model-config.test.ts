import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import {
  keysWithoutEffect,
  type ModelConfig,
  readModelConfig,
  writeModelConfig,
} from '../../lib/data/model-config.js';
import { CHECKPOINTS, checkpoint } from '../helpers/golden.js';

// config.json: what is read, what is refused by name. Each published family in the form its authors ship.

type Json = Record<string, unknown>;

const LLAMA: Json = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  vocab_size: 32000,
  hidden_size: 4096,
  intermediate_size: 11008,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  max_position_embeddings: 4096,
  rms_norm_eps: 1e-5,
};
const MISTRAL: Json = {
  ...LLAMA,
  architectures: ['MistralForCausalLM'],
  model_type: 'mistral',
  num_key_value_heads: 8,
};
const QWEN2: Json = {
  ...LLAMA,
  architectures: ['Qwen2ForCausalLM'],
  model_type: 'qwen2',
  num_key_value_heads: 8,
};
const QWEN3: Json = {
  ...LLAMA,
  architectures: ['Qwen3ForCausalLM'],
  model_type: 'qwen3',
  num_key_value_heads: 8,
};
const LLAMA3_ROPE: Json = {
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 8192,
  rope_type: 'llama3',
};

const accepted: [name: string, json: Json, expected: Partial<ModelConfig>][] = [
  [
    'Llama 2, with what it leaves out',
    LLAMA,
    {
      numKvHeads: 32,
      headDim: 128,
      ropeTheta: 10000,
      ropeScaling: 'none',
      tieWordEmbeddings: false,
      qkvBias: false,
      oBias: false,
      mlpBias: false,
      qkNorm: false,
    },
  ],
  ['grouped queries', { ...LLAMA, num_key_value_heads: 8 }, { numKvHeads: 8 }],
  [
    'null is absent',
    { ...LLAMA, num_key_value_heads: null, rope_scaling: null, head_dim: null, something_new: null },
    { numKvHeads: 32, headDim: 128 },
  ],
  ['a head size of its own', { ...LLAMA, head_dim: 64 }, { headDim: 64 }],
  [
    'llama biases',
    { ...LLAMA, attention_bias: true, mlp_bias: true },
    { qkvBias: true, oBias: true, mlpBias: true },
  ],
  [
    'Llama 3.1 as of transformers 4',
    { ...LLAMA, rope_theta: 500000, rope_scaling: LLAMA3_ROPE },
    {
      ropeTheta: 500000,
      ropeScaling: 'llama3',
      ropeFactor: 8,
      ropeLowFreqFactor: 1,
      ropeHighFreqFactor: 4,
      ropeOriginalMaxPositionEmbeddings: 8192,
    },
  ],
  [
    'Llama 3.1 as of transformers 5',
    { ...LLAMA, rope_parameters: { ...LLAMA3_ROPE, rope_theta: 500000 } },
    { ropeTheta: 500000, ropeScaling: 'llama3', ropeFactor: 8 },
  ],
  [
    'linear scaling by its old key',
    { ...LLAMA, rope_scaling: { type: 'linear', factor: 4 } },
    { ropeScaling: 'linear', ropeFactor: 4 },
  ],
  [
    'linear scaling by both keys',
    { ...LLAMA, rope_scaling: { type: 'linear', rope_type: 'linear', factor: 4 } },
    { ropeScaling: 'linear', ropeFactor: 4 },
  ],
  [
    'default scaling',
    { ...LLAMA, rope_parameters: { rope_type: 'default', rope_theta: 7 } },
    { ropeScaling: 'none', ropeTheta: 7 },
  ],
  [
    'both forms that agree',
    {
      ...LLAMA,
      rope_theta: 7,
      rope_scaling: { type: 'linear', factor: 4 },
      rope_parameters: { rope_type: 'linear', factor: 4, rope_theta: 7 },
    },
    { ropeTheta: 7, ropeFactor: 4 },
  ],
  [
    'Mistral without a window',
    { ...MISTRAL, sliding_window: null },
    { slidingWindow: new Array<number>(32).fill(0) },
  ],
  [
    'Mistral with a window',
    { ...MISTRAL, sliding_window: 1024 },
    { slidingWindow: new Array<number>(32).fill(1024) },
  ],
  [
    'Mistral with windows by the types of its layers',
    {
      ...MISTRAL,
      num_hidden_layers: 3,
      sliding_window: 1024,
      layer_types: ['full_attention', 'sliding_attention', 'full_attention'],
    },
    { slidingWindow: [0, 1024, 0] },
  ],
  [
    'Mistral by its default number of key heads',
    { ...MISTRAL, num_key_value_heads: undefined },
    { numKvHeads: 8 },
  ],
  ['Mistral 7B v0.1 by default', MISTRAL, { slidingWindow: new Array<number>(32).fill(4096) }],
  [
    'Qwen2.5: a window that is not used',
    { ...QWEN2, sliding_window: 131072, use_sliding_window: false, max_window_layers: 28, use_mrope: false },
    { qkvBias: true, oBias: false, slidingWindow: new Array<number>(32).fill(0) },
  ],
  [
    'Qwen2: a window from a layer on',
    { ...QWEN2, sliding_window: 512, use_sliding_window: true, max_window_layers: 30 },
    { slidingWindow: [...new Array<number>(30).fill(0), 512, 512] },
  ],
  [
    'Qwen2: layer types rule',
    {
      ...QWEN2,
      num_hidden_layers: 2,
      sliding_window: 512,
      use_sliding_window: true,
      max_window_layers: 2,
      layer_types: ['sliding_attention', 'full_attention'],
    },
    { slidingWindow: [512, 0] },
  ],
  ['Qwen3', QWEN3, { qkNorm: true, qkvBias: false, headDim: 128 }],
  ['Qwen3 with biases', { ...QWEN3, attention_bias: true }, { qkvBias: true, oBias: true }],
  [
    'token ids',
    { ...LLAMA, bos_token_id: 1, eos_token_id: [2, 3], pad_token_id: 0 },
    { bosTokenId: 1, eosTokenIds: [2, 3], padTokenId: 0 },
  ],
  [
    'keys without effect',
    {
      ...LLAMA,
      transformers_version: '4.31.0',
      use_cache: false,
      initializer_range: 0.02,
      pretraining_tp: 1,
      attention_dropout: 0.0,
      _name_or_path: 'x',
      torch_dtype: 'float16',
      dtype: 'float16',
      temperature: 0.6,
      id2label: { 0: 'a' },
    },
    {},
  ],
];

const refused: [name: string, json: unknown, message: RegExp][] = [
  ['no object', [], /config\.json must hold a JSON object/],
  ['null', null, /must hold a JSON object/],
  ['text', 'llama', /must hold a JSON object/],
  ['nothing', {}, /model_type must be one of llama, mistral, qwen2, qwen3, got nothing/],
  ['another family', { ...LLAMA, model_type: 'gpt2' }, /model_type must be one of .*, got "gpt2"/],
  ['a name of the prototype', { ...LLAMA, model_type: 'constructor' }, /model_type must be one of/],
  ['a list as family', { ...LLAMA, model_type: ['llama'] }, /model_type must be one of/],
  [
    'quantised',
    { ...LLAMA, quantization_config: { bits: 4 } },
    /quantization_config is not supported: the weights are quantised/,
  ],
  ['compressed', { ...LLAMA, compression_config: { format: 'x' } }, /compression_config is not supported/],
  [
    'a classifier',
    { ...LLAMA, architectures: ['LlamaForSequenceClassification'] },
    /architectures must be \["LlamaForCausalLM"\]/,
  ],
  [
    'the architecture of another family',
    { ...LLAMA, architectures: ['MistralForCausalLM'] },
    /architectures must be/,
  ],
  ['attention that looks ahead', { ...QWEN2, is_causal: false }, /is_causal must be true, got false/],
  [
    'layers of their own',
    { ...LLAMA, per_layer_config: { 0: { head_dim: 8 } } },
    /per_layer_config is not supported/,
  ],
  [
    'another config',
    { ...LLAMA, configuration_files: ['config.4.0.json'] },
    /configuration_files is not supported/,
  ],
  [
    'other weights',
    { ...LLAMA, transformers_weights: 'x.safetensors' },
    /transformers_weights is not supported/,
  ],
  [
    'a part of another model',
    { ...QWEN2, text_config: { model_type: 'qwen2' } },
    /text_config is not supported/,
  ],
  ['quantised by mlx', { ...LLAMA, quantization: { bits: 4 } }, /quantization is not supported/],
  [
    'a window that the cache of transformers takes',
    { ...LLAMA, sliding_window: 512 },
    /sliding_window is 512, but the layers of a llama attend to the whole context/,
  ],
  [
    'a llama with windows',
    { ...LLAMA, num_hidden_layers: 1, layer_types: ['sliding_attention'] },
    /layer_types of a llama must be "full_attention"/,
  ],
  [
    'a mistral whose types have no window',
    { ...MISTRAL, num_hidden_layers: 1, layer_types: ['sliding_attention'], sliding_window: null },
    /no sliding window is in use/,
  ],
  [
    'another activation',
    { ...LLAMA, hidden_act: 'gelu' },
    /hidden_act must be "silu", got "gelu": nothing else is computed/,
  ],
  ['dropout', { ...LLAMA, attention_dropout: 0.1 }, /attention_dropout must be 0, got 0\.1/],
  ['part of the head rotated', { ...LLAMA, partial_rotary_factor: 0.5 }, /partial_rotary_factor must be 1/],
  ['an encoder', { ...LLAMA, is_encoder_decoder: true }, /is_encoder_decoder must be false/],
  ...(
    [
      'vocab_size',
      'hidden_size',
      'intermediate_size',
      'num_hidden_layers',
      'num_attention_heads',
      'max_position_embeddings',
    ] as const
  ).flatMap((key): [string, unknown, RegExp][] => [
    [`${key} missing`, { ...LLAMA, [key]: undefined }, new RegExp(`${key} (is missing|must be)`)],
    [
      `${key} as text`,
      { ...LLAMA, [key]: '8' },
      new RegExp(`${key} must be an integer in \\[1, \\d+\\], got "8"`),
    ],
    [`${key} of 0`, { ...LLAMA, [key]: 0 }, new RegExp(`${key} must be an integer in .* got 0`)],
    [`${key} negative`, { ...LLAMA, [key]: -4 }, new RegExp(`${key} must be an integer in .* got -4`)],
    [
      `${key} of a fraction`,
      { ...LLAMA, [key]: 1.5 },
      new RegExp(`${key} must be an integer in .* got 1\\.5`),
    ],
    [`${key} of 2^53`, { ...LLAMA, [key]: 2 ** 53 }, new RegExp(`${key} must be an integer in`)],
  ]),
  [
    'heads that do not divide',
    { ...LLAMA, num_key_value_heads: 5 },
    /num_attention_heads \(32\) must be a multiple of num_key_value_heads \(5\)/,
  ],
  [
    'more key heads than heads',
    { ...LLAMA, num_key_value_heads: 64 },
    /num_key_value_heads must be an integer in \[1, 32\], got 64/,
  ],
  [
    'a width that heads do not divide',
    { ...LLAMA, hidden_size: 4100 },
    /hidden_size \(4100\) must be a multiple of num_attention_heads \(32\)/,
  ],
  ['an odd head', { ...LLAMA, head_dim: 63 }, /must be even, got 63/],
  [
    'eps as text',
    { ...LLAMA, rms_norm_eps: '1e-5' },
    /rms_norm_eps must be a number in \[0, 1\], got "1e-5"/,
  ],
  ['a bias as number', { ...LLAMA, attention_bias: 1 }, /attention_bias must be true or false, got 1/],
  ['a tie as text', { ...LLAMA, tie_word_embeddings: 'yes' }, /tie_word_embeddings must be true or false/],
  ['Mistral with a bias', { ...MISTRAL, attention_bias: true }, /attention_bias must be false, got true/],
  ['Qwen3 with MLP biases', { ...QWEN3, mlp_bias: true }, /mlp_bias must be false/],
  [
    'yarn',
    { ...LLAMA, rope_scaling: { rope_type: 'yarn', factor: 4 } },
    /rope_scaling: rope_type must be default, linear or llama3, got "yarn"/,
  ],
  ['dynamic, by the old key', { ...LLAMA, rope_scaling: { type: 'dynamic', factor: 4 } }, /got "dynamic"/],
  [
    'longrope',
    { ...LLAMA, rope_parameters: { rope_type: 'longrope' } },
    /rope_parameters: rope_type must be .* got "longrope"/,
  ],
  [
    'a scaling without type',
    { ...LLAMA, rope_scaling: { factor: 4 } },
    /rope_scaling: "factor" is not supported/,
  ],
  ['a scaling as text', { ...LLAMA, rope_scaling: 'linear' }, /rope_scaling must hold a JSON object/],
  [
    'linear without factor',
    { ...LLAMA, rope_scaling: { type: 'linear' } },
    /rope_scaling: factor is missing/,
  ],
  ['a factor of 0', { ...LLAMA, rope_scaling: { type: 'linear', factor: 0 } }, /factor must be a number in/],
  [
    'two types',
    { ...LLAMA, rope_scaling: { type: 'linear', rope_type: 'llama3', factor: 4 } },
    /rope_type is "llama3" and type is "linear"/,
  ],
  [
    'a key of another scaling',
    { ...LLAMA, rope_scaling: { type: 'linear', factor: 4, beta_fast: 32 } },
    /"beta_fast" is not supported with this rope_type/,
  ],
  [
    'llama3 with a part missing',
    { ...LLAMA, rope_scaling: { ...LLAMA3_ROPE, low_freq_factor: undefined } },
    /low_freq_factor (is missing|must be)/,
  ],
  [
    'llama3 with crossed factors',
    { ...LLAMA, rope_scaling: { ...LLAMA3_ROPE, high_freq_factor: 1 } },
    /high_freq_factor must be larger than low_freq_factor/,
  ],
  [
    'two thetas',
    { ...LLAMA, rope_theta: 10000, rope_parameters: { rope_type: 'default', rope_theta: 500000 } },
    /rope_theta is 10000 and rope_parameters\.rope_theta is 500000/,
  ],
  [
    'two scalings',
    {
      ...LLAMA,
      rope_scaling: { type: 'linear', factor: 4 },
      rope_parameters: { rope_type: 'linear', factor: 8 },
    },
    /rope_scaling and rope_parameters contradict/,
  ],
  [
    'two scalings that share no key',
    {
      ...LLAMA,
      rope_scaling: { type: 'linear', factor: 4 },
      rope_parameters: { rope_type: 'default', rope_theta: 10000 },
    },
    /rope_scaling and rope_parameters contradict/,
  ],
  [
    'rope per layer type',
    { ...LLAMA, rope_parameters: { full_attention: { rope_type: 'default' } } },
    /"full_attention" is not supported/,
  ],
  [
    'a window of 0',
    { ...MISTRAL, sliding_window: 0 },
    /sliding_window must be an integer in \[1, \d+\], got 0/,
  ],
  [
    'layer types of another number',
    { ...QWEN2, layer_types: ['full_attention'] },
    /layer_types must list the 32 layers/,
  ],
  [
    'an unknown layer type',
    { ...QWEN2, num_hidden_layers: 1, layer_types: ['linear_attention'] },
    /layer_types\[0\] must be "full_attention" or "sliding_attention", got "linear_attention"/,
  ],
  [
    'a layer type without window',
    { ...QWEN2, num_hidden_layers: 1, layer_types: ['sliding_attention'] },
    /layer_types\[0\] is "sliding_attention", but no sliding window is in use/,
  ],
  ['a token id as text', { ...LLAMA, eos_token_id: ['</s>'] }, /eos_token_id must be a token id or a list/],
];

/** As a file would give it: without undefined. */
const parsed = (json: unknown): unknown => JSON.parse(JSON.stringify(json));

t.test('what the four families write is read', async (t) => {
  for (const [name, json, expected] of accepted) {
    const config = readModelConfig(parsed(json), 'config.json');
    t.match(config, expected, name);
  }
});

t.test('what would be computed wrongly is refused by name', async (t) => {
  for (const [name, json, message] of refused) {
    t.throws(
      () => readModelConfig(parsed(json), 'x/config.json'),
      { code: 'INVALID_CHECKPOINT', message },
      name,
    );
    t.throws(
      () => readModelConfig(parsed(json), 'x/config.json'),
      { message: /^x\/config\.json/ },
      `${name}: where`,
    );
  }
});

t.test('a polluting key has no effect', async (t) => {
  const json: unknown = JSON.parse(`${JSON.stringify(LLAMA).slice(0, -1)},"__proto__":{"head_dim":2}}`);
  t.equal(readModelConfig(json, 'config.json').headDim, 128);
  t.strictSame(keysWithoutEffect(json, 'config.json'), ['__proto__']);
  t.equal(({} as Json)['head_dim'], undefined);
});

t.test('what is written is read as the same model', async (t) => {
  for (const [name, json] of accepted) {
    const config = readModelConfig(parsed(json), 'config.json');
    const written = parsed(writeModelConfig(config, 'float32'));
    t.strictSame(readModelConfig(written, 'written'), config, name);
  }
  for (const name of CHECKPOINTS) {
    const json: unknown = JSON.parse(readFileSync(join(checkpoint(name), 'config.json'), 'utf8'));
    const config = readModelConfig(json, name);
    t.strictSame(readModelConfig(parsed(writeModelConfig(config, 'bfloat16')), 'written'), config, name);
  }
});

t.test('a mixture that no family has is not written', async (t) => {
  const config = readModelConfig(LLAMA, 'config.json');
  for (const change of [
    { qkNorm: true },
    { qkvBias: true },
    { slidingWindow: [512, ...config.slidingWindow.slice(1)] },
  ]) {
    t.throws(() => writeModelConfig({ ...config, ...change }, 'float32'), {
      code: 'INVALID_ARGUMENT',
      message: /a llama model cannot have/,
    });
  }
});
