import type { LoraOptions } from './adapter.js';
import { ConfigReader } from './config-reader.js';
import { type ModuleSelection, selected, valuesByPattern } from './module-patterns.js';

// adapter_config.json of PEFT 0.2x. As with a checkpoint, a key is read, is known to change nothing, or must say that
// what it speaks of is not there. Keys that PEFT does not know are ignored, as PEFT does.

export interface AdapterConfig {
  options: Omit<LoraOptions, 'targetModules' | 'modules'>;
  selection: ModuleSelection;
  rankPattern: Readonly<Record<string, number>>;
  alphaPattern: Readonly<Record<string, number>>;
}

/** Must be absent, null, false or empty: what would be computed otherwise, and what to do about it. */
const ABSENT: Readonly<Record<string, string>> = {
  use_dora: 'it is a DoRA adapter, whose magnitudes are not computed; merge it into its base with PEFT',
  use_qalora: 'it pools inputs by groups',
  use_bdlora: 'its factors are block-diagonal',
  lora_bias: 'its factors have biases',
  modules_to_save: 'it holds whole modules besides the factors; merge it into its base with PEFT',
  trainable_token_indices: 'it changes rows of the embedding; merge it into its base with PEFT',
  target_parameters: 'it adapts parameters that are no linear modules',
  alora_invocation_tokens: 'it is active after some tokens only',
  layer_replication: 'it repeats layers of the base',
  arrow_config: 'it chooses between several adapters',
  kasa_config: 'it truncates the weights of the base',
  monteclora_config: 'it draws its factors at random',
  velora_config: 'it compresses activations in training (VeLoRA), which is not done here',
  megatron_config: "it is for Megatron's modules",
};

/** Initialisations that leave the base alone, and null for none. */
const PLAIN_INITIALISATIONS = new Set<unknown>([
  true,
  false,
  undefined,
  'gaussian',
  'eva',
  'orthogonal',
  'mica',
]);
const CHANGES_BASE = /^(pissa(_niter_\d+)?|olora|corda|lora_ga)$/;

/** Reads a parsed adapter_config.json; `where` begins the messages. Throws INVALID_CHECKPOINT. */
export function readAdapterConfig(json: unknown, where: string): AdapterConfig {
  const config: ConfigReader = new ConfigReader(json, where);
  const type = config.take('peft_type');
  if (type !== 'LORA') config.fail(`peft_type must be "LORA", got ${JSON.stringify(type) ?? 'nothing'}`);
  config.mustBe('bias', 'none');
  for (const [key, reason] of Object.entries(ABSENT)) {
    if (config.isEmpty(key)) continue;
    const value = JSON.stringify(config.take(key)).slice(0, 80);
    config.fail(`${key} is not supported, got ${value}: ${reason}`);
  }
  checkInitialisation(config);
  const options = {
    rank: config.integer('r', 1, 2 ** 20),
    alpha: config.number('lora_alpha', Number.MIN_VALUE, 1e9),
    dropout: config.number('lora_dropout', 0, 1, 0),
    rankStabilized: config.boolean('use_rslora', false),
  };
  if (options.dropout === 1) config.fail('lora_dropout must be below 1');
  return {
    options,
    selection: readSelection(config),
    rankPattern: readPattern(config, 'rank_pattern', (value) => Number.isInteger(value) && value >= 1),
    alphaPattern: readPattern(config, 'alpha_pattern', (value) => value > 0 && value <= 1e9),
  };
}

function checkInitialisation(config: ConfigReader): void {
  const init = config.take('init_lora_weights');
  const name = typeof init === 'string' ? init.toLowerCase() : init;
  if (PLAIN_INITIALISATIONS.has(name)) return;
  const shown = `init_lora_weights ${JSON.stringify(init)}`;
  if (name === 'loftq') {
    config.fail(`${shown} replaces the base's weights by quantised ones; merge it into that base with PEFT`);
  }
  if (CHANGES_BASE.test(String(name))) {
    config.fail(
      `${shown} changes the base's weights; convert it to a plain LoRA adapter, with PEFT's save_pretrained(folder, ` +
        'path_initial_model_for_weight_conversion=folder of the adapter before training)',
    );
  }
  config.fail(`${shown} is not known, and might change the base's weights`);
}

const isText = (value: unknown): value is string => typeof value === 'string';

/** A text is a pattern; a list holds names and ends of names. */
function readNames(config: ConfigReader, key: string): string | readonly string[] | undefined {
  const value = config.take(key);
  if (value === undefined || isText(value)) return value;
  if (Array.isArray(value) && value.every(isText)) return value;
  return config.fail(`${key} must be a pattern or a list of module names, got ${JSON.stringify(value)}`);
}

function readSelection(config: ConfigReader): ModuleSelection {
  const target = readNames(config, 'target_modules');
  if (target === undefined || target.length === 0) {
    config.fail('target_modules must be a list of modules, a pattern or "all-linear", and is empty');
  }
  const given = config.take('layers_to_transform');
  const numbers: unknown[] = Array.isArray(given) ? given : given === undefined ? [] : [given];
  const isLayer = (value: unknown): value is number => Number.isSafeInteger(value);
  if (!numbers.every(isLayer)) {
    config.fail(`layers_to_transform must be numbers of layers, got ${JSON.stringify(given)}`);
  }
  const lists = readNames(config, 'layers_pattern') ?? [];
  const layersPattern = typeof lists === 'string' ? (lists === '' ? [] : [lists]) : lists;
  if (isText(target) && (given !== undefined || layersPattern.length > 0)) {
    config.fail(
      'layers_to_transform and layers_pattern go with a list of target_modules, not with a pattern',
    );
  }
  const isAllLinear = isText(target) && target.toLowerCase() === 'all-linear';
  return {
    targetModules: isAllLinear ? '.*' : target,
    excludeModules: readNames(config, 'exclude_modules') ?? [],
    layers: numbers.length === 0 ? undefined : numbers,
    layersPattern,
  };
}

function readPattern(
  config: ConfigReader,
  key: string,
  isValid: (value: number) => boolean,
): Readonly<Record<string, number>> {
  const entries = Object.entries(config.object(key)?.json ?? {});
  const isNumber = (entry: [string, unknown]): entry is [string, number] =>
    typeof entry[1] === 'number' && isValid(entry[1]);
  const wrong = entries.find((entry) => !isNumber(entry));
  if (wrong !== undefined) {
    config.fail(
      `${key}[${JSON.stringify(wrong[0])}] must be a positive number, got ${JSON.stringify(wrong[1])}`,
    );
  }
  return Object.fromEntries(entries.filter(isNumber));
}

/**
 * The modules with an adapter, of the model's `names`. `ranks` are those of the file, by name. What the configuration
 * names must be in the file and the reverse; a pattern that only Python reads is taken on the file's word, except for
 * alpha, which the file does not tell.
 */
export function modulesOf(
  { options, selection, rankPattern, alphaPattern }: AdapterConfig,
  where: string,
  names: readonly string[],
  ranks: ReadonlyMap<string, number>,
): { name: string; rank: number; alpha: number }[] {
  const fail = (message: string) => new ConfigReader({}, where).fail(message);
  try {
    const isSelected = selected(selection, names) ?? names.map((name) => ranks.has(name));
    const listed = (wanted: (name: string, i: number) => boolean) => {
      const found = names.filter(wanted);
      return found.length === 0
        ? undefined
        : `${found.slice(0, 3).join(', ')}${found.length > 3 ? ', ...' : ''}`;
    };
    const target = JSON.stringify(selection.targetModules);
    if (!isSelected.includes(true)) fail(`target_modules ${target} names no linear module of the layers`);
    const missing = listed((name, i) => isSelected[i] === true && !ranks.has(name));
    if (missing !== undefined) fail(`target_modules names ${missing}, which the file of weights lacks`);
    const extra = listed((name, i) => isSelected[i] !== true && ranks.has(name));
    if (extra !== undefined)
      fail(`the file of weights has ${extra}, which target_modules ${target} does not name`);

    const found = names.filter((_, i) => isSelected[i] === true);
    const rankOf = valuesByPattern(rankPattern, found);
    const alphaOf = valuesByPattern(alphaPattern, found);
    if (alphaOf === null)
      return fail('alpha_pattern has a pattern that only Python reads; write names in its place');
    return found.map((name, i) => ({
      name,
      rank: rankOf === null ? (ranks.get(name) as number) : (rankOf[i] ?? options.rank),
      alpha: alphaOf[i] ?? options.alpha,
    }));
  } catch (error) {
    if (error instanceof RangeError) fail(error.message);
    throw error;
  }
}
