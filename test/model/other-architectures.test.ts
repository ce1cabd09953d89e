import t from 'tap';
import { readModelConfig } from '../../lib/data/model-config.js';

// Keys of a config.json that speak of what other architectures compute: transformers ignores them in a llama, in silence.

const LLAMA = {
  model_type: 'llama',
  vocab_size: 320,
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  max_position_embeddings: 128,
};

const KEYS = [
  ['attn_logit_softcapping', 30, 'logits are capped'],
  ['final_logit_softcapping', 30, 'logits are capped'],
  ['embedding_multiplier', 12, 'activations or logits are scaled'],
  ['residual_multiplier', 0.22, 'activations or logits are scaled'],
  ['logits_scaling', 16, 'activations or logits are scaled'],
  ['logit_scale', 0.0625, 'activations or logits are scaled'],
  ['scale_emb', 12, 'activations or logits are scaled'],
  ['query_pre_attn_scalar', 256, 'attention or logits are scaled'],
  ['use_qk_norm', true, 'queries and keys are normalised'],
  ['qk_layernorm', true, 'queries and keys are normalised'],
  ['clip_qkv', 8, 'queries, keys and values are clipped'],
  ['use_parallel_residual', true, 'attention and MLP are computed side by side'],
  ['parallel_attn', true, 'attention and MLP are computed side by side'],
  ['num_local_experts', 8, 'the MLP is a mixture of experts'],
  ['num_experts_per_tok', 2, 'the MLP is a mixture of experts'],
  ['n_routed_experts', 64, 'the MLP is a mixture of experts'],
  ['moe_intermediate_size', 1024, 'the MLP is a mixture of experts'],
  ['no_rope_layers', [1, 1, 0], 'some layers are not rotated'],
  ['no_rope_layer_interval', 4, 'some layers are not rotated'],
  ['use_mrope', true, 'positions are rotated otherwise'],
  ['rope_interleaved', true, 'positions are rotated otherwise'],
  ['alibi', true, 'positions are biases of the attention'],
  ['add_cross_attention', true, 'there is attention to another sequence'],
  ['use_bidirectional_attention', true, 'attention looks ahead'],
  ['kv_lora_rank', 512, 'attention is latent'],
  ['num_kv_shared_layers', 2, 'layers share keys and values'],
  ['attn_output_gate', true, 'attention is gated'],
  ['mamba_d_state', 128, 'some layers are recurrent'],
  ['hidden_activation', 'gelu_pytorch_tanh', 'the MLP has another activation'],
] as const;

t.test('a key of another architecture is refused with what it says', async (t) => {
  for (const [key, value, what] of KEYS) {
    t.throws(
      () => readModelConfig({ ...LLAMA, [key]: value }, 'config.json'),
      {
        code: 'INVALID_CHECKPOINT',
        message: new RegExp(`"${key}" is not known for model_type llama and says that ${what}`),
      },
      key,
    );
  }
});

t.test('unless its value says that there is none', async (t) => {
  for (const [key] of KEYS) {
    if (key === 'hidden_activation') continue;
    for (const value of [null, false, 0, 1, '', [], {}]) {
      readModelConfig({ ...LLAMA, [key]: value }, 'config.json');
    }
  }
  readModelConfig({ ...LLAMA, hidden_activation: 'silu' }, 'config.json');
  readModelConfig({ ...LLAMA, no_rope_layers: [1, 1, 1], moe_layers: [false, null] }, 'config.json');
  t.pass();
});
