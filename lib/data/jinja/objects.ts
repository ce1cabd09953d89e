import { notSupported, TemplateError, typeError, valueError } from './errors.js';
import { asInt } from './numbers.js';
import { equal } from './operators.js';
import { repr } from './print.js';
import {
  Callable,
  Dict,
  iterate,
  type Kwargs,
  lengthOf,
  listOf,
  PyObject,
  Range,
  Tuple,
  Undefined,
  type Value,
} from './values.js';

// The objects that Jinja2 gives to templates: namespaces, loops, cyclers, joiners.

/** Python's dict(...). */
export function makeDict(args: readonly Value[], kwargs: Kwargs): Dict {
  const [source, ...rest] = args;
  if (rest.length > 0) throw typeError(`dict expected at most 1 argument, got ${args.length}`);
  const dict = new Dict();
  if (source instanceof Dict) for (const [key, value] of source.entries()) dict.set(key, value);
  else if (source instanceof Undefined) source.fail();
  else if (source !== undefined) {
    for (const item of iterate(source)) {
      const pair = listOf(item);
      if (pair.length !== 2) throw valueError('dictionary update sequence: every element has a length of 2');
      dict.set(pair[0] as Value, pair[1] as Value);
    }
  }
  for (const [key, value] of kwargs) dict.set(key, value);
  return dict;
}

export class Namespace extends PyObject {
  readonly typeName = 'Namespace';
  readonly #attributes: Dict;
  #isPrinted = false;

  constructor(attributes: Dict) {
    super();
    for (const key of attributes.keys()) Namespace.#check(key);
    this.#attributes = attributes;
  }

  static #check(name: Value): void {
    if (typeof name === 'string' && name.startsWith('_')) {
      throw new TemplateError(`SecurityError: a namespace cannot have the attribute '${name}'`);
    }
  }

  override attribute(name: string): Value | undefined {
    return this.#attributes.get(name);
  }

  set(name: string, value: Value): void {
    Namespace.#check(name);
    this.#attributes.set(name, value);
  }

  /** A namespace may be its own attribute. */
  override print(): string {
    if (this.#isPrinted) return '<Namespace {...}>';
    this.#isPrinted = true;
    try {
      return `<Namespace ${repr(this.#attributes)}>`;
    } finally {
      this.#isPrinted = false;
    }
  }
}

const method = (call: (args: readonly Value[]) => Value) =>
  new Callable('method', (args, kwargs) => {
    const [unknown] = kwargs.keys();
    if (unknown !== undefined) throw typeError(`unexpected keyword argument '${unknown}'`);
    return call(args);
  });

export class Cycler extends PyObject {
  readonly typeName = 'Cycler';
  readonly #items: readonly Value[];
  #position = 0;

  constructor(items: readonly Value[]) {
    super();
    if (items.length === 0) throw new TemplateError('RuntimeError: at least one item has to be provided');
    this.#items = items;
  }

  override attribute(name: string): Value | undefined {
    const current = this.#items[this.#position] as Value;
    switch (name) {
      case 'current':
        return current;
      case 'items':
        return new Tuple(this.#items);
      case 'pos':
        return this.#position;
      case 'next':
        return method(() => {
          const value = this.#items[this.#position] as Value;
          this.#position = (this.#position + 1) % this.#items.length;
          return value;
        });
      case 'reset':
        return method(() => {
          this.#position = 0;
          return null;
        });
      default:
        return undefined;
    }
  }
}

export class Joiner extends PyObject {
  readonly typeName = 'Joiner';
  readonly #separator: Value;
  #isUsed = false;

  constructor(separator: Value) {
    super();
    this.#separator = separator;
  }

  override attribute(name: string): Value | undefined {
    if (name === 'sep') return this.#separator;
    return name === 'used' ? this.#isUsed : undefined;
  }

  override call(): Value {
    if (this.#isUsed) return this.#separator;
    this.#isUsed = true;
    return '';
  }

  override isCallable(): boolean {
    return true;
  }
}

/** The `loop` of a for block. */
export class Loop extends PyObject {
  readonly typeName = 'LoopContext';
  readonly #depth0: number;
  readonly #recurse: ((items: Value, depth0: number) => Value) | undefined;
  #iterator: globalThis.Iterator<Value>;
  #length: number | undefined;
  #index0 = -1;
  #after: { value: Value } | undefined;
  #current: Value | undefined;
  #before: Value | undefined;
  #changed: Tuple | undefined;

  constructor(items: Value, depth0: number, recurse: ((items: Value, depth0: number) => Value) | undefined) {
    super();
    this.#iterator = iterate(items)[Symbol.iterator]();
    this.#length = lengthOf(items);
    this.#depth0 = depth0;
    this.#recurse = recurse;
  }

  next(): Value | undefined {
    const item = this.#peek();
    if (item === undefined) return undefined;
    this.#after = undefined;
    this.#index0 += 1;
    this.#before = this.#current;
    this.#current = item.value;
    return item.value;
  }

  #peek(): { value: Value } | undefined {
    if (this.#after === undefined) {
      const { done, value } = this.#iterator.next();
      if (done !== true) this.#after = { value };
    }
    return this.#after;
  }

  #lengthNow(): number {
    if (this.#length === undefined) {
      const rest: Value[] = [];
      for (let item = this.#iterator.next(); item.done !== true; item = this.#iterator.next())
        rest.push(item.value);
      this.#iterator = rest.values();
      this.#length = rest.length + this.#index0 + 1 + (this.#after === undefined ? 0 : 1);
    }
    return this.#length;
  }

  override attribute(name: string): Value | undefined {
    switch (name) {
      case 'index':
        return this.#index0 + 1;
      case 'index0':
        return this.#index0;
      case 'revindex':
        return this.#lengthNow() - this.#index0;
      case 'revindex0':
        return this.#lengthNow() - this.#index0 - 1;
      case 'first':
        return this.#index0 === 0;
      case 'last':
        return this.#peek() === undefined;
      case 'length':
        return this.#lengthNow();
      case 'depth':
        return this.#depth0 + 1;
      case 'depth0':
        return this.#depth0;
      case 'previtem':
        return this.#index0 === 0 ? new Undefined('there is no previous item') : this.#before;
      case 'nextitem':
        return (
          this.#peek()?.value ?? (this.#after === undefined ? new Undefined('there is no next item') : null)
        );
      case 'cycle':
        return method((args) => {
          if (args.length === 0) throw typeError('no items for cycling given');
          return args[this.#index0 % args.length] as Value;
        });
      case 'changed':
        return method((args) => {
          const value = new Tuple(args);
          if (this.#changed !== undefined && equal(this.#changed, value)) return false;
          this.#changed = value;
          return true;
        });
      default:
        return undefined;
    }
  }

  override call(args: readonly Value[]): Value {
    if (this.#recurse === undefined) {
      throw typeError("The loop must have the 'recursive' marker to be called recursively.");
    }
    const [items] = args;
    if (items === undefined || args.length !== 1) throw typeError('loop() takes one argument');
    return this.#recurse(items, this.#depth0 + 1);
  }

  override isCallable(): boolean {
    return true;
  }

  override print(): string {
    return `<LoopContext ${this.#index0 + 1}/${this.#lengthNow()}>`;
  }
}

/** The sandbox's limit on range(). */
const MAX_RANGE = 100_000;

export function makeRange(args: readonly Value[]): Range {
  const numbers = args.map((value) => {
    const number = asInt(value);
    if (number === undefined) throw typeError('range() takes integers');
    if (typeof number === 'bigint') throw notSupported('range() of ints beyond 2^53');
    return number;
  });
  if (numbers.length < 1 || numbers.length > 3)
    throw typeError(`range expected 1 to 3 arguments, got ${args.length}`);
  const [first = 0, second, step = 1] = numbers;
  if (step === 0) throw valueError('range() arg 3 must not be zero');
  const range = second === undefined ? new Range(0, first, 1) : new Range(first, second, step);
  if (range.length > MAX_RANGE) {
    throw new TemplateError(
      `OverflowError: range() of ${range.length} elements; the sandbox allows ${MAX_RANGE} at most`,
    );
  }
  return range;
}
