import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { AddedToken } from '@huggingface/tokenizers';
import { CreamError } from '../errors.js';
import { checkFolder } from './checkpoint.js';
import { quote } from './jsonl.js';

// What a model folder says about text: tokenizer.json, tokenizer_config.json, special_tokens_map.json,
// chat_template.jinja and the token ids of generation_config.json and config.json. The folder is hostile input:
// every field is checked before it is used, everything else in these files is ignored.

export type JsonObject = Record<string, unknown>;

export interface TokenizerFiles {
  directory: string;
  /** tokenizer.json as it is. */
  tokenizer: JsonObject;
  addedTokens: AddedToken[];
  bosToken?: string;
  eosToken?: string;
  /** bos_token, eos_token, unk_token, pad_token: variables of the chat template. */
  namedTokens: Record<string, string>;
  /** Explicit add_bos_token of tokenizer_config.json. */
  addBosToken?: boolean;
  chatTemplate?: string;
  /** Stop tokens of generation_config.json and of config.json, in this order. */
  eosIds: number[];
  /** vocab_size of config.json. */
  modelVocabSize?: number;
}

/** tokenizer.json of the largest published vocabularies is about 35 MB. */
const MAX_FILE_BYTES = 256 * 1024 * 1024;

export async function readTokenizerFiles(directory: string): Promise<TokenizerFiles> {
  await checkFolder(directory);
  const tokenizer = await readJson(directory, 'tokenizer.json');
  if (tokenizer === undefined) {
    const hint =
      'save the tokenizer in the fast format (tokenizer.save_pretrained in Python) or copy the file';
    throw invalid(directory, 'tokenizer.json', `is missing; ${hint}`);
  }
  const config = (await readJson(directory, 'tokenizer_config.json')) ?? {};
  const specialTokensMap = (await readJson(directory, 'special_tokens_map.json')) ?? {};
  const generationConfig = (await readJson(directory, 'generation_config.json')) ?? {};
  const modelConfig = (await readJson(directory, 'config.json')) ?? {};

  const files: TokenizerFiles = {
    directory,
    tokenizer,
    addedTokens: readAddedTokens(directory, tokenizer),
    namedTokens: {},
    eosIds: [
      ...readIds(directory, 'generation_config.json', generationConfig),
      ...readIds(directory, 'config.json', modelConfig),
    ],
  };
  for (const name of ['bos_token', 'eos_token', 'unk_token', 'pad_token']) {
    const token = tokenContent(directory, name, own(config, name) ?? own(specialTokensMap, name));
    if (token !== undefined) files.namedTokens[name] = token;
  }
  addNamedTokens(files);
  if (files.namedTokens.bos_token !== undefined) files.bosToken = files.namedTokens.bos_token;
  if (files.namedTokens.eos_token !== undefined) files.eosToken = files.namedTokens.eos_token;
  const addBosToken = own(config, 'add_bos_token');
  if (typeof addBosToken === 'boolean') files.addBosToken = addBosToken;
  const vocabSize = own(modelConfig, 'vocab_size');
  if (Number.isSafeInteger(vocabSize)) files.modelVocabSize = vocabSize as number;

  const chatTemplate =
    (await readText(directory, 'chat_template.jinja')) ??
    namedTemplate(directory, own(config, 'chat_template'));
  if (chatTemplate !== undefined) files.chatTemplate = chatTemplate;
  return files;
}

/** A token that the configuration names is special, though tokenizer.json has it as another one or in its vocabulary alone. */
function addNamedTokens({ tokenizer, addedTokens, namedTokens }: TokenizerFiles): void {
  const known = new Map(addedTokens.map((token) => [token.content, token]));
  const model = own(tokenizer, 'model');
  const vocab = isObject(model) ? own(model, 'vocab') : undefined;
  for (const content of new Set(Object.values(namedTokens))) {
    const token = known.get(content);
    if (token !== undefined) token.special = true;
    if (token !== undefined || !isObject(vocab)) continue;
    const id = own(vocab, content);
    if (!isId(id)) continue;
    const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false };
    addedTokens.push({ id, content, ...flags, special: true });
  }
}

/** chat_template is text, or a list of {name, template} of which "default" is meant. */
function namedTemplate(directory: string, value: unknown): string | undefined {
  if (value === undefined || typeof value === 'string') return value;
  if (Array.isArray(value)) {
    const names: unknown[] = [];
    for (const entry of value as unknown[]) {
      const name = isObject(entry) ? own(entry, 'name') : undefined;
      const template = isObject(entry) ? own(entry, 'template') : undefined;
      if (name === 'default' && typeof template === 'string') return template;
      names.push(name);
    }
    const found = quote(names);
    throw invalid(
      directory,
      'tokenizer_config.json',
      `chat_template has no entry named "default" (only ${found})`,
    );
  }
  throw invalid(
    directory,
    'tokenizer_config.json',
    `chat_template must be text or a list, got ${quote(value)}`,
  );
}

function readAddedTokens(directory: string, tokenizer: JsonObject): AddedToken[] {
  const list = own(tokenizer, 'added_tokens') ?? [];
  if (!Array.isArray(list)) throw invalid(directory, 'tokenizer.json', 'added_tokens must be a list');
  return (list as unknown[]).map((entry) => {
    const id = isObject(entry) ? own(entry, 'id') : undefined;
    const content = isObject(entry) ? own(entry, 'content') : undefined;
    if (!isObject(entry) || !isId(id) || typeof content !== 'string' || content === '') {
      throw invalid(
        directory,
        'tokenizer.json',
        `added_tokens holds ${quote(entry)}; wanted {id, content, ...}`,
      );
    }
    return {
      id,
      content,
      single_word: own(entry, 'single_word') === true,
      lstrip: own(entry, 'lstrip') === true,
      rstrip: own(entry, 'rstrip') === true,
      normalized: own(entry, 'normalized') === true,
      special: own(entry, 'special') === true,
    };
  });
}

/** eos_token_id: a number, a list of numbers, or nothing. */
function readIds(directory: string, file: string, config: JsonObject): number[] {
  const value = own(config, 'eos_token_id');
  if (value === undefined) return [];
  const ids: unknown[] = Array.isArray(value) ? value : [value];
  for (const id of ids) {
    if (!isId(id))
      throw invalid(directory, file, `eos_token_id must be a token id or a list, got ${quote(value)}`);
  }
  return ids as number[];
}

/** A token is written as text or as an AddedToken {content}. */
function tokenContent(directory: string, name: string, value: unknown): string | undefined {
  if (value === undefined) return undefined;
  const content = isObject(value) ? own(value, 'content') : value;
  if (typeof content === 'string') return content;
  throw invalid(directory, 'tokenizer_config.json', `${name} must be text or {content}, got ${quote(value)}`);
}

async function readJson(directory: string, file: string): Promise<JsonObject | undefined> {
  const text = await readText(directory, file);
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw invalid(directory, file, 'is not valid JSON; copy the file again', cause);
  }
  if (!isObject(value)) throw invalid(directory, file, 'must hold a JSON object');
  return value;
}

async function readText(directory: string, file: string): Promise<string | undefined> {
  const path = join(directory, file);
  try {
    const { size } = await stat(path);
    if (size > MAX_FILE_BYTES)
      throw invalid(directory, file, `is ${size} bytes; at most ${MAX_FILE_BYTES} are read`);
    return await readFile(path, 'utf8');
  } catch (cause) {
    if (cause instanceof CreamError) throw cause;
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
    if (code === 'ENOENT') return undefined;
    if (code === 'ENOTDIR')
      throw invalid(directory, file, 'cannot be read: the model must be a folder', cause);
    throw new CreamError('IO', `${path}: cannot be read (${code})`, { cause });
  }
}

function invalid(directory: string, file: string, what: string, cause?: unknown): CreamError {
  const message = `${join(directory, file)}: ${what}`;
  return new CreamError('INVALID_CHECKPOINT', message, cause === undefined ? {} : { cause });
}

/** Own property; JSON null counts as absent. */
export function own(object: JsonObject, key: string): unknown {
  return Object.hasOwn(object, key) ? (object[key] ?? undefined) : undefined;
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isId(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 31;
}
