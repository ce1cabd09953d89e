import { TemplateError } from './errors.js';

// Splits a template into tokens as Jinja2's lexer does with trim_blocks and lstrip_blocks.

export interface Token {
  /** "data", "name", "string", "integer", "float", an operator, or the begin or end of a tag. */
  type: string;
  value: string;
  line: number;
}

/** White space as Python knows it (str.isspace), for the inside of a character class. */
export const PYTHON_SPACE =
  '\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';

const SPACES = new RegExp(`[${PYTHON_SPACE}]+`, 'y');
const TRAILING = new RegExp(`[${PYTHON_SPACE}]$`);
const ONLY_SPACES = new RegExp(`^[${PYTHON_SPACE}]+$`);
const TAG = /\{[{%#]/g;
const RAW_BEGIN = new RegExp(
  `\\{%([-+]?)[${PYTHON_SPACE}]*raw[${PYTHON_SPACE}]*(?:-%\\}[${PYTHON_SPACE}]*|%\\})`,
  'y',
);
const RAW_END = new RegExp(
  `\\{%([-+]?)[${PYTHON_SPACE}]*endraw[${PYTHON_SPACE}]*(?:\\+%\\}|-%\\}[${PYTHON_SPACE}]*|%\\}\\n?)`,
  'g',
);
const BLOCK_END = new RegExp(`\\+%\\}|-%\\}[${PYTHON_SPACE}]*|%\\}\\n?`, 'y');
const VARIABLE_END = new RegExp(`-\\}\\}[${PYTHON_SPACE}]*|\\}\\}`, 'y');
const NUMBERS_AND_NAMES: readonly (readonly [string, RegExp])[] = [
  ['float', /(?<!\.)(?:\d+_)*\d+(?:(?:\.(?:\d+_)*\d+)?e[+-]?(?:\d+_)*\d+|\.(?:\d+_)*\d+)/iy],
  ['integer', /0b(?:_?[01])+|0o(?:_?[0-7])+|0x(?:_?[\da-f])+|[1-9](?:_?\d)*|0(?:_?0)*/iy],
  ['name', /[\p{L}\p{N}\p{M}\p{Pc}]+/uy],
  ['string', /'[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\]*(?:\\.[^"\\]*)*"/sy],
  ['operator', /\*\*|\/\/|==|!=|>=|<=|[-+/*%~[\](){}><=.:|,;]/y],
];
const CLOSING: Readonly<Record<string, string>> = { '{': '}', '(': ')', '[': ']' };

const countLines = (text: string): number => text.split('\n').length - 1;

function trimEnd(text: string): string {
  let end = text.length;
  while (end > 0 && TRAILING.test(text.charAt(end - 1))) end -= 1;
  return text.slice(0, end);
}

class Lexer {
  readonly tokens: Token[] = [];
  readonly #source: string;
  #at = 0;
  #line = 1;
  #isAtLineStart = true;

  constructor(source: string) {
    const lines = source.replace(/\r\n|\r/g, '\n');
    this.#source = lines.endsWith('\n') ? lines.slice(0, -1) : lines;
  }

  run(): Token[] {
    while (this.#at < this.#source.length) {
      TAG.lastIndex = this.#at;
      const found = TAG.exec(this.#source);
      if (found === null) {
        this.#data(this.#source.slice(this.#at), '', false);
        break;
      }
      const text = this.#source.slice(this.#at, found.index);
      const raw = this.#match(RAW_BEGIN, found.index);
      if (raw !== undefined) {
        this.#data(text, raw[1] ?? '', true);
        this.#advance(found.index, raw[0]);
        this.#raw();
        continue;
      }
      const sign = /[-+]/.test(this.#source.charAt(found.index + 2))
        ? this.#source.charAt(found.index + 2)
        : '';
      const opening = found[0];
      this.#data(text, sign, opening !== '{{');
      this.#advance(found.index, opening + sign);
      if (opening === '{#') this.#comment();
      else if (opening === '{%') this.#tag('block_begin', 'block_end', BLOCK_END);
      else this.#tag('variable_begin', 'variable_end', VARIABLE_END);
    }
    this.#push('eof', '');
    return this.tokens;
  }

  #fail(message: string): never {
    throw new TemplateError(`TemplateSyntaxError: ${message} (line ${this.#line})`);
  }

  #push(type: string, value: string): void {
    this.tokens.push({ type, value, line: this.#line });
  }

  #match(pattern: RegExp, at: number): RegExpExecArray | undefined {
    pattern.lastIndex = at;
    return pattern.exec(this.#source) ?? undefined;
  }

  #advance(from: number, text: string): void {
    this.#at = from + text.length;
    this.#line += countLines(text);
    this.#isAtLineStart = text.endsWith('\n');
  }

  /** Text in front of a tag, without what the tag's sign or lstrip_blocks takes away. */
  #data(text: string, sign: string, isBlock: boolean): void {
    let kept = text;
    if (sign === '-') kept = trimEnd(text);
    else if (sign !== '+' && isBlock) {
      const lineStart = text.lastIndexOf('\n') + 1;
      if ((lineStart > 0 || this.#isAtLineStart) && ONLY_SPACES.test(text.slice(lineStart))) {
        kept = text.slice(0, lineStart);
      }
    }
    if (kept !== '') this.#push('data', kept);
    this.#line += countLines(text);
  }

  #comment(): void {
    const end = this.#source.indexOf('#}', this.#at);
    if (end < 0) this.#fail('Missing end of comment tag');
    const sign = end > this.#at ? this.#source.charAt(end - 1) : '';
    let after = '#}';
    if (sign === '-') after += this.#match(SPACES, end + 2)?.[0] ?? '';
    else if (sign !== '+' && this.#source.charAt(end + 2) === '\n') after += '\n';
    this.#line += countLines(this.#source.slice(this.#at, end));
    this.#advance(end, after);
  }

  #raw(): void {
    const end = this.#match(RAW_END, this.#at);
    if (end === undefined) this.#fail('Missing end of raw directive');
    this.#data(this.#source.slice(this.#at, end.index), end[1] ?? '', true);
    this.#advance(end.index, end[0]);
  }

  #tag(begin: string, endType: string, endPattern: RegExp): void {
    this.#push(begin, '');
    const open: string[] = [];
    while (this.#at < this.#source.length) {
      const end = open.length === 0 ? this.#match(endPattern, this.#at) : undefined;
      if (end !== undefined) {
        this.#push(endType, '');
        this.#advance(this.#at, end[0]);
        return;
      }
      const spaces = this.#match(SPACES, this.#at);
      if (spaces !== undefined) {
        this.#advance(this.#at, spaces[0]);
        continue;
      }
      const [type, text] = this.#inTag();
      if (type === 'operator') {
        const closing = CLOSING[text];
        if (closing !== undefined) open.push(closing);
        else if (/[\])}]/.test(text)) {
          const expected = open.pop();
          if (expected === undefined) this.#fail(`unexpected '${text}'`);
          if (expected !== text) this.#fail(`unexpected '${text}', expected '${expected}'`);
        }
        this.#push(text, text);
      } else if (type === 'string')
        this.#push(
          'string',
          unescapeText(text.slice(1, -1), (m) => this.#fail(m)),
        );
      else {
        if (type === 'name' && !/^[\p{XID_Start}_]\p{XID_Continue}*$/u.test(text)) {
          this.#fail(`Invalid character in identifier ${text}`);
        }
        this.#push(type, type === 'name' ? text : text.replaceAll('_', ''));
      }
      this.#advance(this.#at, text);
    }
    this.#fail('unexpected end of template');
  }

  #inTag(): readonly [string, string] {
    for (const [type, pattern] of NUMBERS_AND_NAMES) {
      const found = this.#match(pattern, this.#at);
      if (found !== undefined) return [type, found[0]];
    }
    return this.#fail(`unexpected char '${this.#source.charAt(this.#at)}'`);
  }
}

const SINGLE_ESCAPES: Readonly<Record<string, string>> = {
  n: '\n',
  t: '\t',
  r: '\r',
  b: '\b',
  f: '\f',
  v: '\v',
  a: '\x07',
  '\n': '',
  '\\': '\\',
  "'": "'",
  '"': '"',
};

/** Python's unicode-escape: unknown escapes keep their backslash. */
function unescapeText(text: string, fail: (message: string) => never): string {
  if (!text.includes('\\')) return text;
  return text.replace(
    /\\(x.{0,2}|u.{0,4}|U.{0,8}|N(?:\{[^}]*\})?|[0-7]{1,3}|.)/gsu,
    (whole, body: string) => {
      const first = body.charAt(0);
      if (first === 'N') return fail('\\N{...} in a string is not supported');
      if (/[xuU]/.test(first)) {
        const digits = body.slice(1);
        const wanted = { x: 2, u: 4, U: 8 }[first as 'x' | 'u' | 'U'];
        if (digits.length !== wanted || !/^[\da-f]+$/i.test(digits))
          return fail(`truncated \\${first} escape`);
        const codePoint = Number.parseInt(digits, 16);
        return codePoint > 0x10ffff ? fail('illegal Unicode character') : String.fromCodePoint(codePoint);
      }
      if (/[0-7]/.test(first)) return String.fromCharCode(Number.parseInt(body, 8));
      const codePoint = body.codePointAt(0) as number;
      if (codePoint > 0x7f) {
        // Jinja2 writes the character as an escape first, whose backslash the one in front of it then takes.
        const hex = codePoint.toString(16);
        if (codePoint <= 0xff) return `\\x${hex}`;
        return codePoint <= 0xffff ? `\\u${hex.padStart(4, '0')}` : `\\U${hex.padStart(8, '0')}`;
      }
      return SINGLE_ESCAPES[body] ?? whole;
    },
  );
}

export function tokenize(source: string): Token[] {
  return new Lexer(source).run();
}
