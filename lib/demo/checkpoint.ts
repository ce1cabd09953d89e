// The demo's tokenizer and model shape, in Hugging Face layout.

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolder } from '../run/storage.js';

export const BOS = 12;
export const EOS = 13;
const PAD = 14;
const VOCABULARY = [...'0123456789+=', '<s>', '</s>', '<pad>'];

/** Ids of a prompt or response; every character is a token. */
export function encode(text: string): number[] {
  return [...text].map((character) => VOCABULARY.indexOf(character));
}

export function promptIdsOf(prompt: string): number[] {
  return [BOS, ...encode(prompt)];
}

/** 100,672 parameters; the vocabulary is rounded up to a multiple of eight. */
export const MODEL_CONFIG = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  vocab_size: 24,
  hidden_size: 64,
  intermediate_size: 168,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 4,
  head_dim: 16,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  hidden_act: 'silu',
  tie_word_embeddings: false,
  attention_bias: false,
  mlp_bias: false,
  bos_token_id: BOS,
  eos_token_id: EOS,
  pad_token_id: PAD,
  torch_dtype: 'float32',
};

const special = (id: number) => ({
  id,
  content: VOCABULARY[id] as string,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
  special: true,
});

/** Byte-pair encoding without merges: one token a character, BOS in front. */
const TOKENIZER = {
  version: '1.0',
  truncation: null,
  padding: null,
  added_tokens: [BOS, EOS, PAD].map(special),
  normalizer: null,
  pre_tokenizer: null,
  post_processor: {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
    pair: [
      { SpecialToken: { id: '<s>', type_id: 0 } },
      { Sequence: { id: 'A', type_id: 0 } },
      { Sequence: { id: 'B', type_id: 1 } },
    ],
    special_tokens: { '<s>': { id: '<s>', ids: [BOS], tokens: ['<s>'] } },
  },
  decoder: { type: 'Fuse' },
  model: {
    type: 'BPE',
    dropout: null,
    unk_token: null,
    continuing_subword_prefix: null,
    end_of_word_suffix: null,
    fuse_unk: false,
    byte_fallback: false,
    ignore_merges: false,
    vocab: Object.fromEntries(VOCABULARY.slice(0, BOS).map((token, id) => [token, id])),
    merges: [],
  },
};

const TOKENIZER_CONFIG = {
  add_bos_token: true,
  add_eos_token: false,
  bos_token: '<s>',
  eos_token: '</s>',
  pad_token: '<pad>',
  clean_up_tokenization_spaces: false,
  model_max_length: MODEL_CONFIG.max_position_embeddings,
  tokenizer_class: 'PreTrainedTokenizerFast',
};

/** Writes everything of a checkpoint folder but the weights. */
export async function writeTokenizer(directory: string): Promise<void> {
  await makeFolder(directory);
  const files = {
    'tokenizer.json': TOKENIZER,
    'tokenizer_config.json': TOKENIZER_CONFIG,
    'generation_config.json': { bos_token_id: BOS, eos_token_id: EOS, pad_token_id: PAD, do_sample: true },
  };
  for (const [name, content] of Object.entries(files)) {
    await writeFile(join(directory, name), `${JSON.stringify(content, undefined, 2)}\n`);
  }
}
