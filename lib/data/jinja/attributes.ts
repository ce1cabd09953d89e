import { notSupported, TemplateError, typeError, valueError } from './errors.js';
import { formatText } from './format.js';
import { asInt, needInt } from './numbers.js';
import { equal, subscript } from './operators.js';
import { repr } from './print.js';
import { bind, type Builtin, parseSignature } from './signature.js';
import { textMethods } from './text.js';
import {
  Callable,
  Dict,
  Float,
  iterate,
  type Kwargs,
  Markup,
  PyObject,
  Range,
  Tuple,
  typeName,
  Undefined,
  type Value,
  View,
} from './values.js';

// `object.name` and `object[key]` as in the sandbox that transformers uses: private names and methods that change a
// list or dict are not there.

type Method = readonly [signature: string, (self: never, ...args: (Value | undefined)[]) => Value];

/** None is a value; only undefined means that there is none. */
const orElse = (value: Value | undefined, other: () => Value): Value =>
  value === undefined ? other() : value;

const notInList = (what: string) => valueError(`${what}: the value is not there`);

function indexOf(
  items: readonly Value[],
  value: Value,
  start: Value | undefined,
  stop: Value | undefined,
): number {
  const bound = (given: Value | undefined, otherwise: number) => {
    const position = given === undefined ? otherwise : needInt(given);
    return position < 0 ? Math.max(0, position + items.length) : position;
  };
  for (let i = bound(start, 0); i < Math.min(items.length, bound(stop, items.length)); i += 1) {
    if (equal(items[i] as Value, value)) return i;
  }
  throw notInList('index()');
}

const countOf = (items: Iterable<Value>, value: Value): number =>
  Array.from(items).filter((item) => equal(item, value)).length;

const floatRatio = (x: number): Tuple => {
  if (!Number.isFinite(x)) throw valueError('cannot convert NaN or infinity to integer ratio');
  let denominator = 1;
  let numerator = x;
  while (!Number.isInteger(numerator)) {
    numerator *= 2;
    denominator *= 2;
  }
  if (!Number.isSafeInteger(numerator) || !Number.isSafeInteger(denominator))
    throw notSupported('as_integer_ratio');
  return new Tuple([numerator, denominator]);
};

const magnitudeBits = (value: Value): string =>
  BigInt(asInt(value) as number)
    .toString(2)
    .replace('-', '');

/** Methods by type; for the texts see text.ts. */
const METHODS: Readonly<Record<string, ReadonlyMap<string, Method>>> = {
  list: new Map<string, Method>([
    ['copy', ['', (self: Value[]) => [...self]]],
    ['count', ['value /', (self: Value[], value) => countOf(self, value as Value)]],
    [
      'index',
      [
        'value start= stop= /',
        (self: Value[], value, start, stop) => indexOf(self, value as Value, start, stop),
      ],
    ],
  ]),
  tuple: new Map<string, Method>([
    ['count', ['value /', (self: Tuple, value) => countOf(self.items, value as Value)]],
    [
      'index',
      [
        'value start= stop= /',
        (self: Tuple, value, start, stop) => indexOf(self.items, value as Value, start, stop),
      ],
    ],
  ]),
  dict: new Map<string, Method>([
    ['copy', ['', (self: Dict) => Dict.of(self.entries())]],
    ['fromkeys', ['iterable value= /', (_: Dict, keys, value = null) => fromKeys(keys as Value, value)]],
    [
      'get',
      [
        'key default= /',
        (self: Dict, key, otherwise = null) => orElse(self.get(key as Value), () => otherwise),
      ],
    ],
    ['items', ['', (self: Dict) => new View('items', self)]],
    ['keys', ['', (self: Dict) => new View('keys', self)]],
    ['values', ['', (self: Dict) => new View('values', self)]],
  ]),
  range: new Map<string, Method>([
    ['count', ['value /', (self: Range, value) => countOf(self, value as Value)]],
    ['index', ['value /', (self: Range, value) => indexOf([...self], value as Value, undefined, undefined)]],
  ]),
  int: new Map<string, Method>([
    ['bit_length', ['', (self: Value) => (asInt(self) === 0 ? 0 : magnitudeBits(self).length)]],
    ['bit_count', ['', (self: Value) => magnitudeBits(self).replaceAll('0', '').length]],
    ['conjugate', ['', (self: Value) => asInt(self) as number]],
    ['as_integer_ratio', ['', (self: Value) => new Tuple([asInt(self) as number, 1])]],
  ]),
  float: new Map<string, Method>([
    ['is_integer', ['', (self: Float) => Number.isInteger(self.value)]],
    ['conjugate', ['', (self: Float) => self]],
    ['as_integer_ratio', ['', (self: Float) => floatRatio(self.value)]],
  ]),
};

/** What Python has and a template may use, but is not done here. */
const REFUSED: Readonly<Record<string, readonly string[]>> = {
  str: ['encode', 'maketrans', 'translate'],
  int: ['to_bytes', 'from_bytes'],
  float: ['hex', 'fromhex'],
  dict_keys: ['isdisjoint', 'mapping'],
  dict_values: ['mapping'],
  dict_items: ['isdisjoint', 'mapping'],
  slice: ['start', 'stop', 'step', 'indices'],
  generator: ['send', 'throw', 'close'],
};

/** Methods that change their object; the sandbox hides them. */
const MUTATING: Readonly<Record<string, readonly string[]>> = {
  list: ['append', 'clear', 'pop', 'reverse', 'insert', 'sort', 'extend', 'remove'],
  dict: ['clear', 'pop', 'popitem', 'setdefault', 'update'],
  generator: ['gi_frame', 'gi_code'],
};

export function fromKeys(keys: Value, value: Value): Dict {
  const dict = new Dict();
  for (const key of iterate(keys)) dict.set(key, value);
  return dict;
}

const methodType = (value: Value): string => (typeof value === 'boolean' ? 'int' : typeName(value));

const parsed = new Map<string, ReturnType<typeof parseSignature>>();

function parametersOf(signature: string): ReturnType<typeof parseSignature> {
  let parameters = parsed.get(signature);
  if (parameters === undefined) {
    parameters = parseSignature(signature);
    parsed.set(signature, parameters);
  }
  return parameters;
}

/** Calls a built-in function of this signature. */
export function callBuiltin(
  name: string,
  [signature, body]: readonly [string, Builtin<never[]>] | Method,
  self: readonly Value[],
  args: readonly Value[],
  kwargs: Kwargs,
): Value {
  const bound = bind(name, parametersOf(signature), args, kwargs);
  return (body as (...all: (Value | undefined)[]) => Value)(...self, ...bound);
}

function formatMethod(text: string, name: string, args: readonly Value[], kwargs: Kwargs): string {
  const [mapping] = args;
  if (name === 'format_map' && !(mapping instanceof Dict && args.length === 1 && kwargs.size === 0)) {
    throw typeError('format_map() takes one mapping');
  }
  return formatText(text, {
    value(key) {
      if (typeof key === 'number' && name === 'format') {
        const value = args[key];
        if (value === undefined) {
          throw new TemplateError('IndexError: Replacement index out of range for positional args tuple');
        }
        return value;
      }
      const value = name === 'format' ? kwargs.get(String(key)) : (mapping as Dict).get(key);
      if (value === undefined) throw new TemplateError(`KeyError: ${repr(key)}`);
      return value;
    },
    attribute: getAttribute,
    item: getItem,
  });
}

const bindMethod = (name: string, self: Value, method: Method) =>
  new Callable('builtin_function_or_method', (args, kwargs) =>
    callBuiltin(name, method, [self], args, kwargs),
  );

/** An attribute of Python's own, without the entries of a dict: undefined where there is none. */
function ownAttribute(object: Value, name: string): Value | undefined {
  if (object instanceof Undefined) return object.fail();
  const type = methodType(object);
  if (/^__.*__$/.test(name)) return unsafe(type, name);
  if (object instanceof PyObject) return object.attribute(name);
  if (typeof object === 'string') {
    const method = textMethods.get(name);
    if (method !== undefined) return bindMethod(name, object, method);
    if (name === 'format' || name === 'format_map') {
      return new Callable('function', (args, kwargs) => formatMethod(object, name, args, kwargs));
    }
  }
  if (object instanceof Markup) throw notSupported(`.${name} of safe text`);
  const method = METHODS[type]?.get(name);
  if (method !== undefined) return bindMethod(name, object, method);
  if (MUTATING[type]?.includes(name) === true) return unsafe(type, name);
  if (REFUSED[type]?.includes(name) === true) throw notSupported(`.${name} of a ${type}`);
  if (object instanceof Tuple) {
    const position = object.names.indexOf(name);
    return position < 0 ? undefined : object.items[position];
  }
  if (object instanceof Range && (name === 'start' || name === 'stop' || name === 'step'))
    return object[name];
  if (type === 'int') {
    if (name === 'real' || name === 'numerator') return asInt(object);
    if (name === 'imag') return 0;
    if (name === 'denominator') return 1;
  }
  if (object instanceof Float) {
    if (name === 'real') return object;
    if (name === 'imag') return new Float(0);
  }
  return undefined;
}

const unsafe = (type: string, name: string) =>
  new Undefined(`access to attribute '${name}' of '${type}' object is unsafe.`);

function missing(object: Value, key: Value): Undefined {
  const owner = object === null ? 'None' : `${typeName(object)} object`;
  return new Undefined(
    typeof key === 'string' ? `'${owner}' has no attribute '${key}'` : `${owner} has no element ${repr(key)}`,
  );
}

/** `object.name`: an attribute first, then an entry. */
export function getAttribute(object: Value, name: string): Value {
  if (object instanceof Dict && !DICT_NAMES.has(name) && !name.startsWith('__')) {
    return orElse(object.get(name), () => missing(object, name));
  }
  return orElse(ownAttribute(object, name), () =>
    orElse(subscript(object, name), () => missing(object, name)),
  );
}

const DICT_NAMES = new Set([...(METHODS.dict?.keys() ?? []), ...(MUTATING.dict ?? [])]);

/** `object[key]`: an entry first, then an attribute. */
export function getItem(object: Value, key: Value): Value {
  const value = subscript(object, key);
  if (value !== undefined) return value;
  const attribute = typeof key === 'string' ? ownAttribute(object, key) : undefined;
  return orElse(attribute, () => missing(object, key));
}

/** Whether there is an attribute of Python's own, for the filter `attr`. */
export function attributeOnly(object: Value, name: string): Value {
  return orElse(ownAttribute(object, name), () => missing(object, name));
}

/** Calls a method of a text without making it an object first, or undefined where there is no such method. */
export function callTextMethod(
  text: string,
  name: string,
  args: readonly Value[],
  kwargs: Kwargs,
): Value | undefined {
  const method = textMethods.get(name);
  return method === undefined ? undefined : callBuiltin(name, method, [text], args, kwargs);
}
