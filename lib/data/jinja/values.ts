import { notSupported, TemplateError, typeError } from './errors.js';
import { spend } from './limits.js';

// Python's values in JavaScript: None is null, bool boolean, int a safe integer number (or a bigint beyond 2^53), str
// string, list an array; the others are the classes below. A template cannot change a list or dict.

export type Value =
  | null
  | boolean
  | number
  | bigint
  | string
  | Value[]
  | Float
  | Tuple
  | Dict
  | Undefined
  | Range
  | Iterator
  | View
  | Markup
  | Slice
  | PyObject;

export type Kwargs = ReadonlyMap<string, Value>;

export class Float {
  readonly value: number;
  constructor(value: number) {
    this.value = value;
  }
}

export class Tuple {
  readonly items: readonly Value[];
  /** Attributes by position, of a named tuple. */
  readonly names: readonly string[];
  constructor(items: readonly Value[], names: readonly string[] = []) {
    this.items = items;
    this.names = names;
  }
}

/** What is not there: prints as nothing, is false, and refuses the rest with its message. */
export class Undefined {
  readonly message: string;
  constructor(message: string) {
    this.message = message;
  }
  fail(): never {
    throw new TemplateError(`UndefinedError: ${this.message}`);
  }
}

/** Text marked as safe by `safe` or `escape`; it prints as it is. */
export class Markup {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

/** Python's slice object, which only a subscript makes. */
export class Slice {
  readonly start: Value;
  readonly stop: Value;
  readonly step: Value;
  constructor(start: Value, stop: Value, step: Value) {
    this.start = start;
    this.stop = stop;
    this.step = step;
  }
}

export class Range {
  readonly start: number;
  readonly step: number;
  readonly length: number;
  readonly stop: number;
  constructor(start: number, stop: number, step: number) {
    this.start = start;
    this.stop = stop;
    this.step = step;
    this.length = Math.max(0, Math.ceil((stop - start) / step));
  }
  at(index: number): number {
    return this.start + index * this.step;
  }
  *[Symbol.iterator](): Generator<Value> {
    for (let i = 0; i < this.length; i += 1) yield this.at(i);
  }
}

/** A generator or iterator of Python: it can be read once. */
export class Iterator {
  readonly name: string;
  readonly values: Generator<Value>;
  constructor(name: string, values: Iterable<Value>) {
    this.name = name;
    this.values = (function* () {
      yield* values;
    })();
  }
  /** Unlike for-of over the generator itself, leaving this one early keeps what is left. */
  *[Symbol.iterator](): Generator<Value> {
    for (;;) {
      const { done, value } = this.values.next();
      if (done === true) return;
      yield value;
    }
  }
}

/** Objects with attributes of their own: namespaces, macros, loops, functions. */
export abstract class PyObject {
  abstract readonly typeName: string;
  attribute(_name: string): Value | undefined {
    return undefined;
  }
  call(_args: readonly Value[], _kwargs: Kwargs): Value {
    throw typeError(`'${this.typeName}' object is not callable`);
  }
  isCallable(): boolean {
    return false;
  }
  print(): string {
    throw notSupported(`printing a ${this.typeName}, which in Jinja2 shows an address,`);
  }
}

/** A function, or a method bound to its object. */
export class Callable extends PyObject {
  readonly typeName: string;
  readonly #call: (args: readonly Value[], kwargs: Kwargs) => Value;
  constructor(typeName: string, call: (args: readonly Value[], kwargs: Kwargs) => Value) {
    super();
    this.typeName = typeName;
    this.#call = call;
  }
  override call(args: readonly Value[], kwargs: Kwargs): Value {
    return this.#call(args, kwargs);
  }
  override isCallable(): boolean {
    return true;
  }
}

type HashKey = string | number | bigint | null | symbol | PyObject | Iterator | View;

/** Equal for values that are equal and hash alike in Python: 1, 1.0 and True are one key. */
export function hashKey(value: Value): HashKey {
  if (typeof value === 'string' || value === null || typeof value === 'number') return value;
  if (typeof value === 'boolean') return Number(value);
  if (typeof value === 'bigint') return value;
  if (value instanceof Float) {
    return Number.isInteger(value.value) && !Number.isSafeInteger(value.value)
      ? BigInt(value.value)
      : value.value;
  }
  if (value instanceof Markup) return value.text;
  if (value instanceof Undefined) return Symbol.for('undefined');
  if (value instanceof PyObject || value instanceof Iterator) return value;
  if (value instanceof View && value.kind === 'values') return value;
  if (value instanceof Range) {
    const { length, start, step } = value;
    return Symbol.for(`range(${length}, ${length > 0 ? start : 0}, ${length > 1 ? step : 0})`);
  }
  if (value instanceof Tuple) {
    const keys = value.items.map((item) => {
      const key = hashKey(item);
      if (typeof key === 'object' && key !== null)
        throw notSupported(`a tuple with a ${typeName(key)} as a key`);
      return `${typeof key}:${String(key)}`;
    });
    return Symbol.for(JSON.stringify(keys));
  }
  throw typeError(`unhashable type: '${typeName(value)}'`);
}

/** Whether Python takes it as the key of a dict. */
export function isHashable(value: Value): boolean {
  if (value instanceof Tuple) return value.items.every(isHashable);
  if (value instanceof View) return value.kind === 'values';
  return !(Array.isArray(value) || value instanceof Dict || value instanceof Slice);
}

export class Dict {
  readonly #entries = new Map<HashKey, { key: Value; value: Value }>();

  static of(entries: Iterable<readonly [Value, Value]>): Dict {
    const dict = new Dict();
    for (const [key, value] of entries) dict.set(key, value);
    return dict;
  }

  get size(): number {
    return this.#entries.size;
  }
  get(key: Value): Value | undefined {
    return this.#entries.get(hashKey(key))?.value;
  }
  has(key: Value): boolean {
    return this.#entries.has(hashKey(key));
  }
  /** For building; a key that is there keeps its place and its first form, as in Python. */
  set(key: Value, value: Value): void {
    const hashed = hashKey(key);
    const known = this.#entries.get(hashed);
    if (known === undefined) this.#entries.set(hashed, { key, value });
    else known.value = value;
  }
  *entries(): Generator<[Value, Value]> {
    for (const { key, value } of this.#entries.values()) yield [key, value];
  }
  *keys(): Generator<Value> {
    for (const { key } of this.#entries.values()) yield key;
  }
  *values(): Generator<Value> {
    for (const { value } of this.#entries.values()) yield value;
  }
}

/** What dict.keys(), dict.values() and dict.items() give. */
export class View {
  readonly kind: 'keys' | 'values' | 'items';
  readonly dict: Dict;
  constructor(kind: 'keys' | 'values' | 'items', dict: Dict) {
    this.kind = kind;
    this.dict = dict;
  }
  *[Symbol.iterator](): Generator<Value> {
    if (this.kind === 'items') for (const entry of this.dict.entries()) yield new Tuple(entry);
    else yield* this.kind === 'keys' ? this.dict.keys() : this.dict.values();
  }
}

export function typeName(value: Value): string {
  if (value === null) return 'NoneType';
  if (typeof value === 'boolean') return 'bool';
  if (typeof value === 'number' || typeof value === 'bigint') return 'int';
  if (typeof value === 'string') return 'str';
  if (Array.isArray(value)) return 'list';
  if (value instanceof Float) return 'float';
  if (value instanceof Tuple) return 'tuple';
  if (value instanceof Dict) return 'dict';
  if (value instanceof Undefined) return 'Undefined';
  if (value instanceof Range) return 'range';
  if (value instanceof Iterator) return value.name;
  if (value instanceof View) return `dict_${value.kind}`;
  if (value instanceof Markup) return 'Markup';
  if (value instanceof Slice) return 'slice';
  return value.typeName;
}

export const isNumber = (value: Value): value is boolean | number | bigint | Float =>
  typeof value === 'number' ||
  typeof value === 'boolean' ||
  typeof value === 'bigint' ||
  value instanceof Float;

/** The elements of anything that can be iterated over, or undefined. */
export function iterableOf(value: Value): Iterable<Value> | undefined {
  if (typeof value === 'string' || Array.isArray(value)) return value;
  if (value instanceof Tuple) return value.items;
  if (value instanceof Dict) return value.keys();
  if (value instanceof Undefined) return [];
  if (value instanceof Range || value instanceof View || value instanceof Iterator) return value;
  if (value instanceof Markup) return value.text;
  return undefined;
}

export function iterate(value: Value): Iterable<Value> {
  const iterable = iterableOf(value);
  if (iterable !== undefined) return iterable;
  if (typeName(value) === 'LoopContext') throw notSupported('reading a loop ahead by its own object');
  throw typeError(`'${typeName(value)}' object is not iterable`);
}

export function listOf(value: Value): Value[] {
  const list: Value[] = [];
  for (const item of iterate(value)) {
    spend();
    list.push(item);
  }
  return list;
}

const SURROGATE = /[\ud800-\udfff]/;

/** Whether positions in the text differ between Python (code points) and JavaScript (UTF-16 units). */
export const hasSurrogates = (text: string): boolean => SURROGATE.test(text);

/** In code points. */
export function textLength(text: string): number {
  if (!hasSurrogates(text)) return text.length;
  let length = 0;
  for (const _ of text) length += 1;
  return length;
}

/** What Python's len() gives, or undefined where the type has none. */
export function lengthOf(value: Value): number | undefined {
  if (typeof value === 'string') return textLength(value);
  if (Array.isArray(value)) return value.length;
  if (value instanceof Tuple) return value.items.length;
  if (value instanceof Dict) return value.size;
  if (value instanceof View) return value.dict.size;
  if (value instanceof Range) return value.length;
  if (value instanceof Undefined) return 0;
  if (value instanceof Markup) return textLength(value.text);
  if (value instanceof PyObject) {
    const length = value.typeName === 'LoopContext' ? value.attribute('length') : undefined;
    return typeof length === 'number' ? length : undefined;
  }
  return undefined;
}

export function isTrue(value: Value): boolean {
  if (typeof value === 'boolean') return value;
  if (typeof value === 'string') return value !== '';
  if (value === null) return false;
  if (typeof value === 'number') return value !== 0;
  if (value instanceof Float) return value.value !== 0;
  return lengthOf(value) !== 0;
}

const isPlainObject = (value: object): value is Record<string, unknown> =>
  Object.getPrototypeOf(value) === Object.prototype || Object.getPrototypeOf(value) === null;

/**
 * A value of Python from one of JSON. A number without a fraction is an int; one that was written with a fraction or an
 * exponent (1.0) comes as a Number object, so that it stays a float. A Map is a dict whose keys keep their order.
 */
export function fromJson(value: unknown): Value {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value;
  if (typeof value === 'number') {
    if (Number.isSafeInteger(value) && !Object.is(value, -0)) return value;
    return new Float(value);
  }
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  if (value === undefined) return new Undefined('the value is undefined');
  const boxed = Object.prototype.toString.call(value) === '[object Number]' ? Number(value) : undefined;
  if (boxed !== undefined) return new Float(boxed);
  if (Array.isArray(value)) return value.map(fromJson);
  if (value instanceof Map) return Dict.of([...value].map(([key, item]) => [String(key), fromJson(item)]));
  if (typeof value === 'object' && isPlainObject(value)) {
    const dict = new Dict();
    // A field that is undefined is no field of JSON.
    for (const [key, item] of Object.entries(value)) if (item !== undefined) dict.set(key, fromJson(item));
    return dict;
  }
  throw notSupported(`a ${typeof value} in a conversation`);
}
