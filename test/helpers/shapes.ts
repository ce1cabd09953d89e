import { readModelConfig } from '../../lib/data/model-config.js';

// Shapes of published checkpoints, from their config.json, with the number of parameters that their model cards state.

const llama = (rest: object) => ({
  model_type: 'llama',
  architectures: ['LlamaForCausalLM'],
  vocab_size: 128_256,
  rms_norm_eps: 1e-5,
  rope_theta: 500_000,
  max_position_embeddings: 8192,
  ...rest,
});
const qwen2 = (rest: object) => ({
  model_type: 'qwen2',
  architectures: ['Qwen2ForCausalLM'],
  vocab_size: 151_936,
  rms_norm_eps: 1e-6,
  rope_theta: 1_000_000,
  max_position_embeddings: 32_768,
  ...rest,
});

/** [hidden, feed-forward, layers, heads, heads of keys and values] */
const sizes = (hidden: number, inner: number, layers: number, heads: number, kvHeads: number) => ({
  hidden_size: hidden,
  intermediate_size: inner,
  num_hidden_layers: layers,
  num_attention_heads: heads,
  num_key_value_heads: kvHeads,
});

const LLAMA_3_8B = { config: llama(sizes(4096, 14_336, 32, 32, 8)), parameters: 8_030_261_248 };

const PUBLISHED = {
  'Meta-Llama-3-8B': LLAMA_3_8B,
  'Llama-3.1-8B-Instruct': LLAMA_3_8B,
  'Llama-2-7b-hf': {
    config: llama({ vocab_size: 32_000, max_position_embeddings: 4096, ...sizes(4096, 11_008, 32, 32, 32) }),
    parameters: 6_738_415_616,
  },
  'Llama-3.2-1B-Instruct': {
    config: llama({ tie_word_embeddings: true, ...sizes(2048, 8192, 16, 32, 8) }),
    parameters: 1_235_814_400,
  },
  'Llama-3.2-3B-Instruct': {
    config: llama({ tie_word_embeddings: true, ...sizes(3072, 8192, 28, 24, 8) }),
    parameters: 3_212_749_824,
  },
  'Qwen2.5-0.5B-Instruct': {
    config: qwen2({ tie_word_embeddings: true, ...sizes(896, 4864, 24, 14, 2) }),
    parameters: 494_032_768,
  },
  'Qwen2.5-1.5B-Instruct': {
    config: qwen2({ tie_word_embeddings: true, ...sizes(1536, 8960, 28, 12, 2) }),
    parameters: 1_543_714_304,
  },
  'Qwen2.5-7B-Instruct': {
    config: qwen2({ vocab_size: 152_064, ...sizes(3584, 18_944, 28, 28, 4) }),
    parameters: 7_615_616_512,
  },
  'Qwen3-4B': {
    config: qwen2({
      model_type: 'qwen3',
      architectures: ['Qwen3ForCausalLM'],
      head_dim: 128,
      tie_word_embeddings: true,
      ...sizes(2560, 9728, 36, 32, 8),
    }),
    parameters: 4_022_468_096,
  },
};

/** The shape of a published model by the name of its repository. */
export function publishedShape(name: string) {
  const found = PUBLISHED[name as keyof typeof PUBLISHED] as (typeof PUBLISHED)['Qwen3-4B'] | undefined;
  if (found === undefined) throw new Error(`the shape of ${name} is not in test/helpers/shapes.ts`);
  return { shape: readModelConfig(found.config, name), parameters: found.parameters };
}
