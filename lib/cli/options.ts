import { CreamError } from '../errors.js';

/** One `--name value` of a command. Every value is read as text and parsed here, so that a message can quote it. */
export interface Option<T> {
  readonly describe: string;
  readonly parse: (text: string, name: string) => T;
  readonly isFlag: boolean;
  readonly isRequired: boolean;
  readonly alias?: string;
  readonly choices?: readonly string[];
  /** Value when the option is not given. */
  readonly fallback: T;
  /** How the help names the fallback. */
  readonly fallbackText?: string;
}

export type Options = Readonly<Record<string, Option<unknown>>>;

/** What a handler receives: one typed value per option. */
export type Values<O extends Options> = { readonly [K in keyof O]: O[K] extends Option<infer T> ? T : never };

interface Common {
  alias?: string;
  defaultText?: string;
}

interface Range {
  min?: number;
  max?: number;
  /** Excludes `min` itself. */
  above?: number;
}

function option<T>(
  describe: string,
  parse: (text: string, name: string) => T,
  common: Common & { fallback?: T; isRequired?: boolean; isFlag?: boolean; choices?: readonly string[] },
): Option<T> {
  return {
    describe,
    parse,
    isFlag: common.isFlag ?? false,
    isRequired: common.isRequired ?? false,
    fallback: common.fallback as T,
    ...(common.alias !== undefined && { alias: common.alias }),
    ...(common.choices !== undefined && { choices: common.choices }),
    ...(typeof common.fallback === 'string' || typeof common.fallback === 'number'
      ? { fallbackText: String(common.fallback) }
      : common.defaultText !== undefined && { fallbackText: common.defaultText }),
  };
}

function nonEmpty(text: string, name: string): string {
  if (text === '') throw new CreamError('USAGE', `--${name} must not be empty`);
  return text;
}

/** A file or folder. */
export function path(describe: string, common: Common & { required: true }): Option<string>;
export function path(describe: string, common?: Common): Option<string | undefined>;
export function path(
  describe: string,
  common: Common & { required?: true } = {},
): Option<string | undefined> {
  return option<string | undefined>(describe, nonEmpty, { ...common, isRequired: common.required ?? false });
}

/** Any text, the empty one included. */
export function text(describe: string, common: Common = {}): Option<string | undefined> {
  return option<string | undefined>(describe, (value) => value, common);
}

/** One text, or several as a JSON list. */
export function texts(describe: string, common: Common = {}): Option<readonly string[] | undefined> {
  const parse = (value: string, name: string): readonly string[] => {
    let list: unknown = [value];
    if (value.trim().startsWith('[')) {
      try {
        list = JSON.parse(value);
      } catch {
        throw new CreamError('USAGE', `--${name} is no JSON list of texts: ${quote(value)}`);
      }
    }
    if (!Array.isArray(list) || !list.every((one) => typeof one === 'string' && one !== ''))
      throw new CreamError('USAGE', `--${name} must be a text or a JSON list of texts, got ${quote(value)}`);
    return list as string[];
  };
  return option<readonly string[] | undefined>(describe, parse, common);
}

/** Variables of the chat template: a JSON object, or one NAME=VALUE, whose value is JSON or else text. */
export function variables(describe: string): Option<Readonly<Record<string, unknown>> | undefined> {
  const parse = (given: string, name: string): Readonly<Record<string, unknown>> => {
    const assigned = /^\s*([A-Za-z_]\w*)=(.*)$/s.exec(given);
    if (assigned !== null) return { [assigned[1]!]: jsonOr(assigned[2]!, assigned[2]!) };
    const value = jsonOr(given, undefined);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value };
    throw new CreamError('USAGE', `--${name} must be NAME=VALUE or a JSON object, got ${quote(given)}`);
  };
  return option<Readonly<Record<string, unknown>> | undefined>(describe, parse, {});
}

function jsonOr(text: string, other: unknown): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return other;
  }
}

export function flag(describe: string, common: Common = {}): Option<boolean> {
  return option<boolean>(describe, () => true, { ...common, isFlag: true, fallback: false });
}

/** One of a few words. */
export function choice<const C extends string>(
  describe: string,
  choices: readonly C[],
  common: Common & { default: C },
): Option<C>;
export function choice<const C extends string>(
  describe: string,
  choices: readonly C[],
  common?: Common,
): Option<C | undefined>;
export function choice<const C extends string>(
  describe: string,
  choices: readonly C[],
  common: Common & { default?: C } = {},
): Option<C | undefined> {
  const parse = (value: string, name: string): C => {
    const found = choices.find((word) => word.toLowerCase() === value.toLowerCase());
    if (found === undefined) {
      throw new CreamError('USAGE', `--${name} must be one of ${choices.join(', ')}, got ${quote(value)}`);
    }
    return found;
  };
  const { default: fallback, ...rest } = common;
  return option<C | undefined>(describe, parse, {
    ...rest,
    choices,
    ...(fallback !== undefined && { fallback }),
  });
}

export function integer(describe: string, common: Common & Range & { default: number }): Option<number>;
export function integer(describe: string, common?: Common & Range): Option<number | undefined>;
export function integer(
  describe: string,
  common: Common & Range & { default?: number } = {},
): Option<number | undefined> {
  return numeric(describe, 'a whole number', (value) => Number.isSafeInteger(value), common);
}

export function number(describe: string, common: Common & Range & { default: number }): Option<number>;
export function number(describe: string, common?: Common & Range): Option<number | undefined>;
export function number(
  describe: string,
  common: Common & Range & { default?: number } = {},
): Option<number | undefined> {
  return numeric(describe, 'a number', Number.isFinite, common);
}

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

function numeric(
  describe: string,
  noun: string,
  isAllowed: (value: number) => boolean,
  { default: fallback, min, max, above, ...common }: Common & Range & { default?: number },
): Option<number | undefined> {
  const bounds = [
    ...(above !== undefined ? [`above ${above}`] : []),
    ...(min !== undefined ? [`at least ${min}`] : []),
    ...(max !== undefined ? [`at most ${max}`] : []),
  ];
  const wanted = [noun, ...(bounds.length > 0 ? [bounds.join(' and ')] : [])].join(' ');
  const parse = (value: string, name: string): number => {
    const parsed = NUMBER.test(value.trim()) ? Number(value) : Number.NaN;
    const isInRange =
      (min === undefined || parsed >= min) &&
      (max === undefined || parsed <= max) &&
      (above === undefined || parsed > above);
    if (!isAllowed(parsed) || !isInRange) {
      throw new CreamError('USAGE', `--${name} must be ${wanted}, got ${quote(value)}`);
    }
    return parsed;
  };
  return option<number | undefined>(describe, parse, {
    ...common,
    ...(fallback !== undefined && { fallback }),
  });
}

const LARGEST_SEED = 2n ** 64n - 1n;

/** The one number from which everything random follows: 0 to 2^64 - 1, exactly. */
export function seed(): Option<bigint> {
  const parse = (value: string, name: string): bigint => {
    const parsed = /^\d+$/.test(value.trim()) ? BigInt(value) : -1n;
    if (parsed < 0n || parsed > LARGEST_SEED) {
      throw new CreamError(
        'USAGE',
        `--${name} must be a whole number from 0 to 2^64 - 1, got ${quote(value)}`,
      );
    }
    return parsed;
  };
  return option<bigint>('everything random follows from this number', parse, {
    fallback: 0n,
    defaultText: '0',
  });
}

export function quote(value: string): string {
  return value === '' ? 'nothing' : JSON.stringify(value);
}

/** Options of every command that loads a model. */
export const MODEL_OPTIONS = {
  device: text('where to compute: auto, cpu, cuda, cuda:0', { defaultText: 'auto' }),
  dtype: choice('number format of weights and activations', ['auto', 'float32', 'bfloat16'], {
    default: 'auto',
  }),
  threads: integer('CPU threads', { min: 1, defaultText: 'all cores' }),
} as const satisfies Options;

/** Option of every command that uses one model as it is. */
export const ADAPTER_OPTION = {
  adapter: path('folder of a LoRA adapter over the model, as cream run or PEFT saves it'),
} as const satisfies Options;

/** How prompts become conversations. */
export const CHAT_OPTIONS = {
  chat: flag("put text prompts into the model's chat template as a user's turn"),
  chatTemplate: variables('variables of the chat template, as enable_thinking=false or a JSON object'),
} as const satisfies Options;

/** Which turns of a conversation are learnt. */
export const LOSS_OPTION = {
  loss: choice(
    'of a conversation (messages), what is learnt: all turns of the assistant, the last, or what the chat template marks as generated',
    ['all', 'last', 'template'],
    { default: 'all' },
  ),
} as const satisfies Options;

export const PREFIX_OPTION = {
  prefixMismatch: choice(
    'where the chat template writes a prompt otherwise before a response: the response begins where both part, as in TRL, or the row is refused',
    ['part', 'error'],
    { default: 'part' },
  ),
} as const satisfies Options;

export const READ_AT_OPTION = {
  readAt: choice(
    "where a reward model's logit is read: at the last token that the chat template writes, as in TRL's RewardTrainer, or at the one that ends the turn",
    ['conversation-end', 'turn-end'],
    { default: 'conversation-end' },
  ),
} as const satisfies Options;

/** maxNewTokens -> max-new-tokens */
export function kebab(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
