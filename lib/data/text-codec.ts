import { Tokenizer as Library } from '@huggingface/tokenizers';
import { CreamError } from '../errors.js';
import { quote } from './jsonl.js';
import { makeExact } from './tokenizer-steps.js';
import { isObject, type JsonObject, own, type TokenizerFiles } from './tokenizer-files.js';

// Text <-> token ids without special tokens: the part of the tokenizer that sees users' text. Special tokens are
// taken out of the vocabulary in which text is looked up, so that no text can become one.

/**
 * Where a piece of text stands. SentencePiece-type tokenizers put a space before the text that begins a sequence,
 * some also before text that follows a special token, never within a text.
 */
export type Place = 'start' | 'after-special' | 'continuation';

/** A longer text would hold up the event loop for seconds; no model has a context for it. */
const MAX_TEXT_LENGTH = 1 << 20;

export class TextCodec {
  /** One more than the largest token id. */
  readonly vocabSize: number;
  readonly #library: Record<Place, Library>;
  readonly #tokens: readonly (string | undefined)[];
  readonly #special: ReadonlySet<number>;
  readonly #unknownId: number | undefined;
  readonly #hasByteFallback: boolean;

  constructor(files: TokenizerFiles) {
    const path = `${files.directory}/tokenizer.json`;
    const model = own(files.tokenizer, 'model');
    if (!isObject(model)) throw new CreamError('INVALID_CHECKPOINT', `${path}: has no model`);
    const special = files.addedTokens.filter((token) => token.special);
    this.#special = new Set(special.map((token) => token.id));
    const unknown = own(model, 'unk_token');

    const plain: JsonObject = {
      normalizer: null,
      pre_tokenizer: null,
      decoder: null,
      ...files.tokenizer,
      post_processor: null,
      model: withoutTokens(
        model,
        new Set(special.map((token) => token.content).filter((text) => text !== unknown && !isByte(text))),
      ),
      added_tokens: files.addedTokens.filter((token) => !token.special),
    };
    const tokens: (string | undefined)[] = [];
    for (const [token, id] of vocabulary(model)) tokens[checkedId(path, token, id)] = token;
    for (const { id, content } of files.addedTokens) tokens[checkedId(path, content, id)] = content;
    this.#library = supported(path, () => placedLibraries(plain));
    this.#tokens = tokens;
    this.vocabSize = tokens.length;
    this.#unknownId = tokens.indexOf(typeof unknown === 'string' ? unknown : undefined);
    this.#hasByteFallback = JSON.stringify(plain.decoder).includes('"ByteFallback"');
  }

  encode(text: string, place: Place): number[] {
    if (text.length > MAX_TEXT_LENGTH) {
      const limit = `${text.length} characters; at most ${MAX_TEXT_LENGTH} are tokenised`;
      throw new CreamError('INVALID_DATA', `a text has ${limit}, far beyond any model's context`);
    }
    const { ids } = this.#library[place].encode(text.toWellFormed(), { add_special_tokens: false });
    for (const id of ids as (number | undefined)[]) {
      if (id === undefined)
        throw new CreamError('INVALID_DATA', 'a text has a character that the tokenizer lacks');
      const token = this.#tokens[id] ?? '';
      // A byte of a character that is no token is text, though files name such tokens special.
      if (this.#special.has(id) && id !== this.#unknownId && !isByte(token)) {
        throw new CreamError(
          'INVALID_DATA',
          `a text contains ${token}, which this tokenizer cannot take as text`,
        );
      }
    }
    return ids;
  }

  /** Ids that stand for nothing (padding of the model's vocabulary) are left out. */
  decode(ids: readonly number[], skipSpecialTokens: boolean): string {
    const tokens: string[] = [];
    for (const id of ids) {
      const token = this.#tokens[id];
      if (token !== undefined && !(skipSpecialTokens && this.#special.has(id))) tokens.push(token);
    }
    if (tokens.length === 0) return '';
    const joined = this.#hasByteFallback ? joinByteTokens(tokens) : tokens;
    const { decoder } = this.#library.start;
    return decoder === null ? joined.join(' ') : decoder.decode(joined);
  }

  idOf(token: string): number | undefined {
    const id = this.#tokens.indexOf(token);
    return id === -1 ? undefined : id;
  }

  tokenOf(id: number): string | undefined {
    return this.#tokens[id];
  }
}

const isByte = (token: string) => /^<0x[0-9A-Fa-f]{2}>$/.test(token);

const MAX_TOKEN_ID = 1 << 24;

function checkedId(path: string, token: string, id: unknown): number {
  if (typeof id === 'number' && Number.isSafeInteger(id) && id >= 0 && id < MAX_TOKEN_ID) return id;
  throw new CreamError('INVALID_CHECKPOINT', `${path}: token ${quote(token)} has the id ${quote(id)}`);
}

/** Tokens and ids as tokenizer.json writes them: an object, or a list of [token, score]. */
function vocabulary(model: JsonObject): [string, unknown][] {
  const vocab = own(model, 'vocab');
  if (isObject(vocab)) return Object.entries(vocab);
  return Array.isArray(vocab) ? (vocab as unknown[][]).map((entry, id) => [String(entry[0]), id]) : [];
}

/** The model without some tokens and the merges that make them; the same object when it has none of them. */
function withoutTokens(model: JsonObject, contents: ReadonlySet<string>): JsonObject {
  const vocab = own(model, 'vocab');
  if (!isObject(vocab) || ![...contents].some((content) => Object.hasOwn(vocab, content))) return model;
  const kept: JsonObject = {
    ...model,
    vocab: Object.fromEntries(Object.entries(vocab).filter(([token]) => !contents.has(token))),
  };
  const merges = own(model, 'merges');
  if (Array.isArray(merges)) {
    kept.merges = (merges as unknown[]).filter((merge) => {
      const pair: unknown[] = typeof merge === 'string' ? merge.split(' ') : (merge as unknown[]);
      return !contents.has(pair.join(''));
    });
  }
  return kept;
}

/** Runs the library's constructor, whose complaints are about tokenizer.json. */
function supported<T>(path: string, create: () => T): T {
  try {
    return create();
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new CreamError('INVALID_CHECKPOINT', `${path}: is not supported (${reason})`, { cause });
  }
}

function placedLibraries(plain: JsonObject): Record<Place, Library> {
  // Text that is decoded must not be "cleaned up": what was sampled is what is shown.
  const create = (json: JsonObject) =>
    makeExact(new Library(json, { clean_up_tokenization_spaces: false }), json);
  const start = create(plain);
  const afterSpecial = { ...plain, pre_tokenizer: edit(plain.pre_tokenizer, withoutFirstPrefix) };
  const continuation = {
    ...plain,
    normalizer: edit(plain.normalizer, withoutPrefix),
    pre_tokenizer: edit(plain.pre_tokenizer, withoutPrefix),
  };
  const changed = (json: JsonObject) =>
    json.pre_tokenizer !== plain.pre_tokenizer || json.normalizer !== plain.normalizer;
  return {
    start,
    'after-special': changed(afterSpecial) ? create(afterSpecial) : start,
    continuation: changed(continuation) ? create(continuation) : start,
  };
}

/** Applies `change` to a step and to the steps of a sequence; the same object when nothing changed. */
function edit(step: unknown, change: (step: JsonObject) => JsonObject | null): unknown {
  if (!isObject(step)) return step;
  for (const key of ['normalizers', 'pretokenizers']) {
    const steps = own(step, key);
    if (Array.isArray(steps)) {
      const edited = (steps as unknown[]).map((inner) => edit(inner, change));
      if (edited.every((inner, i) => inner === (steps as unknown[])[i])) return step;
      return { ...step, [key]: edited.filter((inner) => inner !== null) };
    }
  }
  return change(step);
}

function withoutFirstPrefix(step: JsonObject): JsonObject {
  const isFirst = step.type === 'Metaspace' && own(step, 'prepend_scheme') === 'first';
  return isFirst ? { ...step, prepend_scheme: 'never' } : step;
}

function withoutPrefix(step: JsonObject): JsonObject | null {
  if (step.type === 'Prepend') return null;
  if (step.type === 'Metaspace') return { ...step, prepend_scheme: 'never', add_prefix_space: false };
  if (step.type === 'ByteLevel' && own(step, 'add_prefix_space') === true)
    return { ...step, add_prefix_space: false };
  return step;
}

/**
 * Byte tokens <0xHH> in a row become the character that they spell, or one U+FFFD per byte where they spell none.
 * (The library decodes such runs in part and drops a byte order mark; the Rust library does neither.)
 */
function joinByteTokens(tokens: readonly string[]): string[] {
  const joined: string[] = [];
  let bytes: number[] = [];
  const flush = () => {
    if (bytes.length === 0) return;
    try {
      joined.push(utf8.decode(Uint8Array.from(bytes)));
    } catch {
      joined.push('\ufffd'.repeat(bytes.length));
    }
    bytes = [];
  };
  for (const token of tokens) {
    const hex = /^<0x([0-9A-Fa-f]{2})>$/.exec(token)?.[1];
    if (hex === undefined) {
      flush();
      joined.push(token);
    } else {
      bytes.push(Number.parseInt(hex, 16));
    }
  }
  flush();
  return joined;
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
