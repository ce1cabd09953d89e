import type { ConfigReader } from './config-reader.js';

// Keys of a config.json that speak of something that the class of its model_type does not compute, but other
// architectures do. transformers ignores them in such a file, in silence; weights that were trained with them would be
// computed wrongly. They are recognised by what their names say, and refused unless the value says that there is none.

/** What such a key speaks of, as families of transformers 5 name it. */
const MECHANISMS: readonly [RegExp, string][] = [
  [/soft_?cap/, 'logits are capped'],
  [
    /(^|_)(multipliers?|scale_emb|scale_depth|logit_scale|logits_scal(e|ing)|embedding_scale|scale_embedding)$/,
    'activations or logits are scaled',
  ],
  [
    /^(query_pre_attn_scalar|dim_model_base|attn_temperature_tuning|attn_scale|floor_scale)$/,
    'attention or logits are scaled',
  ],
  [/qk_?(layer_?)?norm/, 'queries and keys are normalised'],
  [/clip_qkv|attention_clip/, 'queries, keys and values are clipped'],
  [/parallel_(attn|attention|residual|block)/, 'attention and MLP are computed side by side'],
  [
    /^(num|n|use)_(.*_)?experts?($|_)|^moe_|_moe_|^router_|decoder_sparse_step/,
    'the MLP is a mixture of experts',
  ],
  [/^no_?(rope|pe)_layer|^nope_/, 'some layers are not rotated'],
  [/mrope|rope_interleaved|interleaved_rope/, 'positions are rotated otherwise'],
  [/alibi/, 'positions are biases of the attention'],
  [/cross_attention_layers|add_cross_attention/, 'there is attention to another sequence'],
  [/bidirectional/, 'attention looks ahead'],
  [/(^|_)(kv|q)_lora_rank|multi_head_latent/, 'attention is latent'],
  [/kv_shar|shared_kv|share_kv|layer_sharing/, 'layers share keys and values'],
  [/(attn|attention)_(output_)?gate|gated_attention/, 'attention is gated'],
  [/attention_sinks?$/, 'attention has sinks'],
  [/^(mamba|ssm)_|^linear_(attn|num|key|value|conv)_/, 'some layers are recurrent'],
  [/(^|_)(post|sandwich)_?norm/, 'norms stand elsewhere'],
  [/^attention_chunk_size$/, 'attention is local'],
];
const ACTIVATION = /^(hidden_activation|activation_function)$/;

/** Values with which the mechanism is off, or a factor changes nothing; of a list, for every layer. */
const saysNone = (value: unknown): boolean =>
  value === 0 || value === '' || isOff(value) || (isCollection(value) && Object.values(value).every(isOff));
const isOff = (value: unknown) => value === null || value === false || value === 1; // 1 = rotated, in no_rope_layers
const isCollection = (value: unknown): value is object => typeof value === 'object' && value !== null;

/** Throws INVALID_CHECKPOINT for the first key of the file that speaks of another architecture. */
export function refuseOtherArchitectures(config: ConfigReader, modelType: string): void {
  for (const key of config.remaining()) {
    const value = config.json[key];
    const what = ACTIVATION.test(key)
      ? value !== 'silu' && value !== 'swish' && 'the MLP has another activation'
      : MECHANISMS.find(([pattern]) => pattern.test(key))?.[1];
    const isOwn = modelType === 'qwen3' && value === true && /qk_?(layer_?)?norm/.test(key);
    if (what === undefined || what === false || isOwn || saysNone(value)) continue;
    config.fail(
      `${JSON.stringify(key)} is not known for model_type ${modelType} and says that ${what}, which is not ` +
        `computed (it is ${JSON.stringify(value).slice(0, 80)}); remove it if the model was trained without it`,
    );
  }
}
