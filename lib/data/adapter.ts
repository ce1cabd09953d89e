import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { CreamError } from '../errors.js';
import { type AdapterConfig, modulesOf, readAdapterConfig } from './adapter-config.js';
import { checkFolder, readJsonText, writeDurably } from './checkpoint.js';
import { jsonText, setMember } from './json-text.js';

// Folders of low-rank adapters in PEFT's format: adapter_config.json and adapter_model.safetensors.

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

/** The adapter of one matrix. */
export interface LoraModuleOptions {
  layer: number;
  module: LoraModule;
  rank: number;
  alpha: number;
}

/** A low-rank adapter: LoRA (arXiv 2106.09685), or rsLoRA (arXiv 2312.03732) when rank-stabilised. */
export interface LoraOptions {
  rank: number;
  /** The adapter adds alpha / rank B A, or alpha / sqrt(rank) B A when rank-stabilised. */
  alpha: number;
  /** Of the adapter's inputs, in training; in [0, 1). */
  dropout: number;
  rankStabilized: boolean;
  targetModules: readonly LoraModule[];
  /** Where matrices differ: those that have an adapter, in place of rank, alpha and targetModules of every layer. */
  modules?: readonly LoraModuleOptions[];
}

export const ADAPTER_CONFIG = 'adapter_config.json';
export const ADAPTER_WEIGHTS = 'adapter_model.safetensors';

/** The name of a module in a model of transformers. */
export const moduleName = (layer: number, module: LoraModule): string =>
  `model.layers.${layer}.${LORA_MODULES.indexOf(module) < 4 ? 'self_attn' : 'mlp'}.${module}`;

export interface AdapterFiles {
  options: LoraOptions;
  /** The weights. */
  file: string;
  /** adapter_config.json as it is. */
  text: string;
}

export interface AdapterSource {
  /** Of the model under the adapter. */
  numLayers: number;
  /** Names and shapes of the tensors of a safetensors file. */
  tensorsOf: (file: string) => readonly { name: string; shape: readonly number[] }[];
}

/** The settings of an adapter folder and its file of weights. Throws INVALID_CHECKPOINT. */
export async function readAdapter(directory: string, source: AdapterSource): Promise<AdapterFiles> {
  await checkFolder(directory);
  const path = join(directory, ADAPTER_CONFIG);
  const found = await readJsonText(path);
  const file = join(directory, ADAPTER_WEIGHTS);
  const lacks = (what: string) => new CreamError('INVALID_CHECKPOINT', `${directory}: has no ${what}`);
  const advice = 'give the folder of a LoRA adapter as PEFT saves it';
  if (found === undefined) throw lacks(`${ADAPTER_CONFIG}; ${advice}`);
  const config = readAdapterConfig(found.json, path);
  const isThere = (name: string) =>
    access(name).then(
      () => true,
      () => false,
    );
  if (!(await isThere(file))) {
    const isPickled = await isThere(join(directory, 'adapter_model.bin'));
    throw lacks(
      ADAPTER_WEIGHTS +
        (isPickled
          ? '; adapter_model.bin is of a format that is not read (pickle can run code): load the adapter with PEFT ' +
            '0.6 or newer and save it again with save_pretrained(folder)'
          : `; ${advice}`),
    );
  }
  return { options: optionsOf(config, path, file, source), file, text: found.text };
}

/** Settings with the modules that the file has factors of, which must be those that the configuration names. */
function optionsOf(config: AdapterConfig, path: string, file: string, source: AdapterSource): LoraOptions {
  const { numLayers, tensorsOf } = source;
  const names = new Map<string, { layer: number; module: LoraModule }>();
  for (let layer = 0; layer < numLayers; layer++) {
    for (const module of LORA_MODULES) names.set(moduleName(layer, module), { layer, module });
  }
  const ranks = new Map<string, number>();
  for (const { name, shape } of tensorsOf(file)) {
    const module = /^base_model\.model\.(.*)\.lora_A\.weight$/.exec(name)?.[1];
    if (module !== undefined && names.has(module)) ranks.set(module, shape[0] ?? 0);
  }
  const modules = modulesOf(config, path, [...names.keys()], ranks).map(({ name, rank, alpha }) => ({
    ...(names.get(name) as { layer: number; module: LoraModule }),
    rank,
    alpha,
  }));
  return (
    uniform(config.options, modules, numLayers) ?? {
      ...config.options,
      targetModules: kinds(modules),
      modules,
    }
  );
}

const kinds = (modules: readonly LoraModuleOptions[]) =>
  LORA_MODULES.filter((module) => modules.some((other) => other.module === module));

/** The same in short where every layer has the same modules with one rank and one alpha. */
function uniform(
  options: Omit<LoraOptions, 'targetModules'>,
  modules: readonly LoraModuleOptions[],
  numLayers: number,
): LoraOptions | undefined {
  const targetModules = kinds(modules);
  const [first] = modules;
  if (first === undefined || modules.length !== numLayers * targetModules.length) return undefined;
  const { rank, alpha } = first;
  if (!modules.every((module) => module.rank === rank && module.alpha === alpha)) return undefined;
  return { ...options, rank, alpha, targetModules };
}

/**
 * Writes adapter_config.json as PEFT reads it, flushed to disk. An adapter that came from a file keeps that file's text,
 * the name of its base apart.
 */
export async function writeAdapterConfig(
  directory: string,
  options: LoraOptions,
  base: string | undefined,
  original?: string,
): Promise<void> {
  const path = join(directory, ADAPTER_CONFIG);
  if (original !== undefined) {
    const text = base === undefined ? original : setMember(original, 'base_model_name_or_path', base);
    return writeDurably(path, text);
  }
  const { modules } = options;
  const patternOf = (key: 'rank' | 'alpha') =>
    Object.fromEntries(
      (modules ?? [])
        .filter((module) => module[key] !== options[key])
        .map(({ layer, module, [key]: value }) => [moduleName(layer, module), value]),
    );
  const json = {
    alpha_pattern: patternOf('alpha'),
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
    rank_pattern: patternOf('rank'),
    target_modules: modules?.map(({ layer, module }) => moduleName(layer, module)) ?? [
      ...options.targetModules,
    ],
    task_type: 'CAUSAL_LM',
    use_dora: false,
    use_rslora: options.rankStabilized,
  };
  await writeDurably(path, jsonText(json, ['lora_dropout']));
}
