import { basename } from 'node:path';
import { CreamError } from '../errors.js';
import type { Message, PromptInput, ResponseInput, TemplateInputs } from '../types.js';
import { ForeignValue } from './foreign-value.js';
import { field, fieldAsRead, type JsonlRow, quote, rowError } from './jsonl.js';
import { checkMessages, refuseForeign, RESERVED_VARIABLES } from './messages.js';

// Typed access to the fields of one JSONL row. Each fault is an error with file and line.

/** The row's `id` as text, or one made of the file's name and the line. */
export function rowId(row: JsonlRow): string {
  const id = exactText(row, 'id') ?? field(row, 'id');
  if (id === undefined) return `${basename(row.path).replace(/\.(jsonl?|parquet)$/, '')}-${row.line}`;
  if (typeof id === 'string' && id !== '') return id;
  // Numbers are read so that this is the text of the file.
  if (typeof id === 'number' && /^-?\d+$/.test(String(id))) return String(id);
  throw rowError(row, `id must be text or a whole number, got ${quote(id)}`);
}

export function has(row: JsonlRow, ...keys: string[]): boolean {
  return keys.every((key) => fieldAsRead(row, key) !== undefined);
}

/** The digits of a number that no double holds. */
function exactText(row: JsonlRow, key: string): string | undefined {
  const value = fieldAsRead(row, key);
  return value instanceof ForeignValue && value.isExactNumber ? value.text : undefined;
}

export function text(row: JsonlRow, key: string): string {
  const value = field(row, key);
  if (typeof value === 'string') return value;
  throw rowError(row, `${key} must be text, got ${value === undefined ? 'nothing' : quote(value)}`);
}

export function nonEmptyText(row: JsonlRow, key: string): string {
  const value = text(row, key);
  if (value.trim() === '') throw rowError(row, `${key} is empty; give it text or remove the row`);
  return value;
}

/** Text or a number, as text; undefined when the row has none. */
export function optionalLabel(row: JsonlRow): string | undefined {
  const value = exactText(row, 'label') ?? field(row, 'label');
  if (value === undefined) return undefined;
  if (typeof value === 'string' && value.trim() !== '') return value.trim();
  if (typeof value === 'number') return String(value);
  throw rowError(row, `label must be text or a number, got ${quote(value)}`);
}

export function messages(row: JsonlRow, key: string): Message[] {
  return located(row, key, () => checkMessages(field(row, key)));
}

/** `prompt` as text or as messages that end before the assistant's turn. */
export function promptField(row: JsonlRow): PromptInput {
  const value = field(row, 'prompt');
  if (typeof value === 'string') return value;
  if (!Array.isArray(value))
    throw rowError(row, `prompt must be text or a list of messages, got ${quote(value)}`);
  return openConversation(row, 'prompt', messages(row, 'prompt'));
}

/** A conversation in which it is the assistant's turn. */
export function openConversation(row: JsonlRow, key: string, conversation: Message[]): Message[] {
  const last = conversation.at(-1)?.role;
  if (last === 'assistant') {
    throw rowError(row, `${key} ends with the assistant's turn; it must end before it, with a user's`);
  }
  if (!conversation.some((message) => message.role === 'user')) {
    throw rowError(row, `${key} has no message of the user`);
  }
  return conversation;
}

/**
 * Text, or messages from the assistant's turn on. One message that has nothing but text is that text.
 */
export function responseField(row: JsonlRow, key: string): ResponseInput {
  const value = field(row, key);
  if (!Array.isArray(value)) return text(row, key);
  return asResponse(row, key, messages(row, key));
}

/** Messages that answer a prompt. */
export function asResponse(row: JsonlRow, key: string, conversation: readonly Message[]): ResponseInput {
  const [first, ...others] = conversation;
  if (first?.role !== 'assistant' || (others.at(-1) ?? first).role !== 'assistant') {
    throw rowError(row, `${key} must be text, or messages that begin and end with the assistant's`);
  }
  const isText = others.length === 0 && Object.keys(first).length === 2 && typeof first.content === 'string';
  return isText ? (first.content as string) : conversation;
}

/**
 * The row's `tools`, `documents` and `chat_template_kwargs`, for the chat template. tools may be JSON text, as in TRL.
 * Beside a prompt that is text, documents of another form are some column that is none of the template's.
 */
export function templateInputs(row: JsonlRow): TemplateInputs {
  const inputs: TemplateInputs = {};
  if (has(row, 'tools')) inputs.tools = objectList(row, 'tools');
  const isConversation = ['prompt', 'messages', 'chosen'].some((key) => Array.isArray(field(row, key)));
  if (has(row, 'documents') && (isConversation || isObjectList(field(row, 'documents')))) {
    inputs.documents = objectList(row, 'documents');
  }
  if (has(row, 'chat_template_kwargs')) {
    const variables = field(row, 'chat_template_kwargs');
    if (typeof variables !== 'object' || variables === null || Array.isArray(variables)) {
      throw rowError(row, `chat_template_kwargs must be an object {name: value}, got ${quote(variables)}`);
    }
    const reserved = RESERVED_VARIABLES.find((name) => Object.hasOwn(variables, name));
    if (reserved !== undefined) {
      throw rowError(row, `chat_template_kwargs sets ${reserved}, which the row's own fields decide`);
    }
    inputs.chat_template_kwargs = variables as Record<string, unknown>;
  }
  located(row, 'the chat template', () => refuseForeign(inputs, 'what the row gives it'));
  return inputs;
}

const isObjectList = (value: unknown): value is readonly unknown[] =>
  Array.isArray(value) &&
  value.every((entry) => typeof entry === 'object' && entry !== null && !Array.isArray(entry));

function objectList(row: JsonlRow, key: string): readonly unknown[] {
  let value = field(row, key);
  if (typeof value === 'string') {
    try {
      value = JSON.parse(value);
    } catch {
      throw rowError(row, `${key} is text that is not JSON: ${quote(value)}`);
    }
  }
  if (isObjectList(value)) return value;
  throw rowError(row, `${key} must be a list of objects, got ${quote(value)}`);
}

/** A list of token ids; the model's vocabulary is checked where they are used. */
export function idsField(row: JsonlRow, key: string): number[] {
  const value = field(row, key);
  if (
    Array.isArray(value) &&
    (value as unknown[]).every((id) => Number.isInteger(id) && (id as number) >= 0)
  ) {
    return value as number[];
  }
  throw rowError(row, `${key} must be a list of token ids, got ${quote(value)}`);
}

export function finiteNumber(row: JsonlRow, key: string): number {
  const value = field(row, key);
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  throw rowError(row, `${key} must be a finite number, got ${quote(value)}`);
}

/**
 * Letters or digits and their texts: an object, a list of texts (A, B, ...), or {text: [], label: []}. Null counts as
 * absent: tools with fixed columns give a problem the options that other problems have.
 */
export function optionalChoices(row: JsonlRow): Record<string, string> | undefined {
  const value = field(row, 'choices');
  if (value === undefined) return undefined;
  const given = choiceEntries(row, value);
  const entries = given.filter(([, choice]) => choice !== null);
  if (given.length > 0 && entries.length === 0) return undefined;
  for (const [letter, choice] of entries) {
    if (typeof letter !== 'string' || !/^([A-Z]|[1-9])$/.test(letter)) {
      throw rowError(row, `choices has the key ${quote(letter)}; keys are single letters A-Z or digits 1-9`);
    }
    if (typeof choice !== 'string' || choice.trim() === '') {
      throw rowError(row, `choice ${letter} must be text, got ${quote(choice)}`);
    }
  }
  const choices = Object.fromEntries(entries) as Record<string, string>;
  if (Object.keys(choices).length !== entries.length || entries.length < 2) {
    throw rowError(row, 'choices must have at least two options with different letters');
  }
  return choices;
}

function choiceEntries(row: JsonlRow, value: unknown): [unknown, unknown][] {
  if (Array.isArray(value)) {
    // An option left out would rename the ones after it.
    const length = value.findLastIndex((choice) => choice !== null) + 1;
    const texts = (value as unknown[]).slice(0, length);
    if (texts.includes(null)) throw rowError(row, `choices has null among its options: ${quote(texts)}`);
    return texts.map((choice, i) => [String.fromCharCode(65 + i), choice]);
  }
  if (typeof value !== 'object') {
    throw rowError(row, `choices must be an object {A: ..., B: ...} or a list, got ${quote(value)}`);
  }
  const { text: texts, label: labels } = value as { text?: unknown; label?: unknown };
  const isColumns = Array.isArray(texts) && Array.isArray(labels) && texts.length === labels.length;
  return isColumns
    ? (labels as unknown[]).map((label, i) => [label, (texts as unknown[])[i]])
    : Object.entries(value as object);
}

/** The row's keys, for messages. */
export function keysOf(row: JsonlRow): string {
  const keys = Object.keys(row.value);
  return keys.length === 0 ? 'no keys' : keys.slice(0, 12).map(quote).join(', ');
}

function located<T>(row: JsonlRow, key: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof CreamError)) throw error;
    throw rowError(row, `${key}: ${error.message}`, error);
  }
}
