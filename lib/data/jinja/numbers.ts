import { notSupported, TemplateError, typeError } from './errors.js';
import { Float, isNumber, typeName, type Value } from './values.js';

// Python's numbers: ints of any size, floats as it writes and rounds them.

type Int = number | bigint;

/** Bits that an int may have. */
const MAX_BITS = 4096;

export function int(value: bigint): Int {
  const number = Number(value);
  if (Number.isSafeInteger(number)) return number;
  if (value.toString(16).length * 4 > MAX_BITS) throw notSupported(`an int of more than ${MAX_BITS} bits`);
  return value;
}

/** The int of a value that Python takes as an int (bool included), or undefined. */
export function asInt(value: Value): Int | undefined {
  if (typeof value === 'number' || typeof value === 'bigint') return value;
  return typeof value === 'boolean' ? Number(value) : undefined;
}

export function needInt(value: Value, what = 'an integer'): number {
  const number = asInt(value);
  if (number === undefined) throw typeError(`${what} is required, not ${typeName(value)}`);
  return Number(number);
}

export const toFloat = (value: boolean | number | bigint | Float): number =>
  value instanceof Float ? value.value : Number(value);

const zeroDivision = () => new TemplateError('ZeroDivisionError: division by zero');

function power(left: Int, right: Int): Value {
  if (right < 0) {
    if (left === 0) throw zeroDivision();
    return new Float(Number(left) ** Number(right));
  }
  const magnitude = BigInt(left) < 0n ? -BigInt(left) : BigInt(left);
  if (magnitude > 1n && BigInt(magnitude.toString(2).length) * BigInt(right) > 2 * MAX_BITS) {
    throw notSupported(`an int of more than ${MAX_BITS} bits`);
  }
  return int(BigInt(left) ** BigInt(right));
}

const bitLength = (value: bigint): number => value.toString(2).length;

/** The double nearest to the quotient of two ints. */
function quotient(a: bigint, b: bigint): number {
  const [x, y] = [a < 0n ? -a : a, b < 0n ? -b : b];
  // Twelve bits more than a double has, the last of which stands for all that follow.
  const exponent = 65 - (bitLength(x) - bitLength(y));
  if (Math.abs(exponent) > 1000)
    throw notSupported('a division of ints with a result near the limits of doubles');
  const [scaled, divisor] = exponent >= 0 ? [x << BigInt(exponent), y] : [x, y << BigInt(-exponent)];
  const bits = (scaled / divisor) | (scaled % divisor === 0n ? 0n : 1n);
  const magnitude = Number(bits) * 2 ** -exponent;
  return a < 0n === b < 0n ? magnitude : -magnitude;
}

function intArithmetic(operator: string, left: Int, right: Int): Value {
  if (typeof left === 'number' && typeof right === 'number') {
    if (operator === '+' && Number.isSafeInteger(left + right)) return left + right;
    if (operator === '-' && Number.isSafeInteger(left - right)) return left - right;
    if (operator === '*' && Number.isSafeInteger(left * right)) return left * right || 0;
    if (right !== 0 && (operator === '%' || operator === '//')) {
      let remainder = left % right;
      if (remainder !== 0 && remainder < 0 !== right < 0) remainder += right;
      if (operator === '%') return remainder || 0;
      if (Number.isSafeInteger(left - remainder)) return (left - remainder) / right || 0;
    }
  }
  const [a, b] = [BigInt(left), BigInt(right)];
  switch (operator) {
    case '+':
      return int(a + b);
    case '-':
      return int(a - b);
    case '*':
      return int(a * b);
    case '**':
      return power(left, right);
    default:
  }
  if (b === 0n) throw zeroDivision();
  const remainder = ((a % b) + b) % b;
  if (operator === '%') return int(remainder);
  if (operator === '//') return int((a - remainder) / b);
  return new Float(typeof left === 'bigint' || typeof right === 'bigint' ? quotient(a, b) : left / right);
}

function floatArithmetic(operator: string, left: number, right: number): Value {
  switch (operator) {
    case '+':
      return new Float(left + right);
    case '-':
      return new Float(left - right);
    case '*':
      return new Float(left * right);
    case '**': {
      if (left === 0 && right < 0) throw zeroDivision();
      if (left === 1 || right === 0) return new Float(1);
      if (left < 0 && Number.isFinite(left) && Number.isFinite(right) && !Number.isInteger(right)) {
        throw notSupported('a complex number');
      }
      const result = left ** right;
      if (!Number.isFinite(result) && Number.isFinite(left) && Number.isFinite(right)) {
        throw new TemplateError('OverflowError: the result is too large');
      }
      return new Float(left === -1 && !Number.isFinite(right) ? 1 : result);
    }
    default:
  }
  if (right === 0) throw zeroDivision();
  if (operator === '/') return new Float(left / right);
  // As in CPython: the remainder has the sign of the divisor.
  let remainder = left % right;
  let quotient = (left - remainder) / right;
  if (remainder !== 0) {
    if (right < 0 !== remainder < 0) {
      remainder += right;
      quotient -= 1;
    }
  } else remainder = right < 0 ? -0 : 0;
  if (operator === '%') return new Float(remainder);
  if (quotient === 0) return new Float(left / right < 0 || Object.is(left / right, -0) ? -0 : 0);
  const floor = Math.floor(quotient);
  return new Float(quotient - floor > 0.5 ? floor + 1 : floor);
}

/** Undefined where one of the two is no number. */
export function arithmetic(operator: string, left: Value, right: Value): Value | undefined {
  if (!isNumber(left) || !isNumber(right)) return undefined;
  const [a, b] = [asInt(left), asInt(right)];
  if (a !== undefined && b !== undefined) return intArithmetic(operator, a, b);
  return floatArithmetic(operator, toFloat(left), toFloat(right));
}

/** As Python's repr: the shortest digits that give the number back. */
export function reprFloat(x: number): string {
  if (Number.isNaN(x)) return 'nan';
  if (!Number.isFinite(x)) return x > 0 ? 'inf' : '-inf';
  const [mantissa = '', exponentText = ''] = x.toExponential().split('e');
  const exponent = Number(exponentText);
  const sign = x < 0 || Object.is(x, -0) ? '-' : '';
  if (exponent < -4 || exponent >= 16) return sign + mantissa.replace('-', '') + exponentSuffix(exponent);
  const digits = mantissa.replace(/[-.]/g, '');
  if (exponent < 0) return `${sign}0.${'0'.repeat(-exponent - 1)}${digits}`;
  const padded = digits.padEnd(exponent + 1, '0');
  return `${sign}${padded.slice(0, exponent + 1)}.${padded.slice(exponent + 1) || '0'}`;
}

export function exponentSuffix(exponent: number): string {
  return `e${exponent < 0 ? '-' : '+'}${String(Math.abs(exponent)).padStart(2, '0')}`;
}

/** |x| * 10^places as an exact integer, a half rounded to even. Needs a finite x. */
export function scaledDigits(x: number, places: number): bigint {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, Math.abs(x));
  const bits = view.getBigUint64(0);
  const biased = Number(bits >> 52n);
  const mantissa = (bits & 0xfffffffffffffn) | (biased === 0 ? 0n : 1n << 52n);
  const exponent = Math.max(biased, 1) - 1075;
  let numerator = mantissa;
  let denominator = 1n;
  if (exponent >= 0) numerator <<= BigInt(exponent);
  else denominator <<= BigInt(-exponent);
  if (places >= 0) numerator *= 10n ** BigInt(places);
  else denominator *= 10n ** BigInt(-places);
  const quotient = numerator / denominator;
  const twice = 2n * (numerator - quotient * denominator);
  return twice > denominator || (twice === denominator && quotient % 2n === 1n) ? quotient + 1n : quotient;
}

/** |x| with exactly this many decimals. */
export function fixed(x: number, places: number): string {
  const digits = scaledDigits(x, places)
    .toString()
    .padStart(places + 1, '0');
  return places === 0 ? digits : `${digits.slice(0, -places)}.${digits.slice(-places)}`;
}

/** Python's round(): a half goes to even, by the exact binary value. */
export function round(value: Value, places: number): Value {
  const whole = asInt(value);
  if (whole !== undefined) {
    if (places >= 0) return whole;
    const unit = 10n ** BigInt(Math.min(-places, 5000));
    const big = BigInt(whole);
    const magnitude = big < 0n ? -big : big;
    const low = magnitude - (magnitude % unit);
    const twice = 2n * (magnitude - low);
    const isUp = twice > unit || (twice === unit && (low / unit) % 2n === 1n);
    const rounded = isUp ? low + unit : low;
    return int(big < 0n ? -rounded : rounded);
  }
  if (!(value instanceof Float)) throw typeError('a number is required by round');
  const x = value.value;
  if (!Number.isFinite(x) || places > 323) return value;
  if (places < -308) return new Float(x * 0);
  const rounded = Number(`${scaledDigits(x, places)}e${-places}`);
  if (!Number.isFinite(rounded))
    throw new TemplateError('OverflowError: rounded value too large to represent');
  return new Float(x < 0 || Object.is(x, -0) ? -rounded : rounded);
}

const NON_ASCII_DIGIT = /[^\0-\x7f]/;

/** Python's int(text, base), or undefined where it raises a ValueError. */
export function readInt(text: string, base: number): Int | undefined {
  if (NON_ASCII_DIGIT.test(text)) {
    if (/\p{Nd}/u.test(text)) throw notSupported(`reading the digits of '${text.slice(0, 40)}'`);
    return undefined;
  }
  const found = /^([-+]?)(0[box]_?)?([\da-z]+(?:_[\da-z]+)*)$/i.exec(text);
  if (found === null) return undefined;
  const [, sign = '', prefixText = '', digitText = ''] = found;
  const prefix = prefixText.replace('_', '').toLowerCase();
  const prefixBase = { '0b': 2, '0o': 8, '0x': 16 }[prefix];
  let digits = digitText.replaceAll('_', '').toLowerCase();
  let radix = base;
  if (prefixBase !== undefined) {
    if (base === 0 || base === prefixBase) radix = prefixBase;
    else digits = prefix + digits;
  } else if (base === 0) {
    if (/^0+[1-9]/.test(digits)) return undefined;
    radix = 10;
  }
  if (radix < 2 || radix > 36) return undefined;
  let value = 0n;
  if (digits.length > MAX_BITS / 3) throw notSupported(`an int of more than ${MAX_BITS} bits`);
  for (const digit of digits) {
    const worth = Number.parseInt(digit, 36);
    if (!(worth < radix)) return undefined;
    value = value * BigInt(radix) + BigInt(worth);
  }
  return int(sign === '-' ? -value : value);
}

/** Python's float(text), or undefined where it raises a ValueError. */
export function readFloat(text: string): number | undefined {
  if (NON_ASCII_DIGIT.test(text) && /\p{Nd}/u.test(text)) {
    throw notSupported(`reading the digits of '${text.slice(0, 40)}'`);
  }
  const special = /^([-+]?)(inf|infinity|nan)$/i.exec(text);
  if (special !== null) {
    const magnitude = special[2]?.toLowerCase() === 'nan' ? Number.NaN : Number.POSITIVE_INFINITY;
    return special[1] === '-' ? -magnitude : magnitude;
  }
  const digits = '\\d+(?:_\\d+)*';
  const pattern = new RegExp(`^[-+]?(?:${digits}\\.?(?:${digits})?|\\.${digits})(?:e[-+]?${digits})?$`, 'i');
  return pattern.test(text) ? Number(text.replaceAll('_', '')) : undefined;
}
