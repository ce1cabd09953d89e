import { notSupported, TemplateError, typeError, valueError } from './errors.js';
import { percentFormat } from './format.js';
import { PYTHON_SPACE } from './lexer.js';
import { checkLength } from './limits.js';
import { asInt, fixed, int, needInt, readFloat, readInt, toFloat } from './numbers.js';
import { binary, compareBy, sliceText } from './operators.js';
import { str } from './print.js';
import { lower } from './letter-case.js';
import { needText, split, splitLines, strip } from './text.js';
import {
  Dict,
  Float,
  isNumber,
  iterableOf,
  lengthOf,
  listOf,
  Markup,
  Slice,
  typeName,
  Undefined,
  type Value,
} from './values.js';

// What the filters that write or read texts do; filters.ts gives them their names and arguments.

/** The text of a value, as a filter that works on texts takes it. */
export function soft(value: Value): string {
  if (value instanceof Markup) throw notSupported('this filter of safe text');
  return str(value);
}

export function toInt(value: Value, otherwise: Value, base: number): Value {
  if (value instanceof Undefined) value.fail();
  if (typeof value === 'string' || value instanceof Markup) {
    const text = strip(str(value), null, true, true);
    const whole = readInt(text, base);
    if (whole !== undefined) return whole;
    const x = readFloat(text);
    return x === undefined || !Number.isFinite(x) ? otherwise : int(BigInt(Math.trunc(x)));
  }
  if (!isNumber(value)) return otherwise;
  const whole = asInt(value);
  if (whole !== undefined) return whole;
  const x = toFloat(value);
  if (Number.isNaN(x)) return otherwise;
  if (!Number.isFinite(x)) throw new TemplateError('OverflowError: cannot convert float infinity to integer');
  return int(BigInt(Math.trunc(x)));
}

export function toFloatValue(value: Value, otherwise: Value): Value {
  if (value instanceof Undefined) value.fail();
  if (typeof value === 'string' || value instanceof Markup) {
    const x = readFloat(strip(str(value), null, true, true));
    return x === undefined ? otherwise : new Float(x);
  }
  return isNumber(value) ? new Float(toFloat(value)) : otherwise;
}

export function indent(value: Value, width: Value, isFirst: boolean, isBlank: boolean): string {
  const text = needText(value instanceof Undefined ? value.fail() : value, 'what is indented');
  const space = typeof width === 'string' ? width : ' '.repeat(checkLength(Math.max(0, needInt(width))));
  const lines = splitLines(`${text}\n`, false);
  checkLength(text.length + lines.length * space.length);
  const indented = lines
    .map((line, i) => (i > 0 && (isBlank || line !== '') ? space + line : line))
    .join('\n');
  return isFirst ? space + indented : indented;
}

export function truncate(value: Value, length: Value, isCut: boolean, end: Value, leeway: Value): Value {
  const given = lengthOf(value);
  const endLength = lengthOf(end);
  if (endLength === undefined) throw typeError(`object of type '${typeName(end)}' has no len()`);
  if (compareBy('<', length, endLength) || compareBy('<', leeway, 0))
    throw new TemplateError('AssertionError: expected length >= len(end), leeway >= 0');
  if (given === undefined) throw typeError(`object of type '${typeName(value)}' has no len()`);
  if (compareBy('<=', given, binary('+', length, leeway, percentFormat))) return value;
  // A list would be cut, but nothing can be written behind it.
  if (value instanceof Markup || end instanceof Markup) throw notSupported('truncating safe text');
  const head = sliceText(
    needText(value, 'what is truncated'),
    new Slice(0, needInt(length) - endLength, null),
  );
  return (isCut ? head : (split(head, ' ', 1, true)[0] ?? '')) + needText(end, 'end');
}

const HTML: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  "'": '&#39;',
  '"': '&#34;',
};
export const escapeHtml = (text: string) =>
  new Markup(text.replace(/[&<>'"]/g, (char) => HTML[char] as string));

export function quoteUrl(value: Value, isQuery: boolean): string {
  const quoted = encodeURIComponent(soft(value)).replace(
    /[!*'()]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return isQuery ? quoted.replaceAll('%20', '+') : quoted.replaceAll('%2F', '/');
}

export function urlEncode(value: Value): string {
  if (typeof value === 'string' || value instanceof Markup || iterableOf(value) === undefined)
    return quoteUrl(value, false);
  const items = value instanceof Dict ? [...value.entries()] : listOf(value).map(listOf);
  return items
    .map((pair) => {
      const [key, item] = pair;
      if (pair.length !== 2) throw valueError(`${pair.length} values to unpack, expected 2`);
      return `${quoteUrl(key as Value, true)}=${quoteUrl(item as Value, true)}`;
    })
    .join('&');
}

export function fileSize(value: Value, isBinary: boolean): string {
  const size = toFloatValue(value, null);
  if (!(size instanceof Float)) throw valueError('could not convert to float');
  const [base, infix] = isBinary ? [1024, 'i'] : [1000, ''];
  const bytes = size.value;
  if (bytes === 1) return '1 Byte';
  if (bytes < base) return `${Math.trunc(bytes)} Bytes`;
  let unit = base;
  for (const prefix of isBinary ? 'KMGTPEZY' : 'kMGTPEZY') {
    unit *= base;
    if (bytes < unit || prefix === 'Y') return `${fixed((base * bytes) / unit, 1)} ${prefix}${infix}B`;
  }
  throw valueError('not a size');
}

const WORD_START = new RegExp(`([-(\\[{<${PYTHON_SPACE}]+)`);

export const title = (text: string): string =>
  text
    .split(WORD_START)
    .map((word) => {
      const [initial = ''] = Array.from(word.slice(0, 2));
      return initial.toUpperCase() + lower(word.slice(initial.length));
    })
    .join('');
