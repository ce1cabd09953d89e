import { readPrompt } from '../data/datasets.js';
import { field, type JsonlOptions, type JsonlRow, quote, readJsonl, rowError } from '../data/jsonl.js';
import {
  has,
  idsField,
  messages,
  openConversation,
  promptField,
  rowId,
  templateInputs,
} from '../data/rows.js';
import type { EncodingOptions } from '../data/exchange-encoder.js';
import type { Tokenizer } from '../data/tokenizer.js';
import { CreamError } from '../errors.js';
import type { PromptInput, TemplateInputs } from '../types.js';

// The rows that the stage commands read. Fields that a command does not know pass through to its output.

/** A prompt as a row gives it: text, messages, or token ids that are used as they are. */
export interface PromptRow extends TemplateInputs {
  id: string;
  /** Absent when the row gives ids alone. */
  prompt?: PromptInput;
  promptIds?: number[];
  label?: string;
}

/** A response as a row gives it. Ids are used as they are. */
export type ResponseInput = { text: string; ids?: undefined } | { ids: number[]; text?: string };

export interface ResponsesRow extends PromptRow {
  responses: ResponseInput[];
  /** Everything that the row holds, for the output. */
  fields: Readonly<Record<string, unknown>>;
}

/** All rows of a file; "-" is standard input. */
export async function readInput<T extends object>(
  path: string,
  parse: (row: JsonlRow) => T,
  signal: AbortSignal,
): Promise<T[]> {
  const { name, options } = inputSource(path, signal);
  const { records } = await readJsonl(name, parse, options);
  return records;
}

/** Name and options for the readers of lib/data. */
export function inputSource(path: string, signal: AbortSignal): { name: string; options: JsonlOptions } {
  return path === '-'
    ? { name: 'stdin', options: { signal, stream: process.stdin } }
    : { name: path, options: { signal } };
}

/** Every kind of row that has a prompt, and `promptIds`. */
export function parsePrompt(row: JsonlRow): PromptRow {
  const promptIds = givenIds(row);
  if (promptIds === undefined) {
    const { choices: _, ...record } = readPrompt(row);
    return record;
  }
  if (promptIds.length === 0)
    throw rowError(row, 'promptIds is empty; a prompt has at least one token (BOS)');
  const prompt = field(row, 'prompt');
  const isText = typeof prompt === 'string' || (Array.isArray(prompt) && typeof prompt[0] === 'object');
  return { id: rowId(row), promptIds, ...(isText && { prompt: promptField(row) }), ...templateInputs(row) };
}

/** A prompt with its `responses`, each text, `{ids}` or `{text}`. */
export function parseResponses(row: JsonlRow): ResponsesRow {
  const responses = field(row, 'responses');
  if (!Array.isArray(responses)) {
    throw rowError(row, `responses must be a list of texts or of {"ids": [...]}, got ${quote(responses)}`);
  }
  const hasPrompt = has(row, 'prompt') || has(row, 'promptIds') || !has(row, 'messages');
  const prompt: PromptRow = hasPrompt
    ? parsePrompt(row)
    : {
        id: rowId(row),
        prompt: openConversation(row, 'messages', messages(row, 'messages')),
        ...templateInputs(row),
      };
  return {
    ...prompt,
    responses: responses.map((_, i) => parseResponse(row, responses, i)),
    fields: row.value,
  };
}

function parseResponse(row: JsonlRow, responses: readonly unknown[], index: number): ResponseInput {
  const response = responses[index];
  if (typeof response === 'string') return { text: response };
  const { ids, text } = Object(response) as { ids?: unknown; text?: unknown };
  const inner = { ...row, value: { ids: Array.isArray(response) ? response : ids } };
  if (inner.value.ids !== undefined) {
    const checked = named(`responses[${index}]`, () => idsField(inner, 'ids'));
    return { ids: checked, ...(typeof text === 'string' && { text }) };
  }
  if (typeof text === 'string') return { text };
  throw rowError(row, `responses[${index}] must be text or {"ids": [...]}, got ${quote(response)}`);
}

/** `promptIds`, or in its place `prompt: {"promptIds": [...]}` or `prompt: [1, 2, 3]`. */
function givenIds(row: JsonlRow): number[] | undefined {
  if (has(row, 'promptIds')) return idsField(row, 'promptIds');
  const prompt = field(row, 'prompt');
  const ids = Array.isArray(prompt)
    ? typeof prompt[0] === 'number' && prompt
    : typeof prompt === 'object' && prompt !== null && Object.hasOwn(prompt, 'promptIds')
      ? (prompt as { promptIds: unknown }).promptIds
      : false;
  return ids === false ? undefined : idsField({ ...row, value: { promptIds: ids } }, 'promptIds');
}

/** A list of numbers where null stands for NaN, which JSON cannot hold. */
export function numberList(row: JsonlRow, key: string): number[] | undefined {
  const list = field(row, key);
  if (list === undefined) return undefined;
  if (!Array.isArray(list)) throw rowError(row, `${key} must be a list of numbers, got ${quote(list)}`);
  return list.map((value: unknown) => {
    if (value === null) return Number.NaN;
    if (typeof value === 'number') return value;
    throw rowError(row, `${key} must hold numbers, got ${quote(value)}`);
  });
}

/** Token ids of every prompt, with its id. */
export async function encodePrompts(
  tokenizer: Tokenizer,
  rows: readonly PromptRow[],
  options: EncodingOptions,
): Promise<{ id: string; ids: number[] }[]> {
  const texts = rows.flatMap(({ promptIds, prompt, ...row }) =>
    promptIds === undefined && prompt !== undefined ? [{ ...row, prompt }] : [],
  );
  const encoded = await tokenizer.promptIdsAll(texts, options);
  const idsOfText = new Map(texts.map(({ id }, i) => [id, encoded[i]!]));
  return rows.map(({ id, promptIds }) => {
    if (promptIds !== undefined) tokenizer.checkIds(promptIds, `prompt ${id}`);
    return { id, ids: promptIds ?? idsOfText.get(id)! };
  });
}

function named<T>(name: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof CreamError)) throw error;
    throw new CreamError(error.code, error.message.replace(/: /, `: ${name}.`), { cause: error });
  }
}
