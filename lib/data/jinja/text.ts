import { notSupported, typeError, valueError } from './errors.js';
import { capitalize, caseFold, isTitle, lower, swapCase, title } from './letter-case.js';
import { PYTHON_SPACE } from './lexer.js';
import { checkLength } from './limits.js';
import { needInt } from './numbers.js';
import { sliceText } from './operators.js';
import { hasSurrogates, iterate, Markup, Slice, textLength, Tuple, typeName, type Value } from './values.js';

// Python's methods of str. Positions are code points.

const SPACE = new RegExp(`[${PYTHON_SPACE}]`);
const SPACES = new RegExp(`[${PYTHON_SPACE}]+`);

export function needText(value: Value | undefined, what: string): string {
  if (value instanceof Markup) throw notSupported(`safe text as ${what}`);
  if (typeof value !== 'string') {
    throw typeError(`${what} must be str, not ${value === undefined ? 'missing' : typeName(value)}`);
  }
  return value;
}

const points = (text: string): readonly string[] => (hasSurrogates(text) ? Array.from(text) : text.split(''));

const inSet = (set: ReadonlySet<string>) => (char: string) => set.has(char);

/** Strips white space, or any of the characters, from the sides asked for. */
export function strip(text: string, chars: Value | undefined, left: boolean, right: boolean): string {
  const isStripped =
    chars === undefined || chars === null
      ? (char: string) => SPACE.test(char)
      : inSet(new Set(points(needText(chars, 'strip arg'))));
  const all = points(text);
  let start = 0;
  let end = all.length;
  if (left) while (start < end && isStripped(all[start] as string)) start += 1;
  if (right) while (end > start && isStripped(all[end - 1] as string)) end -= 1;
  return all.slice(start, end).join('');
}

/** Python's split() and rsplit(); `limit` < 0 means no limit. */
export function split(text: string, separator: Value, limit: number, fromRight: boolean): string[] {
  const rejoin = (parts: string[], glue: string) => {
    if (limit < 0 || parts.length <= limit + 1) return parts;
    if (fromRight) {
      const head = parts.slice(0, parts.length - limit);
      return [head.join(glue), ...parts.slice(parts.length - limit)];
    }
    return [...parts.slice(0, limit), parts.slice(limit).join(glue)];
  };
  if (separator !== null) {
    const sep = needText(separator, 'separator');
    if (sep === '') throw valueError('empty separator');
    const parts = fromRight && sep.length > 1 ? splitFromRight(text, sep) : text.split(sep);
    return rejoin(parts, sep);
  }
  const trimmed = strip(text, null, true, true);
  if (trimmed === '') return [];
  if (limit < 0) return trimmed.split(SPACES);
  // White space inside the part that is not split stays as it is, at its outer end too.
  const found: string[] = [];
  let rest = fromRight ? strip(text, null, false, true) : strip(text, null, true, false);
  const space = new RegExp(SPACES, 'g');
  if (!fromRight) {
    while (found.length < limit) {
      space.lastIndex = 0;
      const match = space.exec(rest);
      if (match === null) break;
      found.push(rest.slice(0, match.index));
      rest = rest.slice(match.index + match[0].length);
      if (rest === '') return found;
    }
    return [...found, rest];
  }
  while (found.length < limit) {
    let start = rest.length;
    while (start > 0 && !SPACE.test(rest.charAt(start - 1))) start -= 1;
    if (start === 0) break;
    found.unshift(rest.slice(start));
    rest = strip(rest.slice(0, start), null, false, true);
    if (rest === '') return found;
  }
  return [rest, ...found];
}

function splitFromRight(text: string, separator: string): string[] {
  const parts: string[] = [];
  let end = text.length;
  for (;;) {
    const at = end < separator.length ? -1 : text.lastIndexOf(separator, end - separator.length);
    if (at < 0) break;
    parts.unshift(text.slice(at + separator.length, end));
    end = at;
  }
  return [text.slice(0, end), ...parts];
}

/** The line boundaries of Python. */
const LINE_ENDS = '\\n\\r\\v\\f\\x1c-\\x1e\\x85\\u2028\\u2029';
const LINE_BREAK = new RegExp(`\\r\\n|[${LINE_ENDS}]`, 'g');

export function splitLines(text: string, keepEnds: boolean): string[] {
  const lines: string[] = [];
  let start = 0;
  for (const match of text.matchAll(LINE_BREAK)) {
    lines.push(text.slice(start, keepEnds ? match.index + match[0].length : match.index));
    start = match.index + match[0].length;
  }
  if (start < text.length) lines.push(text.slice(start));
  return lines;
}

export function replace(text: string, old: string, next: string, count: number): string {
  if (count < 0) {
    const parts = old === '' ? ['', ...points(text), ''] : text.split(old);
    checkLength(text.length + (parts.length - 1) * next.length);
    return parts.join(next);
  }
  let result = '';
  let rest = text;
  for (let i = 0; i < count; i += 1) {
    const at = old === '' && i > 0 ? (points(rest)[0]?.length ?? -1) : rest.indexOf(old);
    if (at < 0) break;
    result += rest.slice(0, at) + next;
    rest = rest.slice(at + old.length);
    checkLength(result.length);
  }
  return result + rest;
}

export function join(separator: string, texts: Iterable<string>): string {
  const parts = [...texts];
  checkLength(parts.reduce((sum, part) => sum + part.length + separator.length, 0));
  return parts.join(separator);
}

export function pad(text: string, width: number, fill: string, side: 'left' | 'right' | 'center'): string {
  const missing = checkLength(width) - textLength(text);
  if (missing <= 0) return text;
  if (side === 'left') return fill.repeat(missing) + text;
  if (side === 'right') return text + fill.repeat(missing);
  // As CPython does: an odd rest goes left where the width is odd.
  const left = Math.floor(missing / 2) + (missing & width & 1);
  return fill.repeat(left) + text + fill.repeat(missing - left);
}

const fillOf = (value: Value | undefined): string => {
  const fill = needText(value === undefined ? ' ' : value, 'the fill character');
  if (textLength(fill) !== 1) throw typeError('The fill character must be exactly one character long');
  return fill;
};

/** The part of the text from one position to another, and where it starts in the text. */
function part(
  text: string,
  start: Value | undefined,
  end: Value | undefined,
): { part: string; offset: number } {
  const length = textLength(text);
  const from = start === undefined || start === null ? 0 : needInt(start);
  const offset = Math.max(0, from < 0 ? from + length : from);
  const given = end === undefined || end === null ? length : needInt(end);
  const stop = Math.min(length, Math.max(0, given < 0 ? given + length : given));
  if (offset > stop) return { part: '', offset: Number.NaN };
  return { part: sliceText(text, new Slice(offset, stop, null)), offset };
}

function find(text: string, args: readonly (Value | undefined)[], fromRight: boolean): number {
  const wanted = needText(args[0], 'argument 1');
  const { part: inside, offset } = part(text, args[1], args[2]);
  if (Number.isNaN(offset)) return -1;
  const at = fromRight ? inside.lastIndexOf(wanted) : inside.indexOf(wanted);
  return at < 0 ? -1 : offset + textLength(inside.slice(0, at));
}

function affix(
  text: string,
  args: readonly (Value | undefined)[],
  test: (part: string, affix: string) => boolean,
) {
  const { part: inside, offset } = part(text, args[1], args[2]);
  const wanted = args[0] instanceof Tuple ? args[0].items : [args[0]];
  return wanted.some(
    (one) => test(inside, needText(one, 'startswith/endswith first arg')) && !Number.isNaN(offset),
  );
}

/** Characters of Python's str.isdigit() that are no decimal digits. */
const OTHER_DIGIT =
  '\\u00b2\\u00b3\\u00b9\\u1369-\\u1371\\u19da\\u2070\\u2074-\\u2079\\u2080-\\u2089\\u2460-\\u2468\\u2474-\\u247c' +
  '\\u2488-\\u2490\\u24ea\\u24f5-\\u24fd\\u24ff\\u2776-\\u277e\\u2780-\\u2788\\u278a-\\u2792\\u{10a40}-\\u{10a43}' +
  '\\u{10e60}-\\u{10e68}\\u{11052}-\\u{1105a}\\u{1f100}-\\u{1f10a}';

const every = (set: string) => {
  const pattern = new RegExp(`^[${set}]+$`, 'u');
  return (text: string) => pattern.test(text);
};

/** Ideographs that are numbers. */
const HAN_NUMBER =
  '㐅㒃㠪㭍一七万三九二五亖亿什仟仨伍佰億兆兩八六十千卄卅卌叁参參叄四壱壹幺廾廿弌弍弎弐拾捌柒漆玖百肆萬貮貳贰阡陆陌陸零' +
  '\uf96b\uf973\uf978\uf9b2\uf9d1\uf9d3\uf9fd\u{20001}\u{20064}\u{200e2}\u{20121}\u{2092a}\u{20983}' +
  '\u{2098c}\u{2099c}\u{20aea}\u{20afd}\u{20b19}\u{22390}\u{22998}\u{23b1b}\u{2626d}\u{2f890}';

const isCased = (text: string, other: RegExp, wanted: RegExp) => wanted.test(text) && !other.test(text);

export const textPredicates: Readonly<Record<string, (text: string) => boolean>> = {
  isalpha: every('\\p{L}'),
  isdecimal: every('\\p{Nd}'),
  isdigit: every(`\\p{Nd}${OTHER_DIGIT}`),
  isnumeric: every(`\\p{N}${HAN_NUMBER}`),
  isalnum: every('\\p{L}\\p{N}'),
  isspace: every(PYTHON_SPACE),
  isascii: (text) => /^[\0-\x7f]*$/.test(text),
  isprintable: (text) => !/(?! )[\p{C}\p{Z}]/u.test(text),
  isidentifier: (text) => /^[\p{XID_Start}_]\p{XID_Continue}*$/u.test(text),
  islower: (text) => isCased(text, /[\p{Uppercase}\p{Lt}]/u, /\p{Lowercase}/u),
  isupper: (text) => isCased(text, /[\p{Lowercase}\p{Lt}]/u, /\p{Uppercase}/u),
  istitle: isTitle,
};

function expandTabs(text: string, size: number): string {
  let column = 0;
  return Array.from(text, (char) => {
    if (char === '\t') {
      const width = size > 0 ? size - (column % size) : 0;
      column += width;
      return ' '.repeat(checkLength(width));
    }
    column = /[\n\r]/.test(char) ? 0 : column + 1;
    return char;
  }).join('');
}

function partition(text: string, separator: Value | undefined, fromRight: boolean): Tuple {
  const wanted = needText(separator, 'separator');
  if (wanted === '') throw valueError('empty separator');
  const at = fromRight ? text.lastIndexOf(wanted) : text.indexOf(wanted);
  if (at < 0) return new Tuple(fromRight ? ['', '', text] : [text, '', '']);
  return new Tuple([text.slice(0, at), wanted, text.slice(at + wanted.length)]);
}

const found = (position: number): number => {
  if (position < 0) throw valueError('substring not found');
  return position;
};

function zeroFill(text: string, width: number): string {
  const sign = /^[-+]/.exec(text)?.[0] ?? '';
  const digits = text.slice(sign.length);
  return sign + pad(digits, width - sign.length, '0', 'left');
}

type TextMethod = readonly [signature: string, (self: string, ...args: (Value | undefined)[]) => Value];

const limitOf = (value: Value | undefined) => (value === undefined ? -1 : needInt(value));
const count = (text: string, args: readonly (Value | undefined)[]): number => {
  const wanted = needText(args[0], 'argument 1');
  const { part: inside, offset } = part(text, args[1], args[2]);
  if (Number.isNaN(offset)) return 0;
  return wanted === '' ? textLength(inside) + 1 : inside.split(wanted).length - 1;
};
const joinItems = (separator: string, items: Value): string =>
  join(
    separator,
    Array.from(iterate(items), (item, i) => {
      if (typeof item !== 'string') {
        throw typeError(`sequence item ${i}: expected str instance, ${typeName(item)} found`);
      }
      return item;
    }),
  );

/** Methods of str by name, with their signatures (see signature.ts). */
export const textMethods: ReadonlyMap<string, TextMethod> = new Map<string, TextMethod>([
  ...Object.entries(textPredicates).map(([name, test]): [string, TextMethod] => [name, ['', (s) => test(s)]]),
  ['capitalize', ['', (s) => capitalize(s)]],
  ['casefold', ['', (s) => caseFold(s)]],
  ['center', ['width fill= /', (s, width, fill) => pad(s, needInt(width ?? null), fillOf(fill), 'center')]],
  ['count', ['sub start= end= /', (s, ...args) => count(s, args)]],
  ['endswith', ['suffix start= end= /', (s, ...args) => affix(s, args, (text, end) => text.endsWith(end))]],
  ['expandtabs', ['tabsize=', (s, size) => expandTabs(s, size === undefined ? 8 : needInt(size))]],
  ['find', ['sub start= end= /', (s, ...args) => find(s, args, false)]],
  ['index', ['sub start= end= /', (s, ...args) => found(find(s, args, false))]],
  ['join', ['iterable /', (s, items) => joinItems(s, items as Value)]],
  ['ljust', ['width fill= /', (s, width, fill) => pad(s, needInt(width ?? null), fillOf(fill), 'right')]],
  ['lower', ['', (s) => lower(s)]],
  ['lstrip', ['chars= /', (s, chars) => strip(s, chars, true, false)]],
  ['partition', ['sep /', (s, sep) => partition(s, sep, false)]],
  [
    'removeprefix',
    [
      'prefix /',
      (s, value) => {
        const prefix = needText(value, 'prefix');
        return s.startsWith(prefix) ? s.slice(prefix.length) : s;
      },
    ],
  ],
  [
    'removesuffix',
    [
      'suffix /',
      (s, value) => {
        const suffix = needText(value, 'suffix');
        return s.endsWith(suffix) ? s.slice(0, s.length - suffix.length) : s;
      },
    ],
  ],
  [
    'replace',
    [
      'old new count= /',
      (s, old, next, times) =>
        replace(
          s,
          needText(old, 'replace() argument 1'),
          needText(next, 'replace() argument 2'),
          limitOf(times),
        ),
    ],
  ],
  ['rfind', ['sub start= end= /', (s, ...args) => find(s, args, true)]],
  ['rindex', ['sub start= end= /', (s, ...args) => found(find(s, args, true))]],
  ['rjust', ['width fill= /', (s, width, fill) => pad(s, needInt(width ?? null), fillOf(fill), 'left')]],
  ['rpartition', ['sep /', (s, sep) => partition(s, sep, true)]],
  ['rsplit', ['sep= maxsplit=', (s, sep, limit) => split(s, sep ?? null, limitOf(limit), true)]],
  ['rstrip', ['chars= /', (s, chars) => strip(s, chars, false, true)]],
  ['split', ['sep= maxsplit=', (s, sep, limit) => split(s, sep ?? null, limitOf(limit), false)]],
  ['splitlines', ['keepends=', (s, keep) => splitLines(s, keep === undefined ? false : needInt(keep) !== 0)]],
  [
    'startswith',
    ['prefix start= end= /', (s, ...args) => affix(s, args, (text, start) => text.startsWith(start))],
  ],
  ['strip', ['chars= /', (s, chars) => strip(s, chars, true, true)]],
  ['swapcase', ['', (s) => swapCase(s)]],
  ['title', ['', (s) => title(s)]],
  ['upper', ['', (s) => s.toUpperCase()]],
  ['zfill', ['width /', (s, width) => zeroFill(s, needInt(width ?? null))]],
]);
