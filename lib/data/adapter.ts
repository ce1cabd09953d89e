import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { CreamError } from '../errors.js';
import { checkFolder, readJson, writeDurably } from './checkpoint.js';
import { ConfigReader } from './config-reader.js';

// Low-rank adapters in PEFT's format: adapter_config.json and adapter_model.safetensors. As with a checkpoint, every
// key is read, known to change nothing, or refused by name.

export const LORA_MODULES = [
  'q_proj',
  'k_proj',
  'v_proj',
  'o_proj',
  'gate_proj',
  'up_proj',
  'down_proj',
] as const;
export type LoraModule = (typeof LORA_MODULES)[number];

/** A low-rank adapter: LoRA (arXiv 2106.09685), or rsLoRA (arXiv 2312.03732) when rank-stabilised. */
export interface LoraOptions {
  rank: number;
  /** The adapter adds alpha / rank B A, or alpha / sqrt(rank) B A when rank-stabilised. */
  alpha: number;
  /** Of the adapter's inputs, in training; in [0, 1). */
  dropout: number;
  rankStabilized: boolean;
  targetModules: readonly LoraModule[];
}

export const ADAPTER_CONFIG = 'adapter_config.json';
export const ADAPTER_WEIGHTS = 'adapter_model.safetensors';

/** Only these values are computed; null and absent mean the same. */
const FIXED: Readonly<Record<string, unknown>> = {
  bias: 'none',
  fan_in_fan_out: false,
  use_dora: false,
  use_qalora: false,
  lora_bias: false,
};

/** Must be absent, null or empty. */
const REFUSED = [
  'alora_invocation_tokens',
  'alpha_pattern',
  'arrow_config',
  'kasa_config',
  'layer_replication',
  'layers_pattern',
  'layers_to_transform',
  'megatron_config',
  'modules_to_save',
  'monteclora_config',
  'rank_pattern',
  'target_parameters',
  'trainable_token_indices',
  'use_bdlora',
  'velora_config',
];

const isEmpty = (value: unknown) =>
  value === undefined || value === null || (typeof value === 'object' && Object.keys(value).length === 0);

function readModules(config: ConfigReader): LoraModule[] {
  const value = config.take('target_modules');
  if (value === 'all-linear') return [...LORA_MODULES];
  if (!Array.isArray(value) || value.length === 0) {
    config.fail(`target_modules must be a list of modules or "all-linear", got ${JSON.stringify(value)}`);
  }
  const named = (value as unknown[]).map((module) => {
    const name = typeof module === 'string' ? module.split('.').at(-1) : undefined;
    const known = LORA_MODULES.find((candidate) => candidate === name);
    return (
      known ??
      config.fail(`target_modules has ${JSON.stringify(module)}; known are ${LORA_MODULES.join(', ')}`)
    );
  });
  return LORA_MODULES.filter((module) => named.includes(module));
}

/** Reads a parsed adapter_config.json; `where` begins the messages. Throws INVALID_CHECKPOINT. */
export function readAdapterConfig(json: unknown, where: string): LoraOptions {
  const config: ConfigReader = new ConfigReader(json, where);
  const type = config.take('peft_type');
  if (type !== 'LORA') config.fail(`peft_type must be "LORA", got ${JSON.stringify(type) ?? 'nothing'}`);
  for (const [key, value] of Object.entries(FIXED)) config.mustBe(key, value);
  for (const key of REFUSED) {
    const value = config.take(key);
    if (!isEmpty(value)) config.fail(`${key} is not supported, got ${JSON.stringify(value).slice(0, 80)}`);
  }
  const init = config.take('init_lora_weights');
  if (init !== undefined && typeof init !== 'boolean' && init !== 'gaussian') {
    config.fail(
      `init_lora_weights ${JSON.stringify(init)} changes the base's weights; convert it to a plain LoRA adapter`,
    );
  }
  const options: LoraOptions = {
    rank: config.integer('r', 1, 2 ** 20),
    alpha: config.number('lora_alpha', Number.MIN_VALUE, 1e9),
    dropout: config.number('lora_dropout', 0, 1, 0),
    rankStabilized: config.boolean('use_rslora', false),
    targetModules: readModules(config),
  };
  if (options.dropout === 1) config.fail('lora_dropout must be below 1');
  return options;
}

/** The settings of an adapter folder and its file of weights. Throws INVALID_CHECKPOINT. */
export async function readAdapter(directory: string): Promise<{ options: LoraOptions; file: string }> {
  await checkFolder(directory);
  const path = join(directory, ADAPTER_CONFIG);
  const json = await readJson(path);
  const file = join(directory, ADAPTER_WEIGHTS);
  const lacks = (name: string) =>
    new CreamError(
      'INVALID_CHECKPOINT',
      `${directory}: has no ${name}; give the folder of a LoRA adapter as PEFT saves it`,
    );
  if (json === undefined) throw lacks(ADAPTER_CONFIG);
  await access(file).catch(() => {
    throw lacks(ADAPTER_WEIGHTS);
  });
  return { options: readAdapterConfig(json, path), file };
}

/** Writes adapter_config.json as PEFT reads it, flushed to disk. */
export async function writeAdapterConfig(
  directory: string,
  options: LoraOptions,
  base: string | undefined,
): Promise<void> {
  const json = {
    base_model_name_or_path: base ?? null,
    bias: 'none',
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    lora_alpha: options.alpha,
    lora_dropout: options.dropout,
    modules_to_save: null,
    peft_type: 'LORA',
    r: options.rank,
    target_modules: [...options.targetModules],
    task_type: 'CAUSAL_LM',
    use_dora: false,
    use_rslora: options.rankStabilized,
  };
  await writeDurably(join(directory, ADAPTER_CONFIG), `${JSON.stringify(json, undefined, 2)}\n`);
}
