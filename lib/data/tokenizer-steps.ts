import type { Tokenizer as Library } from '@huggingface/tokenizers';
import { NO_PUNCTUATION, NOT_NORMALISED, OLD_PUNCTUATION, WITHOUT_CATEGORY } from './newer-characters.js';
import { isObject, type JsonObject, own } from './tokenizer-files.js';

// Makes the steps of the JavaScript library those of the Rust library, where they part: other white space, digits beyond
// ASCII, ways to split, tables of another version of Unicode.

/** What is touched of the library's normalizers, pre-tokenizers and decoders. */
interface Step {
  normalize: (text: string) => string;
  pre_tokenize_text: (text: string, options?: { section_index?: number }) => string[];
  pattern: RegExp | null;
  /** Of a sequence. */
  normalizers?: (Step | null)[];
  tokenizers?: (Step | null)[];
  decoders?: (Step | null)[];
  decode_chain: (tokens: string[]) => string[];
}
type Change = (step: Step, config: JsonObject) => void;

const textOf = (value: unknown, otherwise: string): string => (typeof value === 'string' ? value : otherwise);

export function makeExact(library: Library, json: JsonObject): Library {
  const { normalizer, pre_tokenizer, decoder } = library as unknown as Record<string, Step | null>;
  changeAll(normalizer, own(json, 'normalizer'), NORMALIZERS);
  changeAll(pre_tokenizer, own(json, 'pre_tokenizer'), PRE_TOKENIZERS);
  changeAll(decoder, own(json, 'decoder'), DECODERS);
  return library;
}

function changeAll(
  step: Step | null | undefined,
  config: unknown,
  changes: ReadonlyMap<string, Change>,
): void {
  if (step === null || step === undefined || !isObject(config)) return;
  const inner = own(config, 'normalizers') ?? own(config, 'pretokenizers') ?? own(config, 'decoders');
  const steps = step.normalizers ?? step.tokenizers ?? step.decoders;
  if (Array.isArray(inner) && steps !== undefined) {
    for (const [i, one] of steps.entries()) changeAll(one, (inner as unknown[])[i], changes);
    return;
  }
  changes.get(String(config.type))?.(step, config);
}

const NEWER_MARK = new RegExp(`([${NOT_NORMALISED}])`, 'u');

function normalise(text: string, form: string): string {
  if (!NEWER_MARK.test(text)) return text.normalize(form);
  // The odd parts are the separators.
  return text
    .split(NEWER_MARK)
    .map((part, i) => (i % 2 === 1 ? part : part.normalize(form)))
    .join('');
}

const NORMALIZERS: ReadonlyMap<string, Change> = new Map<string, Change>([
  ...['NFC', 'NFD', 'NFKC', 'NFKD'].map((form): [string, Change] => [
    form,
    (step) => {
      step.normalize = (text) => normalise(text, form);
    },
  ]),
  [
    'Lowercase',
    (step) => {
      // Every character by itself: a sigma at the end of a word is as any other.
      step.normalize = (text) => text.replaceAll('\u03a3', '\u03c3').toLowerCase();
    },
  ],
  [
    'Replace',
    (step, { content }) => {
      const { pattern } = step;
      // A function, for a replacement with `$` in it.
      if (pattern !== null) step.normalize = (text) => text.replaceAll(pattern, () => textOf(content, ''));
    },
  ],
  [
    'Strip',
    (step, { strip_left: left, strip_right: right }) => {
      step.normalize = (text) => {
        const rest = left === true ? text.replace(/^\p{White_Space}+/u, '') : text;
        return right === true
          ? rest.replace(/(?<!\p{White_Space})\p{White_Space}+$|^\p{White_Space}+$/u, '')
          : rest;
      };
    },
  ],
]);

/** A class of the flag v. */
const PUNCTUATION = `[[\\p{P}!-\\/:-@\\[-\`\\{-~]--[${NO_PUNCTUATION}]][${OLD_PUNCTUATION}]`;
const WORD = '\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}';
const GPT2 =
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\p{White_Space}\\p{L}\\p{N}]+|\\p{White_Space}+(?!\\P{White_Space})|\\p{White_Space}+";

interface Piece {
  text: string;
  isMatch: boolean;
}

/** The text in pieces: what the pattern matches, and what is between. */
function piecesOf(text: string, pattern: RegExp, isInverted: boolean): Piece[] {
  const pieces: Piece[] = [];
  const push = (part: string, isMatch: boolean) => {
    if (part !== '') pieces.push({ text: part, isMatch: isMatch !== isInverted });
  };
  let end = 0;
  for (const match of text.matchAll(pattern)) {
    push(text.slice(end, match.index), false);
    push(match[0], true);
    end = match.index + match[0].length;
  }
  push(text.slice(end), false);
  return pieces;
}

/** Joins each piece with the last one where `isJoined` says so of both. */
function joinPieces(pieces: readonly Piece[], isJoined: (last: Piece, piece: Piece) => boolean): string[] {
  const joined: string[] = [];
  for (const [i, piece] of pieces.entries()) {
    const last = pieces[i - 1];
    if (last !== undefined && isJoined(last, piece)) joined.push((joined.pop() as string) + piece.text);
    else joined.push(piece.text);
  }
  return joined;
}

const BEHAVIOURS: Readonly<Record<string, (pieces: readonly Piece[]) => string[]>> = {
  removed: (pieces) => pieces.filter(({ isMatch }) => !isMatch).map(({ text }) => text),
  isolated: (pieces) => pieces.map(({ text }) => text),
  contiguous: (pieces) => joinPieces(pieces, (last, piece) => last.isMatch === piece.isMatch),
  mergedwithprevious: (pieces) => joinPieces(pieces, (last, piece) => piece.isMatch && !last.isMatch),
  mergedwithnext: (pieces) => joinPieces(pieces, (last, piece) => last.isMatch && !piece.isMatch),
};

/** A pre-tokenizer that splits by a pattern. */
function splitBy(step: Step, pattern: RegExp, behaviour = 'Isolated', isInverted = false): void {
  const behave = BEHAVIOURS[behaviour.toLowerCase()] ?? BEHAVIOURS.isolated;
  if (behave !== undefined) step.pre_tokenize_text = (text) => behave(piecesOf(text, pattern, isInverted));
}

const NEWER = new RegExp(`[${WITHOUT_CATEGORY}]`, 'u');
/** Two code points that never become characters, of the lengths that characters have. */
const NO_CHARACTERS = ['\ufdd0', '\u{1fffe}'] as const;
const MASKED = new RegExp(`[${WITHOUT_CATEGORY}\ufdd0\u{1fffe}]`, 'gu');

/** Characters without a category pass the patterns as code points that have none in any version of Unicode. */
function maskNewer(step: Step): void {
  const split = step.pre_tokenize_text.bind(step);
  step.pre_tokenize_text = (text, options) => {
    if (!NEWER.test(text)) return split(text, options);
    const masked = text.replace(MASKED, (char) => NO_CHARACTERS[char.length === 1 ? 0 : 1]);
    let at = 0;
    return split(masked, options).map((piece) => {
      const start = masked.indexOf(piece, at);
      at = start + piece.length;
      return text.slice(start, at);
    });
  };
}

const PRE_TOKENIZERS: ReadonlyMap<string, Change> = new Map<string, Change>([
  [
    'ByteLevel',
    (step, config) => {
      if (config.use_regex === false) return;
      const prefix = config.add_prefix_space === true ? ' ' : '';
      // The library writes every piece in its byte alphabet; the pieces are made here.
      Object.assign(step, { use_regex: false, add_prefix_space: false });
      const encode = step.pre_tokenize_text.bind(step);
      splitBy(step, new RegExp(GPT2, 'gu'));
      maskNewer(step);
      const split = step.pre_tokenize_text;
      step.pre_tokenize_text = (text) =>
        split(text.startsWith(' ') ? text : prefix + text).flatMap((piece) => encode(piece));
    },
  ],
  [
    'Split',
    (step, { behavior, invert }) => {
      if (step.pattern === null) return;
      splitBy(step, step.pattern, textOf(behavior, 'Isolated'), invert === true);
      maskNewer(step);
    },
  ],
  [
    'Digits',
    (step, { individual_digits: isIndividual }) =>
      splitBy(step, /\p{N}/gu, isIndividual === true ? 'Isolated' : 'Contiguous'),
  ],
  [
    'Punctuation',
    (step, { behavior }) => splitBy(step, new RegExp(`[${PUNCTUATION}]`, 'gv'), textOf(behavior, 'Isolated')),
  ],
  [
    'Whitespace',
    (step) => {
      splitBy(step, new RegExp(`[${WORD}]+|[^${WORD}\\p{White_Space}]+`, 'gu'), 'Removed', true);
      maskNewer(step);
    },
  ],
  ['WhitespaceSplit', (step) => splitBy(step, /\p{White_Space}/gu, 'Removed')],
  [
    'BertPreTokenizer',
    (step) =>
      splitBy(step, new RegExp(`[^\\p{White_Space}${PUNCTUATION}]+|[${PUNCTUATION}]`, 'gv'), 'Removed', true),
  ],
  [
    'Metaspace',
    (step, { split, replacement }) => {
      if (split === false) return;
      const prepare = step.pre_tokenize_text.bind(step);
      const mark = textOf(replacement, '\u2581');
      step.pre_tokenize_text = (text, options) =>
        prepare(text, options).flatMap((whole) =>
          joinPieces(
            whole
              .split(new RegExp(`(${mark})`, 'u'))
              .filter((part) => part !== '')
              .map((part) => ({ text: part, isMatch: part === mark })),
            (last, piece) => last.isMatch && !piece.isMatch,
          ),
        );
    },
  ],
]);

/** The characters by which byte-level tokenizers write bytes. */
const BYTES: ReadonlyMap<string, number> = (() => {
  const isPrinted = (byte: number) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  const bytes = Array.from({ length: 256 }, (_, byte) => byte);
  const others = bytes.filter((byte) => !isPrinted(byte)).map((byte, i) => [256 + i, byte] as const);
  const all = [...bytes.filter(isPrinted).map((byte) => [byte, byte] as const), ...others];
  return new Map(all.map(([code, byte]) => [String.fromCodePoint(code), byte]));
})();
const utf8 = { encoder: new TextEncoder(), decoder: new TextDecoder('utf-8', { ignoreBOM: true }) };

/** The bytes that a token stands for; one with other characters in it stands for itself. */
function bytesOf(token: string): Iterable<number> {
  const bytes = Array.from(token, (char) => BYTES.get(char));
  return bytes.includes(undefined) ? utf8.encoder.encode(token) : (bytes as number[]);
}

const DECODERS: ReadonlyMap<string, Change> = new Map<string, Change>([
  [
    'ByteLevel',
    (step) => {
      step.decode_chain = (tokens) => [
        utf8.decoder.decode(Uint8Array.from(tokens.flatMap((token) => [...bytesOf(token)]))),
      ];
    },
  ],
]);
