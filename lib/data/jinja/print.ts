import { notSupported, typeError, valueError } from './errors.js';
import { checkLength, spend } from './limits.js';
import { asInt, reprFloat } from './numbers.js';
import { compare } from './operators.js';
import {
  Dict,
  Float,
  Iterator,
  Markup,
  PyObject,
  Range,
  Slice,
  Tuple,
  typeName,
  Undefined,
  type Value,
  View,
} from './values.js';

// How values are written: Python's str(), repr() and json.dumps().

/** Python's str(). */
export function str(value: Value): string {
  if (typeof value === 'string') return value;
  if (value instanceof Undefined) return '';
  if (value instanceof Markup) return value.text;
  return repr(value);
}

const ESCAPED = /[\\\p{C}\p{Z}]/gu;
const NAMED_ESCAPES: Readonly<Record<string, string>> = {
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\\': '\\\\',
};

function reprText(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escaped = text.replace(ESCAPED, (char) => {
    if (char === ' ') return char;
    const named = NAMED_ESCAPES[char];
    if (named !== undefined) return named;
    const hex = (char.codePointAt(0) as number).toString(16);
    if (hex.length <= 2) return `\\x${hex.padStart(2, '0')}`;
    return hex.length <= 4 ? `\\u${hex.padStart(4, '0')}` : `\\U${hex.padStart(8, '0')}`;
  });
  return quote + (quote === "'" ? escaped.replaceAll("'", "\\'") : escaped) + quote;
}

const reprAll = (items: Iterable<Value>): string => Array.from(items, repr).join(', ');

/** Python's repr(). */
export function repr(value: Value): string {
  spend();
  if (value === null) return 'None';
  if (typeof value === 'string') return reprText(value);
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (typeof value === 'number' || typeof value === 'bigint') return String(value);
  if (Array.isArray(value)) return `[${reprAll(value)}]`;
  if (value instanceof Float) return reprFloat(value.value);
  if (value instanceof Tuple) return `(${reprAll(value.items)}${value.items.length === 1 ? ',' : ''})`;
  if (value instanceof Dict) {
    return `{${Array.from(value.entries(), ([key, item]) => `${repr(key)}: ${repr(item)}`).join(', ')}}`;
  }
  if (value instanceof Undefined) return 'Undefined';
  if (value instanceof Range) {
    return `range(${value.start}, ${value.stop}${value.step === 1 ? '' : `, ${value.step}`})`;
  }
  if (value instanceof View) return `dict_${value.kind}([${reprAll(value)}])`;
  if (value instanceof Markup) return `Markup(${reprText(value.text)})`;
  if (value instanceof Slice) return `slice(${reprAll([value.start, value.stop, value.step])})`;
  if (value instanceof Iterator) {
    throw notSupported(`printing a ${value.name}, which in Jinja2 shows an address,`);
  }
  return value.print();
}

export interface JsonOptions {
  ensureAscii: boolean;
  /** What one level is indented by; undefined writes everything on one line. */
  indent: string | undefined;
  itemSeparator: string;
  keySeparator: string;
  sortKeys: boolean;
}

const JSON_ESCAPES: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\f': '\\f',
  '\b': '\\b',
};

const CONTROL = '\\0-\\x1f';
const JSON_ESCAPED = new RegExp(`["\\\\${CONTROL}]`, 'g');
const unicodeEscape = (unit: string) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;

function jsonText(text: string, ensureAscii: boolean): string {
  const escaped = text.replace(JSON_ESCAPED, (char) => JSON_ESCAPES[char] ?? unicodeEscape(char));
  return `"${ensureAscii ? escaped.replace(/[\x7f-\uffff]/g, unicodeEscape) : escaped}"`;
}

function jsonNumber(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? 'Infinity' : '-Infinity';
  return reprFloat(value);
}

function jsonKey(key: Value): string {
  if (typeof key === 'string') return key;
  if (key instanceof Markup) return key.text;
  if (key === null) return 'null';
  if (typeof key === 'boolean') return String(key);
  if (key instanceof Float) return jsonNumber(key.value);
  const whole = asInt(key);
  if (whole !== undefined) return String(whole);
  throw typeError(`keys must be str, int, float, bool or None, not ${typeName(key)}`);
}

/** Python's json.dumps(). */
export function json(value: Value, options: JsonOptions, depth = 0): string {
  spend();
  if (value === null) return 'null';
  if (typeof value === 'string') return jsonText(value, options.ensureAscii);
  if (typeof value === 'boolean' || typeof value === 'number' || typeof value === 'bigint')
    return String(value);
  if (value instanceof Float) return jsonNumber(value.value);
  if (value instanceof Markup) return jsonText(value.text, options.ensureAscii);
  const { indent } = options;
  const lineBreak = (level: number) =>
    indent === undefined ? '' : `\n${indent.repeat(checkLength(level * indent.length) && level)}`;
  const wrap = (open: string, parts: readonly string[], close: string): string => {
    if (parts.length === 0) return open + close;
    const separator = options.itemSeparator + lineBreak(depth + 1);
    return open + lineBreak(depth + 1) + parts.join(separator) + lineBreak(depth) + close;
  };
  if (Array.isArray(value) || value instanceof Tuple) {
    const items = value instanceof Tuple ? value.items : value;
    return wrap(
      '[',
      items.map((item) => json(item, options, depth + 1)),
      ']',
    );
  }
  if (value instanceof Dict) {
    const entries = [...value.entries()];
    if (options.sortKeys) entries.sort(([a], [b]) => compare(a, b));
    const parts = entries.map(([key, item]) => {
      const name = jsonText(jsonKey(key), options.ensureAscii);
      return name + options.keySeparator + json(item, options, depth + 1);
    });
    return wrap('{', parts, '}');
  }
  if (value instanceof PyObject && value.typeName === 'Namespace') {
    throw typeError('Object of type Namespace is not JSON serializable');
  }
  throw typeError(`Object of type ${typeName(value)} is not JSON serializable`);
}

/** The options of the `tojson` filter as transformers defines it. */
export function jsonOptions(
  ensureAscii: boolean,
  indent: Value,
  separators: Value,
  sortKeys: boolean,
): JsonOptions {
  let level: string | undefined;
  if (typeof indent === 'string') level = indent;
  else if (indent !== null) {
    const width = asInt(indent);
    if (width === undefined) throw typeError(`indent of tojson: ${typeName(indent)}`);
    level = ' '.repeat(Math.max(0, Number(width)) && checkLength(Number(width)));
  }
  let [itemSeparator, keySeparator] = [level === undefined ? ', ' : ',', ': '];
  if (separators !== null) {
    const given = separators instanceof Tuple ? separators.items : separators;
    const [item, key] = Array.isArray(given) ? given : [];
    if (typeof item !== 'string' || typeof key !== 'string')
      throw valueError('separators of tojson: two texts');
    [itemSeparator, keySeparator] = [item, key];
  }
  return { ensureAscii, indent: level, itemSeparator, keySeparator, sortKeys };
}
