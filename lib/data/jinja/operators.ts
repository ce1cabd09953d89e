import { notSupported, typeError, valueError } from './errors.js';
import { checkLength, spend } from './limits.js';
import { arithmetic, asInt } from './numbers.js';
import {
  Dict,
  Float,
  hasSurrogates,
  isHashable,
  isNumber,
  iterate,
  Iterator,
  lengthOf,
  listOf,
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

// Python's operators.

const numberOf = (value: boolean | number | bigint | Float): number | bigint =>
  value instanceof Float ? value.value : typeof value === 'boolean' ? Number(value) : value;

const textOf = (value: Value): string | undefined =>
  typeof value === 'string' ? value : value instanceof Markup ? value.text : undefined;

function equalLists(left: readonly Value[], right: readonly Value[]): boolean {
  return (
    left.length === right.length &&
    left.every((item, i) => item === right[i] || equal(item, right[i] as Value))
  );
}

/** `==` */
export function equal(left: Value, right: Value): boolean {
  spend();
  if (typeof left === 'string' && typeof right === 'string') return left === right;
  // biome-ignore lint/suspicious/noDoubleEquals: a number and a bigint are compared by value
  if (isNumber(left) && isNumber(right)) return numberOf(left) == numberOf(right);
  if (Array.isArray(left)) return Array.isArray(right) && equalLists(left, right);
  if (left instanceof Tuple) return right instanceof Tuple && equalLists(left.items, right.items);
  if (left instanceof Undefined) return right instanceof Undefined;
  if (left instanceof Dict) {
    if (!(right instanceof Dict) || left.size !== right.size) return false;
    for (const [key, value] of left.entries()) {
      const other = right.get(key);
      if (other === undefined || !(value === other || equal(value, other))) return false;
    }
    return true;
  }
  if (left instanceof Range && right instanceof Range) return equalLists([...left], [...right]);
  if (left instanceof Markup || right instanceof Markup) return textOf(left) === textOf(right);
  if (left instanceof View && right instanceof View && left.kind !== 'values' && right.kind !== 'values') {
    throw notSupported('comparing the views of dicts');
  }
  return left === right;
}

/** Order of code points; JavaScript's own compares UTF-16 units. */
function compareTexts(left: string, right: string): number {
  if (left === right) return 0;
  if (!hasSurrogates(left) && !hasSurrogates(right)) return left < right ? -1 : 1;
  const [a, b] = [Array.from(left), Array.from(right)];
  for (let i = 0; i < a.length && i < b.length; i += 1) {
    const difference = (a[i]?.codePointAt(0) as number) - (b[i]?.codePointAt(0) as number);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

/** Negative, 0, positive, or NaN where neither is smaller; refuses what Python cannot order. */
export function compare(left: Value, right: Value, operator = '<'): number {
  spend();
  if (typeof left === 'string' && typeof right === 'string') return compareTexts(left, right);
  if (isNumber(left) && isNumber(right)) {
    const [a, b] = [numberOf(left), numberOf(right)];
    // biome-ignore lint/suspicious/noDoubleEquals: a number and a bigint are compared by value
    return a < b ? -1 : a > b ? 1 : a == b ? 0 : Number.NaN;
  }
  const lists: (readonly Value[])[] = [];
  for (const side of [left, right]) {
    if (side instanceof Undefined) side.fail();
    if (side instanceof Tuple) lists.push(side.items);
    else if (Array.isArray(side)) lists.push(side);
  }
  const [a, b] = lists;
  if (a !== undefined && b !== undefined && typeName(left) === typeName(right)) {
    for (let i = 0; i < a.length && i < b.length; i += 1) {
      const [x, y] = [a[i] as Value, b[i] as Value];
      if (!(x === y || equal(x, y))) return compare(x, y, operator);
    }
    return a.length - b.length;
  }
  if (left instanceof Markup || right instanceof Markup) throw notSupported('ordering safe text');
  if (left instanceof View && right instanceof View) throw notSupported('comparing the views of dicts');
  throw typeError(
    `'${operator}' not supported between instances of '${typeName(left)}' and '${typeName(right)}'`,
  );
}

/** `item in container` */
export function contains(container: Value, item: Value): boolean {
  const text = textOf(container);
  if (text !== undefined) {
    const part = textOf(item);
    if (part === undefined) {
      throw typeError(`'in <string>' requires string as left operand, not ${typeName(item)}`);
    }
    return text.includes(part);
  }
  if (container instanceof Dict) return container.has(item);
  if (container instanceof View && container.kind === 'keys') return container.dict.has(item);
  for (const other of iterate(container)) if (other === item || equal(other, item)) return true;
  return false;
}

/** `==`, `<`, `in` and so on. */
export function compareBy(operator: string, left: Value, right: Value): boolean {
  switch (operator) {
    case '==':
      return equal(left, right);
    case '!=':
      return !equal(left, right);
    case 'in':
      return contains(right, left);
    case 'not in':
      return !contains(right, left);
    case '<':
      return compare(left, right, operator) < 0;
    case '<=':
      return compare(left, right, operator) <= 0;
    case '>':
      return compare(left, right, operator) > 0;
    default:
      return compare(left, right, operator) >= 0;
  }
}

function repeat(value: Value, times: Value): Value | undefined {
  const given = asInt(times);
  if (given === undefined) return undefined;
  const count = Math.max(0, Number(given));
  if (typeof value === 'string') return checkLength(value.length * count) === 0 ? '' : value.repeat(count);
  const items = value instanceof Tuple ? value.items : value;
  if (!Array.isArray(items)) return undefined;
  const length = checkLength(items.length * count);
  const repeated = Array.from({ length }, (_, i) => items[i % items.length] as Value);
  return value instanceof Tuple ? new Tuple(repeated) : repeated;
}

/** `+ - * / // % **`; `formatText` is what `%` does with a text. */
export function binary(
  operator: string,
  left: Value,
  right: Value,
  formatText: (format: string, values: Value) => string,
): Value {
  const result = arithmetic(operator, left, right);
  if (result !== undefined) return result;
  if (operator === '%' && typeof left === 'string') return formatText(left, right);
  if (left instanceof Undefined) left.fail();
  if (right instanceof Undefined) right.fail();
  if (left instanceof Markup || right instanceof Markup) throw notSupported(`'${operator}' with safe text`);
  if (operator === '+') {
    if (typeof left === 'string' && typeof right === 'string') {
      checkLength(left.length + right.length);
      return left + right;
    }
    if (Array.isArray(left) && Array.isArray(right)) {
      checkLength(left.length + right.length);
      return left.concat(right);
    }
    if (left instanceof Tuple && right instanceof Tuple) return new Tuple([...left.items, ...right.items]);
  }
  if (operator === '*') {
    const repeated = repeat(left, right) ?? repeat(right, left);
    if (repeated !== undefined) return repeated;
  }
  if (left instanceof Dict && right instanceof Dict && operator === '|') {
    return Dict.of([...left.entries(), ...right.entries()]);
  }
  throw typeError(
    `unsupported operand type(s) for ${operator}: '${typeName(left)}' and '${typeName(right)}'`,
  );
}

export function negate(value: Value): Value {
  if (value instanceof Float) return new Float(-value.value);
  if (value instanceof Undefined) value.fail();
  const number = asInt(value);
  if (number === undefined) throw typeError(`bad operand type for unary -: '${typeName(value)}'`);
  return typeof number === 'bigint' ? -number : 0 - number;
}

export function positive(value: Value): Value {
  if (value instanceof Float) return value;
  if (value instanceof Undefined) value.fail();
  const number = asInt(value);
  if (number === undefined) throw typeError(`bad operand type for unary +: '${typeName(value)}'`);
  return number;
}

/** Python's slice.indices(): where a slice of a sequence of this length begins, where it ends, and its step. */
function sliceBounds(length: number, slice: Slice): [start: number, stop: number, step: number] {
  const part = (value: Value, name: string): number | undefined => {
    if (value === null) return undefined;
    const number = asInt(value);
    if (number === undefined) {
      throw typeError(`slice ${name} must be integers or None, not ${typeName(value)}`);
    }
    return Number(number);
  };
  const step = part(slice.step, 'indices') ?? 1;
  if (step === 0) throw valueError('slice step cannot be zero');
  const [low, high] = step > 0 ? [0, length] : [-1, length - 1];
  const bound = (value: number | undefined, otherwise: number) => {
    if (value === undefined) return otherwise;
    return Math.min(high, Math.max(low, value < 0 ? value + length : value));
  };
  return [
    bound(part(slice.start, 'indices'), step > 0 ? low : high),
    bound(part(slice.stop, 'indices'), step > 0 ? high : low),
    step,
  ];
}

/** The positions that a slice of a sequence of this length has. */
function* sliceIndices(length: number, slice: Slice): Generator<number> {
  const [start, stop, step] = sliceBounds(length, slice);
  for (let i = start; step > 0 ? i < stop : i > stop; i += step) yield i;
}

function sliceRange(range: Range, slice: Slice): Range {
  const [start, stop, step] = sliceBounds(range.length, slice);
  if (!Number.isSafeInteger(range.step * step)) throw notSupported('a range with a step beyond 2^53');
  return new Range(range.at(start), range.at(stop), range.step * step);
}

export function sliceList(items: readonly Value[], slice: Slice): Value[] {
  return Array.from(sliceIndices(items.length, slice), (i) => items[i] as Value);
}

export function sliceText(text: string, slice: Slice): string {
  const points = hasSurrogates(text) ? Array.from(text) : text;
  if (typeof points === 'string' && (slice.step === null || slice.step === 1)) {
    let first: number | undefined;
    let last = -1;
    const length = points.length;
    // The common case: one piece of the text.
    const bound = (value: Value, otherwise: number) =>
      typeof value === 'number'
        ? Math.min(length, Math.max(0, value < 0 ? value + length : value))
        : otherwise;
    if ([slice.start, slice.stop].every((part) => part === null || typeof part === 'number')) {
      first = bound(slice.start, 0);
      last = bound(slice.stop, length);
      return points.slice(first, Math.max(first, last));
    }
  }
  return Array.from(sliceIndices(points.length, slice), (i) => points[i] as string).join('');
}

/** `object[start:stop:step]`, whose errors Jinja2 lets through. */
function sliceOf(object: Value, slice: Slice): Value {
  if (typeof object === 'string') return sliceText(object, slice);
  if (Array.isArray(object)) return sliceList(object, slice);
  if (object instanceof Tuple) return new Tuple(sliceList(object.items, slice));
  if (object instanceof Range) return sliceRange(object, slice);
  if (object instanceof Markup) throw notSupported('a part of safe text');
  if (object instanceof Dict) throw typeError("unhashable type: 'slice'");
  throw typeError(`'${typeName(object)}' object is not subscriptable`);
}

/** `object[key]`, or undefined where Python raises a TypeError or LookupError. */
export function subscript(object: Value, key: Value): Value | undefined {
  if (object instanceof Undefined) object.fail();
  if (key instanceof Slice) return sliceOf(object, key);
  if (object instanceof Dict) return isHashable(key) ? object.get(key) : undefined;
  if (object instanceof Markup) throw notSupported('a part of safe text');
  const given = asInt(key);
  const length = lengthOf(object);
  if (given === undefined || length === undefined) return undefined;
  const index = Number(given) < 0 ? Number(given) + length : Number(given);
  if (typeof object === 'string') return hasSurrogates(object) ? Array.from(object)[index] : object[index];
  if (Array.isArray(object)) return object[index];
  if (object instanceof Tuple) return object.items[index];
  if (object instanceof Range) return index >= 0 && index < length ? object.at(index) : undefined;
  return undefined;
}

/** Python's sorted(), by keys that are compared as Python compares them; equal ones keep their order. */
export function sorted(values: readonly Value[], key: (value: Value) => Value, isReversed: boolean): Value[] {
  const keyed = values.map((value) => ({ value, key: key(value) }));
  if (isReversed) keyed.reverse();
  // As in Python only "smaller" is asked for.
  keyed.sort((a, b) => (compare(a.key, b.key) < 0 ? -1 : compare(b.key, a.key) < 0 ? 1 : 0));
  if (isReversed) keyed.reverse();
  return keyed.map(({ value }) => value);
}

/** Python's reversed(), or undefined where the type has none. */
export function reversed(value: Value): Iterable<Value> | undefined {
  if (value instanceof Iterator || value instanceof PyObject) return undefined;
  if (lengthOf(value) === undefined) return undefined;
  return listOf(value).reverse();
}
