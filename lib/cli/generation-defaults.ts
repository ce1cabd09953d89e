import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CreamError } from '../errors.js';
import type { LogitsSettings } from '../native/logits-settings.js';

export interface GenerationDefaults {
  maxNewTokens: number;
  temperature: number;
  topP: number;
  topK: number;
  /** Penalties and bans that the file has. */
  logits: LogitsSettings;
  /** Texts before which a response ends. */
  stop: readonly string[];
  /** Settings of the file that would change what is generated and are not honoured, as "key: value". */
  ignored: string[];
}

/** What holds where neither the command line nor the model says anything: the model's own distribution. */
const FALLBACK: GenerationDefaults = {
  maxNewTokens: 256,
  temperature: 1,
  topP: 1,
  topK: 0,
  logits: {},
  stop: [],
  ignored: [],
};

/** Keys that tell of the model or of how transformers works, not of what is drawn. */
const NO_SETTING =
  /^(_.*|transformers_version|(bos|eos|pad|decoder_start|unk)_token_id|use_cache|cache_.*|output_.*|return_.*|trust_remote_code|low_memory|compile_config|disable_compile|num_return_sequences|max_time|assistant_.*|num_assistant_.*|prompt_lookup_.*|max_matching_ngram_size|is_assistant|target_lookbehind|continuous_batching_config|speculative_.*|do_sample|max_length|max_new_tokens|temperature|top_p|top_k)$/;

/** The values of other keys that change nothing; null changes nothing anywhere. */
const NEUTRAL: Record<string, unknown> = {
  num_beams: 1,
  num_beam_groups: 1,
  length_penalty: 1,
  early_stopping: false,
  diversity_penalty: 0,
  typical_p: 1,
  epsilon_cutoff: 0,
  eta_cutoff: 0,
  encoder_repetition_penalty: 1,
  encoder_no_repeat_ngram_size: 0,
  guidance_scale: 1,
  presence_penalty: 0,
  frequency_penalty: 0,
  min_length: 0,
  penalty_alpha: 0,
  remove_invalid_values: false,
  renormalize_logits: false,
  token_healing: false,
};

/**
 * Settings of a model's generation_config.json. `do_sample: false` is greedy; a file that says nothing of it samples,
 * as chat models are meant to (transformers is greedy then).
 */
export async function generationDefaults(directory: string): Promise<GenerationDefaults> {
  const path = join(directory, 'generation_config.json');
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return FALLBACK;
    throw error;
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw new CreamError('INVALID_CHECKPOINT', `${path} is not valid JSON`, { cause });
  }
  const file = new File(path, new Map(Object.entries(Object(parsed))));
  const isGreedy = file.value('do_sample') === false;
  const temperature = file.number('temperature', FALLBACK.temperature, (value) => value >= 0);
  const logits = logitsSettings(file);
  return {
    maxNewTokens: file.number('max_new_tokens', FALLBACK.maxNewTokens, isCount),
    temperature: isGreedy ? 0 : temperature,
    topP: file.number('top_p', FALLBACK.topP, (value) => value > 0 && value <= 1),
    topK: file.number('top_k', FALLBACK.topK, (value) => value === 0 || isCount(value)),
    logits,
    stop: file.list('stop_strings', (text) => typeof text === 'string' && text !== '') as string[],
    ignored: file.ignored(),
  };
}

const isCount = (value: number) => Number.isInteger(value) && value > 0;
const isId = (value: unknown): value is number => Number.isInteger(value) && (value as number) >= 0;

/** The file's penalties and bans; what changes nothing is left out. */
function logitsSettings(file: File): LogitsSettings {
  const settings: LogitsSettings = {};
  const penalty = file.number('repetition_penalty', 1, (value) => value > 0);
  if (penalty !== 1) settings.repetitionPenalty = penalty;
  const ngram = file.number('no_repeat_ngram_size', 0, (value) => value === 0 || isCount(value));
  if (ngram > 0) settings.noRepeatNgramSize = ngram;
  const minimum = file.number('min_new_tokens', 0, (value) => value === 0 || isCount(value));
  if (minimum > 0) settings.minNewTokens = minimum;
  const minP = file.number('min_p', 0, (value) => value >= 0 && value <= 1);
  if (minP > 0) settings.minP = minP;
  const words = file.list(
    'bad_words_ids',
    (word) => Array.isArray(word) && word.length > 0 && word.every(isId),
  );
  if (words.length > 0) settings.badWordsIds = words as number[][];
  const suppressed = file.list('suppress_tokens', isId);
  if (suppressed.length > 0) settings.suppressTokens = suppressed as number[];
  const first = file.list('begin_suppress_tokens', isId);
  if (first.length > 0) settings.beginSuppressTokens = first as number[];
  // One id, or a list of one; of several transformers draws any, which the engine does not.
  const forced = file.list('forced_eos_token_id', isId);
  if (forced.length === 1) settings.forcedEosId = forced[0] as number;
  if (forced.length > 1) file.leave('forced_eos_token_id');
  return settings;
}

/** Typed access to the file's settings, which remembers what was asked for. */
class File {
  readonly #path: string;
  readonly #settings: ReadonlyMap<string, unknown>;
  readonly #read = new Set<string>();

  constructor(path: string, settings: ReadonlyMap<string, unknown>) {
    this.#path = path;
    this.#settings = settings;
  }

  value(key: string): unknown {
    this.#read.add(key);
    return this.#settings.get(key) ?? undefined;
  }

  number(key: string, fallback: number, isValid: (value: number) => boolean): number {
    const value = this.value(key) ?? fallback;
    if (typeof value === 'number' && isValid(value)) return value;
    throw this.#invalid(key, value);
  }

  /** A list whose members are valid; one member may stand for a list of it. */
  list(key: string, isValid: (member: unknown) => boolean): unknown[] {
    const value = this.value(key) ?? [];
    const members: unknown[] = Array.isArray(value) ? value : [value];
    if (members.every(isValid)) return members;
    throw this.#invalid(key, value);
  }

  /** Counts a key among those that are not honoured, although it was read. */
  leave(key: string): void {
    this.#read.delete(key);
  }

  ignored(): string[] {
    return [...this.#settings]
      .filter(([key, value]) => {
        if (this.#read.has(key) || NO_SETTING.test(key) || value === null || value === undefined)
          return false;
        return value !== NEUTRAL[key];
      })
      .map(([key, value]) => `${key}: ${JSON.stringify(value)}`.slice(0, 60));
  }

  #invalid(key: string, value: unknown): CreamError {
    return new CreamError(
      'INVALID_CHECKPOINT',
      `${this.#path}: ${key} is ${JSON.stringify(value)}; correct it or remove it`,
    );
  }
}
