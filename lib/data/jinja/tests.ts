import { notSupported, TemplateError } from './errors.js';
import { percentFormat } from './format.js';
import { binary, compareBy, contains, equal } from './operators.js';
import { str } from './print.js';
import { bind, parseSignature } from './signature.js';
import { textPredicates } from './text.js';
import {
  Dict,
  Float,
  hashKey,
  isNumber,
  iterableOf,
  type Kwargs,
  lengthOf,
  Markup,
  PyObject,
  Undefined,
  type Value,
  View,
} from './values.js';

// The tests of Jinja2: `value is name(argument)`.

const remainder = (value: Value, by: Value) => binary('%', value, by, percentFormat);

/** Python's `is`. Whether equal texts are one object depends on Python's memory, so they are refused. */
function isSame(left: Value, right: Value): boolean {
  if (left === right && (left === null || typeof left === 'boolean' || typeof left === 'object')) return true;
  const isInt = (value: Value) => typeof value === 'number';
  if (isInt(left) && isInt(right)) {
    if (left !== right) return false;
    if (left >= -5 && left <= 256) return true;
  }
  const isPlain = (value: Value) => typeof value === 'string' || isInt(value) || value instanceof Float;
  if (isPlain(left) && isPlain(right) && typeof left === typeof right && equal(left, right)) {
    throw notSupported('the test sameas of equal texts or numbers');
  }
  return false;
}

function isSequence(value: Value): boolean {
  return lengthOf(value) !== undefined && !(value instanceof View) && !(value instanceof PyObject);
}

const isWhole = (value: Value) => typeof value === 'number' || typeof value === 'bigint';
const isDigits = (value: Value, name: 'islower' | 'isupper') => textPredicates[name]?.(str(value)) === true;

type Test = (value: Value, argument: Value) => boolean;

const PLAIN: Readonly<Record<string, Test>> = {
  boolean: (value) => typeof value === 'boolean',
  callable: (value) => value instanceof Undefined || (value instanceof PyObject && value.isCallable()),
  defined: (value) => !(value instanceof Undefined),
  escaped: (value) => value instanceof Markup,
  even: (value) => equal(remainder(value, 2), 0),
  false: (value) => value === false,
  filter: (value) => knownFilters.has(hashKey(value) as string),
  float: (value) => value instanceof Float,
  integer: isWhole,
  iterable: (value) =>
    iterableOf(value) !== undefined || (value instanceof PyObject && value.typeName === 'LoopContext'),
  lower: (value) => isDigits(value, 'islower'),
  mapping: (value) => value instanceof Dict,
  none: (value) => value === null,
  number: isNumber,
  odd: (value) => equal(remainder(value, 2), 1),
  sequence: isSequence,
  string: (value) => typeof value === 'string' || value instanceof Markup,
  test: (value) => isTestName(hashKey(value) as string),
  true: (value) => value === true,
  undefined: (value) => value instanceof Undefined,
  upper: (value) => isDigits(value, 'isupper'),
};

const OPERATORS: Readonly<Record<string, string>> = {
  '==': '==',
  eq: '==',
  equalto: '==',
  '!=': '!=',
  ne: '!=',
  '>': '>',
  gt: '>',
  greaterthan: '>',
  '>=': '>=',
  ge: '>=',
  '<': '<',
  lt: '<',
  lessthan: '<',
  '<=': '<=',
  le: '<=',
};

const WITH_ARGUMENT: ReadonlyMap<string, Test> = new Map<string, Test>([
  ['divisibleby', (value, by) => equal(remainder(value, by), 0)],
  ['in', (value, container) => contains(container, value)],
  ['sameas', isSame],
  ...Object.entries(OPERATORS).map(([name, operator]): [string, Test] => [
    name,
    (value, other) => compareBy(operator, value, other),
  ]),
]);

/** Filled by filters.ts, which needs the tests itself. */
export const knownFilters = new Set<string>();

export const isTestName = (name: string): boolean => Object.hasOwn(PLAIN, name) || WITH_ARGUMENT.has(name);

const PARAMETERS = { divisibleby: 'num', in: 'seq', sameas: 'other' };

export function applyTest(name: string, value: Value, args: readonly Value[], kwargs: Kwargs): boolean {
  const plain = Object.hasOwn(PLAIN, name) ? PLAIN[name] : undefined;
  if (plain !== undefined) {
    bind(`the test ${name}`, [], args, kwargs);
    return plain(value, null);
  }
  const test = WITH_ARGUMENT.get(name);
  if (test === undefined) throw new TemplateError(`TemplateAssertionError: No test named '${name}'.`);
  const parameter = Object.hasOwn(PARAMETERS, name) ? PARAMETERS[name as keyof typeof PARAMETERS] : 'other /';
  const [argument] = bind(`the test ${name}`, parseSignature(parameter), args, kwargs);
  return test(value, argument as Value);
}
