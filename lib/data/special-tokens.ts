import type { AddedToken } from '@huggingface/tokenizers';
import { CreamError } from '../errors.js';

// Finds special tokens in text and hides those that come from users. A chat template may write "<|im_end|>" and
// mean the token; a user who writes it means ten characters.

/** Text between special tokens, or one special token. */
export type Section = { text: string } | { id: number };

export interface Hiding {
  readonly hide: (text: string) => string;
  readonly reveal: (text: string) => string;
}

export class SpecialTokens {
  readonly ids: ReadonlySet<number>;
  readonly #byContent: ReadonlyMap<string, AddedToken>;
  readonly #pattern: RegExp | undefined;
  readonly #characters: ReadonlySet<string>;

  constructor(tokens: readonly AddedToken[]) {
    const special = tokens.filter((token) => token.special);
    this.ids = new Set(special.map((token) => token.id));
    this.#byContent = new Map(special.map((token) => [token.content, token]));
    // The longest of those that begin at the same place, as in the Rust library.
    const contents = [...this.#byContent.keys()].sort((a, b) => b.length - a.length);
    if (contents.length > 0) this.#pattern = new RegExp(contents.map(escapePattern).join('|'), 'g');
    this.#characters = new Set(contents.join('').replace(/\s/g, ''));
  }

  split(text: string): Section[] {
    if (this.#pattern === undefined) return [{ text }];
    const sections: Section[] = [];
    let end = 0;
    let stripNext = false;
    const addText = (piece: string, stripEnd: boolean) => {
      let kept = stripNext ? piece.trimStart() : piece;
      if (stripEnd) kept = kept.trimEnd();
      if (kept !== '') sections.push({ text: kept });
    };
    for (const match of text.matchAll(this.#pattern)) {
      const token = this.#byContent.get(match[0]) as AddedToken;
      addText(text.slice(end, match.index), token.lstrip);
      sections.push({ id: token.id });
      end = match.index + match[0].length;
      stripNext = token.rstrip;
    }
    addText(text.slice(end), false);
    return sections;
  }

  /**
   * Hides special tokens in the contents of one conversation; undefined when there are none. Each special token inside a content gets a first character that
   * occurs in none of `texts` (contents and template), so that the template's text operations see a text of the same
   * length, no special token is found in the result, and undoing it afterwards is exact.
   */
  hiding(texts: readonly string[]): Hiding | undefined {
    const pattern = this.#pattern;
    const firsts = new Set<string>();
    for (const text of texts) {
      if (pattern !== undefined) for (const match of text.matchAll(pattern)) firsts.add(match[0].charAt(0));
    }
    if (pattern === undefined || firsts.size === 0) return undefined;
    const free = unusedCharacters(texts, firsts.size);
    const hidden = new Map([...firsts].map((first, i) => [first, free[i] as string]));
    const revealed = new Map([...hidden].map(([first, hider]) => [hider, first]));
    const hiders = new RegExp(`[${free.join('')}]`, 'g');
    return {
      hide: (text) => text.replace(pattern, (token) => (hidden.get(token.charAt(0)) ?? '') + token.slice(1)),
      reveal: (text) => text.replace(hiders, (hider) => revealed.get(hider) ?? hider),
    };
  }

  /** The first special token that stands in a text. */
  firstIn(text: string): string | undefined {
    if (this.#pattern === undefined) return undefined;
    this.#pattern.lastIndex = 0;
    return this.#pattern.exec(text)?.[0];
  }

  /**
   * A function that replaces every character that special tokens are made of by one that occurs in none of them. Words
   * that a template's source holds as text of its own, such as "</think>", stay, so that it still finds them: those of
   * which no part can be part of a special token.
   */
  neutralizer(source: string): (text: string) => string {
    const words = [
      ...new Set(Array.from(source.matchAll(/'([^'\n]{2,64})'|"([^"\n]{2,64})"/g), wordOf)),
    ].filter((word) => this.#isApart(word));
    const characters = [...this.#characters].map(escapePattern);
    if (characters.length === 0) return (text) => text;
    const longestFirst = words.sort((a, b) => b.length - a.length).map(escapePattern);
    const pattern = new RegExp([...longestFirst, ...characters].join('|'), 'gu');
    const kept = new Set(words);
    return (text) => text.replace(pattern, (match) => (kept.has(match) ? match : NEUTRAL));
  }

  /** No special token can begin, end or lie within the word, nor around it. */
  #isApart(word: string): boolean {
    for (const token of this.#byContent.keys()) {
      if (token.includes(word) || word.includes(token)) return false;
      for (let length = 1; length < Math.min(word.length, token.length); length += 1) {
        if (token.endsWith(word.slice(0, length)) || token.startsWith(word.slice(-length))) return false;
      }
    }
    return true;
  }
}

const wordOf = (match: RegExpMatchArray) => (match[1] ?? match[2] ?? '').replace(/\\n/g, '\n');

const PRIVATE_USE_START = 0xe000;
const PRIVATE_USE_END = 0xf8ff;
const NEUTRAL = String.fromCharCode(PRIVATE_USE_END);

function unusedCharacters(texts: readonly string[], count: number): string[] {
  const used = new Set<number>();
  for (const text of texts) {
    for (let i = 0; i < text.length; i += 1) {
      const code = text.charCodeAt(i);
      if (code >= PRIVATE_USE_START && code <= PRIVATE_USE_END) used.add(code);
    }
  }
  const free: string[] = [];
  for (let code = PRIVATE_USE_START; code < PRIVATE_USE_END && free.length < count; code += 1) {
    if (!used.has(code)) free.push(String.fromCharCode(code));
  }
  if (free.length < count)
    throw new CreamError('INVALID_DATA', 'a conversation uses every private-use character');
  return free;
}

function escapePattern(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
}
