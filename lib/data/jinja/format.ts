import { notSupported, TemplateError, typeError, valueError } from './errors.js';
import { checkLength } from './limits.js';
import { asInt, exponentSuffix, fixed, reprFloat, scaledDigits, toFloat } from './numbers.js';
import { repr, str } from './print.js';
import { Dict, Float, isNumber, Markup, Range, Tuple, typeName, Undefined, type Value } from './values.js';
import { pad } from './text.js';

// Python's two ways to format: 'text' % values, and the format specifications of str.format().

interface NumberStyle {
  type: string;
  precision: number | undefined;
  isAlternate: boolean;
}

/** |x| with this many significant digits: the digits and the exponent of the first one. */
function significant(x: number, count: number): { digits: string; exponent: number } {
  if (x === 0) return { digits: '0'.repeat(count), exponent: 0 };
  let exponent = Number(x.toExponential().split('e')[1]);
  let digits = scaledDigits(x, count - 1 - exponent).toString();
  if (digits.length > count) {
    exponent += 1;
    digits = digits.slice(0, count);
  }
  return { digits, exponent };
}

/** |x| without its sign, as the types e, f, g and % write it. */
function floatBody(x: number, { type, precision = 6, isAlternate }: NumberStyle): string {
  if (!Number.isFinite(x)) return Number.isNaN(x) ? 'nan' : 'inf';
  checkLength(precision);
  if (precision > 2000) throw notSupported('a precision beyond 2000');
  const kind = type.toLowerCase();
  /** With its point, even where nothing stands behind it. */
  const decimals = (value: number, places: number) =>
    fixed(value, places) + (isAlternate && places === 0 ? '.' : '');
  if (kind === '%') return `${decimals(x * 100, precision)}%`;
  if (kind === 'f') return decimals(x, precision);
  if (kind === 'e') {
    const { digits, exponent } = significant(x, precision + 1);
    const point = precision > 0 || isAlternate ? '.' : '';
    return digits.slice(0, 1) + point + digits.slice(1) + exponentSuffix(exponent);
  }
  const wanted = Math.max(1, precision);
  const { digits, exponent } = significant(x, wanted);
  const trim = (text: string) => (isAlternate ? text : text.replace(/(\.\d*?)0+$/, '$1').replace(/\.$/, ''));
  if (exponent < -4 || exponent >= wanted) {
    return trim(`${digits.slice(0, 1)}.${digits.slice(1)}`) + exponentSuffix(exponent);
  }
  return trim(decimals(x, wanted - 1 - exponent));
}

const INT_BASES: Readonly<Record<string, number>> = { d: 10, i: 10, u: 10, n: 10, b: 2, o: 8, x: 16, X: 16 };

function intBody(value: number | bigint, type: string, isAlternate: boolean): string {
  const digits = (value < 0 ? -value : value).toString(INT_BASES[type] ?? 10);
  const prefix = isAlternate ? ({ b: '0b', o: '0o', x: '0x', X: '0X' }[type] ?? '') : '';
  return prefix + (type === 'X' ? digits.toUpperCase() : digits);
}

export const isNegative = (value: boolean | number | bigint | Float): boolean =>
  value instanceof Float ? value.value < 0 || Object.is(value.value, -0) : Number(value) < 0;

// '%': https://docs.python.org/3/library/stdtypes.html#printf-style-string-formatting

const PERCENT = /%(?:\(((?:[^()]|\([^()]*\))*)\))?([-#0 +]*)(\*|\d+)?(?:\.(\*|\d*))?[hlL]?(.?)/gsu;

function percentNumber(value: Value, type: string, style: NumberStyle): { sign: string; body: string } {
  if (!isNumber(value)) throw typeError(`%${type} format: a real number is required, not ${typeName(value)}`);
  if (/[diuoxX]/.test(type)) {
    let whole = asInt(value);
    if (whole === undefined) {
      if (!/[diu]/.test(type)) throw typeError(`%${type} format: an integer is required, not float`);
      const x = toFloat(value);
      if (!Number.isFinite(x)) throw valueError('cannot convert float NaN or infinity to integer');
      whole = BigInt(Math.trunc(x));
    }
    const body = intBody(whole, type, style.isAlternate).padStart(0);
    const digits = style.precision ?? 0;
    const prefix = /^0[box]/i.exec(style.isAlternate ? body : '')?.[0] ?? '';
    const padded = prefix + body.slice(prefix.length).padStart(checkLength(digits), '0');
    return { sign: whole < 0 ? '-' : '', body: padded };
  }
  const body = floatBody(Math.abs(toFloat(value)), style);
  return { sign: isNegative(value) ? '-' : '', body: /[A-Z]/.test(type) ? body.toUpperCase() : body };
}

function percentOne(
  value: Value,
  type: string,
  flags: string,
  width: number,
  precision: number | undefined,
): string {
  const isAlternate = flags.includes('#');
  let sign = '';
  let body: string;
  let isNumeric = false;
  if (/[sra]/.test(type)) {
    if (type === 'a') throw notSupported('%a');
    const text = type === 's' ? str(value) : repr(value);
    body = precision === undefined ? text : Array.from(text).slice(0, precision).join('');
  } else if (type === 'c') {
    const code = asInt(value);
    if (code === undefined && !(typeof value === 'string' && Array.from(value).length === 1)) {
      throw typeError('%c requires int or char');
    }
    if (code !== undefined && !(code >= 0 && code <= 0x10ffff)) {
      throw new TemplateError('OverflowError: %c arg not in range(0x110000)');
    }
    body = code === undefined ? (value as string) : String.fromCodePoint(Number(code));
  } else if (/[diouxXeEfFgG]/.test(type)) {
    isNumeric = true;
    ({ sign, body } = percentNumber(value, type, { type, precision, isAlternate }));
    if (sign === '') sign = flags.includes('+') ? '+' : flags.includes(' ') ? ' ' : '';
  } else throw valueError(`unsupported format character '${type}'`);
  if (flags.includes('-')) return pad(sign + body, width, ' ', 'right');
  if (isNumeric && flags.includes('0')) {
    const prefix = isAlternate ? (/^0[ox]/i.exec(body)?.[0] ?? '') : '';
    const digits = body.slice(prefix.length);
    return sign + prefix + pad(digits, Math.max(0, width - sign.length - prefix.length), '0', 'left');
  }
  return pad(sign + body, width, ' ', 'left');
}

/** `text % values` */
export function percentFormat(format: string, values: Value): string {
  if (values instanceof Markup) throw notSupported('formatting safe text');
  const list = values instanceof Tuple ? values.items : [values];
  let used = 0;
  let usedNames = false;
  const next = (): Value => {
    const value = list[used];
    if (value === undefined) throw typeError('not enough arguments for format string');
    used += 1;
    return value;
  };
  const number = (text: string | undefined): number | undefined => {
    if (text !== '*') return text === undefined ? undefined : Number(text);
    const given = asInt(next());
    if (given === undefined) throw typeError('* wants int');
    return Number(given);
  };
  const result = format.replace(
    PERCENT,
    (_, name?: string, flags = '', widthText?: string, precisionText?: string, type = '') => {
      if (type === '%') return '%';
      if (type === '') throw valueError('incomplete format');
      let value: Value | undefined;
      let width: number | undefined;
      if (name !== undefined) {
        if (!(values instanceof Dict)) throw typeError('format requires a mapping');
        value = values.get(name);
        if (value === undefined) throw new TemplateError(`KeyError: '${name}'`);
        usedNames = true;
      }
      width = number(widthText);
      const precision = number(precisionText);
      let allFlags: string = flags;
      if (width !== undefined && width < 0) {
        allFlags += '-';
        width = -width;
      }
      return percentOne(
        value === undefined ? next() : value,
        type,
        allFlags,
        width ?? 0,
        precision === undefined ? undefined : Math.max(0, precision),
      );
    },
  );
  // Whatever has items by key counts as a mapping.
  const isMapping = [Dict, Array, Undefined, Range].some((type) => values instanceof type);
  const mayBeLeft = usedNames || isMapping;
  if (used < list.length && !mayBeLeft)
    throw typeError('not all arguments converted during string formatting');
  return result;
}

// str.format(): https://docs.python.org/3/library/string.html#format-specification-mini-language

const SPEC = /^(?:(.)?([<>=^]))?([-+ ]?)(z?)(#?)(0?)(\d*)([_,]?)(?:\.(\d+))?([a-zA-Z%]?)$/su;

function group(digits: string, separator: string, size: number): string {
  if (separator === '') return digits;
  const [, whole = '', rest = ''] = /^([\da-fA-F]*)(.*)$/s.exec(digits) ?? [];
  return whole.replace(new RegExp(`\\B(?=(?:[\\da-fA-F]{${size}})+$)`, 'g'), separator) + rest;
}

/** format(value, spec) */
export function formatValue(value: Value, spec: string): string {
  if (spec === '') return str(value);
  if (!isNumber(value) && typeof value !== 'string') {
    if (value instanceof Markup) throw notSupported('formatting safe text');
    throw typeError(`unsupported format string passed to ${typeName(value)}.__format__`);
  }
  const found = SPEC.exec(spec);
  if (found === null) throw valueError(`Invalid format specifier '${spec}'`);
  const [
    ,
    fillText,
    alignText,
    signText,
    z,
    alternate,
    zero,
    widthText,
    separator = '',
    precisionText,
    type = '',
  ] = found;
  if (z !== '') throw notSupported("'z' in a format specification");
  const width = Number(widthText);
  const precision = precisionText === undefined ? undefined : Number(precisionText);
  const fill = fillText ?? (zero !== '' && alignText === undefined ? '0' : zero === '' ? ' ' : '0');
  if (typeof value === 'string' || (typeof value === 'boolean' && type === 's')) {
    if (typeof value !== 'string') throw valueError("Unknown format code 's' for object of type 'bool'");
    if (type !== '' && type !== 's')
      throw valueError(`Unknown format code '${type}' for object of type 'str'`);
    if (alignText === '=' || signText !== '' || alternate !== '' || separator !== '') {
      throw valueError('this format specification is not allowed for str');
    }
    const text = precision === undefined ? value : Array.from(value).slice(0, precision).join('');
    const side = { '>': 'left', '^': 'center' }[alignText ?? '<'] ?? 'right';
    return align(text, width, fill, side as 'left' | 'center' | 'right');
  }
  let body: string;
  const isAlternate = alternate !== '';
  const whole = asInt(value);
  if (whole !== undefined && (type === '' || type in INT_BASES)) {
    if (precision !== undefined) throw valueError('Precision not allowed in integer format specifier');
    if (separator === ',' && /[boxX]/.test(type)) throw valueError(`Cannot specify ',' with '${type}'.`);
    body = intBody(whole, type, false);
    body = group(body, separator, /[boxX]/.test(type) ? 4 : 3);
  } else if (whole !== undefined && type === 'c') {
    throw notSupported("type 'c' in a format specification");
  } else {
    if (type !== '' && !/[eEfFgG%n]/.test(type)) {
      throw valueError(`Unknown format code '${type}' for object of type '${typeName(value)}'`);
    }
    if (type === 'n') throw notSupported("type 'n' in a format specification");
    const x = Math.abs(toFloat(value));
    if (type === '') {
      if (precision === undefined) body = reprFloat(x);
      else body = generalWithPoint(x, precision, isAlternate);
    } else body = floatBody(x, { type, precision, isAlternate });
    if (/[EFG]/.test(type)) body = body.toUpperCase();
    body = group(body, separator, 3);
  }
  const sign = isNegative(value) ? '-' : signText === '-' ? '' : (signText ?? '');
  const prefix =
    whole !== undefined && isAlternate ? ({ b: '0b', o: '0o', x: '0x', X: '0X' }[type] ?? '') : '';
  if (alignText === '=' || (alignText === undefined && zero !== '')) {
    if (separator !== '' && fill === '0') throw notSupported('zeros with a separator of thousands');
    return sign + prefix + align(body, width - sign.length - prefix.length, fill, 'left');
  }
  const side = { '<': 'right', '^': 'center' }[alignText ?? '>'] ?? 'left';
  return align(sign + prefix + body, width, fill, side as 'left' | 'center' | 'right');
}

/** A float without a type but with a precision: like "g", with at least one digit after the point. */
function generalWithPoint(x: number, precision: number, isAlternate: boolean): string {
  const digits = Math.max(1, precision);
  const body = floatBody(x, { type: 'g', precision: digits, isAlternate });
  if (!Number.isFinite(x) || /[.e]/.test(body)) {
    const exponent = Number.isFinite(x) && x !== 0 ? significant(x, digits).exponent : 0;
    if (exponent < digits - 1 || !Number.isFinite(x) || body.includes('e')) return body;
  }
  const { digits: all, exponent } = significant(x, digits);
  if (exponent < digits - 1 || x === 0) return `${body}${body.includes('.') ? '' : '.0'}`;
  const mantissa = `${all.slice(0, 1)}.${all.slice(1)}`.replace(/\.?0*$/, '');
  return mantissa + exponentSuffix(exponent);
}

function align(text: string, width: number, fill: string, side: 'left' | 'right' | 'center'): string {
  if (side !== 'center') return pad(text, Math.max(0, width), fill, side);
  const missing = checkLength(Math.max(0, width)) - Array.from(text).length;
  if (missing <= 0) return text;
  const left = Math.floor(missing / 2);
  return fill.repeat(left) + text + fill.repeat(missing - left);
}

export interface FieldLookup {
  /** The value of the first part of a field's name: a position or a keyword. */
  value(key: number | string): Value;
  attribute(object: Value, name: string): Value;
  item(object: Value, key: Value): Value;
}

/** `text.format(...)`; `{}` counts on from 0, as automatic numbering does. */
export function formatText(format: string, lookup: FieldLookup): string {
  return new TextFormatter(lookup).format(format, 2);
}

class TextFormatter {
  readonly #lookup: FieldLookup;
  #automatic = 0;
  #isManual = false;

  constructor(lookup: FieldLookup) {
    this.#lookup = lookup;
  }

  format(format: string, depth: number): string {
    if (depth < 0) throw valueError('Max string recursion exceeded');
    let result = '';
    for (let at = 0; at < format.length; ) {
      const brace = format.slice(at).search(/[{}]/);
      if (brace < 0) return result + format.slice(at);
      result += format.slice(at, at + brace);
      at += brace;
      const char = format.charAt(at);
      if (format.charAt(at + 1) === char) {
        result += char;
        at += 2;
        continue;
      }
      if (char === '}') throw valueError("Single '}' encountered in format string");
      const end = closing(format, at);
      result += this.#field(format.slice(at + 1, end), depth);
      checkLength(result.length);
      at = end + 1;
    }
    return result;
  }

  #field(field: string, depth: number): string {
    const [, name = '', conversion, spec = ''] =
      /^((?:\[[^\]]*\]?|[^![:{])*)(?:!(.?))?(?::(.*))?$/s.exec(field) ?? [];
    if (!field.startsWith(name) || (name === '' && field !== '' && !/^[!:]/.test(field))) {
      throw valueError(`this field of a format is not understood: {${field}}`);
    }
    let value = this.#value(name);
    if (conversion === 'r') value = repr(value);
    else if (conversion === 's') value = str(value);
    else if (conversion !== undefined) throw notSupported(`the conversion !${conversion}`);
    return formatValue(value, this.format(spec, depth - 1));
  }

  #value(name: string): Value {
    const first = /^[^.[]*/.exec(name)?.[0] ?? '';
    let key: number | string = first;
    if (first === '') {
      if (this.#isManual)
        throw valueError('cannot switch from manual field specification to automatic field numbering');
      key = this.#automatic;
      this.#automatic += 1;
    } else if (/^\d+$/.test(first)) {
      if (this.#automatic > 0) {
        throw valueError('cannot switch from automatic field numbering to manual field specification');
      }
      this.#isManual = true;
      key = Number(first);
    }
    let value = this.#lookup.value(key);
    for (const [, attribute, item] of name.slice(first.length).matchAll(/\.([^.[]+)|\[([^\]]+)\]/g)) {
      if (attribute !== undefined) value = this.#lookup.attribute(value, attribute);
      else if (item !== undefined) value = this.#lookup.item(value, /^\d+$/.test(item) ? Number(item) : item);
    }
    return value;
  }
}

/** Where the field that begins at this brace ends. */
function closing(format: string, start: number): number {
  let depth = 0;
  for (let i = start; i < format.length; i += 1) {
    const char = format.charAt(i);
    if (char === '{') depth += 1;
    else if (char === '}') {
      depth -= 1;
      if (depth === 0) return i;
    }
  }
  throw valueError("expected '}' before end of string");
}
