import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { keysWithoutEffect, readModelConfig } from '../../lib/data/model-config.js';
import { close } from '../helpers/close.js';
import { checkpoint, type GoldenArray, readGolden, toFloats } from '../helpers/golden.js';
import { nativeModel, neverCancelled, ROUNDING } from '../helpers/native-model.js';

// Forms of config.json that transformers loads, and the log-probs that it computes with each (test/golden/configs.py).

type Json = Record<string, unknown>;

interface Golden {
  promptIds: number[];
  responseIds: number[];
  keysRead: Record<string, string[]>;
  results: GoldenArray[];
  /** Keys that are set and removed in the checkpoint's own config.json, and the number of the result. */
  variants: { name: string; checkpoint: string; config: { set: Json; remove: string[] }; result: number }[];
}
type Variant = Golden['variants'][number];

const golden = readGolden<Golden>('configs');

function configOf({ checkpoint: weights, config: { set, remove } }: Variant): Json {
  const original = JSON.parse(readFileSync(join(checkpoint(weights), 'config.json'), 'utf8')) as Json;
  const kept = Object.entries(original).filter(([key]) => !remove.includes(key));
  return { ...Object.fromEntries(kept), ...set };
}
const named = (name: string) => configOf(golden.variants.find((variant) => variant.name === name)!);

t.test('every form that transformers loads is computed as transformers computes it', async (t) => {
  const root = t.testdir({});
  const groups = [
    {
      promptIds: Int32Array.from(golden.promptIds),
      responses: [Int32Array.from(golden.responseIds)],
    },
  ];
  t.ok(golden.variants.length > 150, `${golden.variants.length} forms`);
  t.ok(golden.results.length > 20, `the forms make a difference: ${golden.results.length} results`);
  for (const [index, variant] of golden.variants.entries()) {
    const { name, checkpoint: weights, result } = variant;
    const folder = join(root, String(index));
    mkdirSync(folder);
    writeFileSync(join(folder, 'config.json'), JSON.stringify(configOf(variant)));
    for (const file of readdirSync(checkpoint(weights)).filter((file) => file.endsWith('.safetensors')))
      symlinkSync(join(checkpoint(weights), file), join(folder, file));
    const model = await nativeModel(folder);
    const options = { maxTokensPerBatch: 0, perToken: true };
    const { tokenLogprobs: actual } = await model.score(groups, options, neverCancelled());
    model.dispose();
    close(t, actual![0]![0]!, toFloats(golden.results[result]!), { atol: ROUNDING, rtol: ROUNDING }, name);
  }
});

/** Keys that transformers reads and that change no number: what is returned, how it runs, what it starts from. */
const HARMLESS = new Set(
  `architectures attention_bias auto_map base_model_ep_plan base_model_fsdp_plan base_model_pp_plan base_model_tp_plan
   bos_token_id chunk_size_feed_forward default_rope_type default_theta dtype eos_token_id gradient_checkpointing
   id2label ignore_keys_at_rope_validation initializer_range is_heterogeneous kv_sharing_modes label2id name_or_path
   max_window_layers model_type original_max_position_embeddings output_attentions output_hidden_states pad_token_id
   pretraining_tp problem_type return_dict sub_configs torch_dtype transformers_version use_cache vision_aspect_ratio
   vision_feature_layer vision_feature_select_strategy _attn_implementation _experts_implementation _name_or_path
   _output_attentions _rope_type_labels _post_init_done rope_scaling`.split(/\s+/),
);

t.test('a key that transformers reads is read here, or changes no number', async (t) => {
  for (const [family, keys] of Object.entries(golden.keysRead)) {
    const base = {
      ...named(`${family}: as it is`),
      ...(family.startsWith('qwen') && { use_sliding_window: true }),
    };
    t.ok(keys.length > 40, `${family}: ${keys.length} keys`);
    for (const key of keys) {
      const json = { ...base, [key]: { other: { deep: 7 } } };
      if (HARMLESS.has(key)) continue;
      t.throws(
        () => readModelConfig(json, 'config.json'),
        { code: 'INVALID_CHECKPOINT' },
        `${family}: ${key}`,
      );
    }
  }
});

t.test('keys without effect can be named', async (t) => {
  const keys = keysWithoutEffect(named('llama: training history'), 'config.json');
  t.ok(keys.includes('is_llama_config') && keys.includes('some_key_of_a_trainer'));
  t.notOk(keys.includes('hidden_size') || keys.includes('rope_parameters'));
});
