import { attributeOnly, callBuiltin } from './attributes.js';
import { notSupported, TemplateError, typeError, valueError } from './errors.js';
import { percentFormat } from './format.js';
import { arithmetic, asInt, int, needInt, round, toFloat } from './numbers.js';
import { binary, reversed, sorted } from './operators.js';
import { json, jsonOptions, str } from './print.js';
import {
  attributeGetter,
  batch,
  chosen,
  dictSort,
  extreme,
  first,
  groupBy,
  mapped,
  pairs,
  reverse,
  slices,
  sortGetter,
  unique,
} from './sequence-filters.js';
import { knownFilters } from './tests.js';
import { capitalize, lower } from './letter-case.js';
import { join, needText, pad, replace, strip } from './text.js';
import {
  escapeHtml,
  fileSize,
  indent,
  soft,
  title,
  toFloatValue,
  toInt,
  truncate,
  urlEncode,
} from './text-filters.js';
import {
  Dict,
  Float,
  isNumber,
  isTrue,
  iterate,
  Iterator,
  type Kwargs,
  lengthOf,
  listOf,
  Markup,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from './values.js';

// The filters of Jinja2, with transformers' own tojson.

/** A flag that Python takes as an int alone. */
const intFlag = (value: Value | undefined): boolean => value !== undefined && needInt(value) !== 0;
const flag = (value: Value | undefined): boolean => value !== undefined && isTrue(value);

function roundBy(value: Value, precision: number, method: Value): Value {
  if (method === 'common') {
    if (!isNumber(value)) throw typeError(`type ${typeName(value)} doesn't define __round__ method`);
    return round(value, precision);
  }
  if (method !== 'ceil' && method !== 'floor') throw valueError('method must be common, ceil or floor');
  const unit = binary('**', 10, precision, percentFormat);
  const scaled = binary('*', value, unit, percentFormat);
  if (!isNumber(scaled)) throw typeError(`must be real number, not ${typeName(value)}`);
  const whole = asInt(scaled) ?? int(BigInt(Math[method](toFloat(scaled))));
  return arithmetic('/', whole, unit) as Value;
}

const length = (value: Value): Value => {
  const found = lengthOf(value);
  if (found === undefined) throw typeError(`object of type '${typeName(value)}' has no len()`);
  return found;
};

function absolute(value: Value): Value {
  if (value instanceof Float) return new Float(Math.abs(value.value));
  const whole = asInt(value);
  if (whole === undefined) throw typeError(`bad operand type for abs(): '${typeName(value)}'`);
  return whole < 0 ? -whole : whole;
}

const generator = (values: Iterable<Value>) => new Iterator('generator', values);
type Filter = readonly [signature: string, (value: Value, ...args: (Value | undefined)[]) => Value];

const count: Filter = ['/', length];
const escaped: Filter = ['/', (value) => (value instanceof Markup ? value : escapeHtml(str(value)))];
const fallback: Filter = [
  'default_value= boolean=',
  (value, otherwise = '', isBoolean = false) =>
    value instanceof Undefined || (isTrue(isBoolean) && !isTrue(value)) ? otherwise : value,
];

const FILTERS: ReadonlyMap<string, Filter> = new Map<string, Filter>([
  ['abs', ['/', absolute]],
  ['attr', ['name', (value, name) => attributeOnly(value, needText(name, 'the name of an attribute'))]],
  [
    'batch',
    ['linecount fill_with=', (value, size, fill = null) => generator(batch(value, size ?? null, fill))],
  ],
  ['capitalize', ['', (value) => capitalize(soft(value))]],
  ['center', ['width=', (value, width = 80) => pad(soft(value), needInt(width), ' ', 'center')]],
  ['count', count],
  ['d', fallback],
  ['default', fallback],
  [
    'dictsort',
    [
      'case_sensitive= by= reverse=',
      (value, isSensitive, by = 'key', isReversed) =>
        dictSort(value, flag(isSensitive), by, intFlag(isReversed)),
    ],
  ],
  ['e', escaped],
  ['escape', escaped],
  ['filesizeformat', ['binary=', (value, isBinary) => fileSize(value, flag(isBinary))]],
  ['first', ['', (value) => first(iterate(value), 'first')]],
  ['float', ['default=', (value, otherwise = new Float(0)) => toFloatValue(value, otherwise)]],
  ['forceescape', ['', (value) => escapeHtml(str(value))]],
  [
    'groupby',
    [
      'attribute default= case_sensitive=',
      (value, attribute, otherwise = null, isSensitive) =>
        groupBy(value, attribute as Value, otherwise, flag(isSensitive)),
    ],
  ],
  [
    'indent',
    [
      'width= first= blank=',
      (value, width = 4, isFirst, isBlank) => indent(value, width, flag(isFirst), flag(isBlank)),
    ],
  ],
  ['int', ['default= base=', (value, otherwise = 0, base = 10) => toInt(value, otherwise, needInt(base))]],
  ['items', ['', (value) => generator(pairs(value))]],
  [
    'join',
    [
      'd= attribute=',
      (value, separator = '', attribute = null) =>
        join(
          str(separator),
          Array.from(iterate(value), (item) => str(attributeGetter(attribute)(item))),
        ),
    ],
  ],
  ['last', ['', (value) => first(reversed(value) ?? notReversible(value), 'last')]],
  ['length', count],
  ['list', ['', (value) => listOf(value)]],
  ['lower', ['', (value) => lower(soft(value))]],
  [
    'max',
    [
      'case_sensitive= attribute=',
      (value, isSensitive, attribute = null) =>
        extreme(value, attributeGetter(attribute, flag(isSensitive)), (order) => order > 0),
    ],
  ],
  [
    'min',
    [
      'case_sensitive= attribute=',
      (value, isSensitive, attribute = null) =>
        extreme(value, attributeGetter(attribute, flag(isSensitive)), (order) => order < 0),
    ],
  ],
  [
    'replace',
    [
      'old new count=',
      (value, old, next, times = null) =>
        replace(str(value), str(old as Value), str(next as Value), times === null ? -1 : needInt(times)),
    ],
  ],
  ['reverse', ['', reverse]],
  [
    'round',
    [
      'precision= method=',
      (value, precision = 0, method = 'common') => roundBy(value, needInt(precision), method),
    ],
  ],
  ['safe', ['', (value) => (value instanceof Markup ? value : new Markup(str(value)))]],
  [
    'slice',
    ['slices fill_with=', (value, size, fill = null) => generator(slices(value, size ?? null, fill))],
  ],
  [
    'sort',
    [
      'reverse= case_sensitive= attribute=',
      (value, isReversed, isSensitive, attribute = null) =>
        sorted(listOf(value), sortGetter(attribute, flag(isSensitive)), intFlag(isReversed)),
    ],
  ],
  ['string', ['/', (value) => (value instanceof Markup ? value : str(value))]],
  [
    'sum',
    [
      'attribute= start=',
      (value, attribute = null, start = 0) => {
        if (typeof start === 'string') throw typeError("sum() can't sum strings [use ''.join(seq) instead]");
        const get = attributeGetter(attribute);
        let total: Value = start;
        for (const item of iterate(value)) total = binary('+', total, get(item), percentFormat);
        return total;
      },
    ],
  ],
  ['title', ['', (value) => title(soft(value))]],
  [
    'tojson',
    [
      'ensure_ascii= indent= separators= sort_keys=',
      (value, ensureAscii, level = null, separators = null, sortKeys) => {
        // Of a text Python does not look at the indent.
        const indent = typeof value === 'string' || value instanceof Markup ? null : level;
        return json(value, jsonOptions(flag(ensureAscii), indent, separators, flag(sortKeys)));
      },
    ],
  ],
  ['trim', ['chars=', (value, chars) => strip(soft(value), chars, true, true)]],
  [
    'truncate',
    [
      'length= killwords= end= leeway=',
      (value, size = 255, isCut, end = '...', leeway = null) =>
        truncate(value, size, flag(isCut), end, leeway ?? 5),
    ],
  ],
  [
    'unique',
    [
      'case_sensitive= attribute=',
      (value, isSensitive, attribute = null) =>
        generator(unique(value, attributeGetter(attribute, flag(isSensitive)))),
    ],
  ],
  ['upper', ['', (value) => soft(value).toUpperCase()]],
  ['urlencode', ['', urlEncode]],
  ['wordcount', ['', (value) => soft(value).match(/[\p{L}\p{N}_]+/gu)?.length ?? 0]],
]);

function notReversible(value: Value): never {
  throw typeError(`'${typeName(value)}' object is not reversible`);
}

/** Filters that take any arguments. */
type Variadic = (value: Value, args: readonly Value[], kwargs: Kwargs) => Value;
const VARIADIC: ReadonlyMap<string, Variadic> = new Map<string, Variadic>([
  ['map', (value, args, kwargs) => generator(mapped(value, args, kwargs, applyFilter))],
  ['select', (value, args, kwargs) => generator(chosen(value, args, kwargs, false, true))],
  ['reject', (value, args, kwargs) => generator(chosen(value, args, kwargs, false, false))],
  ['selectattr', (value, args, kwargs) => generator(chosen(value, args, kwargs, true, true))],
  ['rejectattr', (value, args, kwargs) => generator(chosen(value, args, kwargs, true, false))],
  [
    'format',
    (value, args, kwargs) => {
      if (args.length > 0 && kwargs.size > 0) {
        throw valueError("can't handle positional and keyword arguments at the same time");
      }
      return percentFormat(soft(value), kwargs.size > 0 ? Dict.of(kwargs) : new Tuple(args));
    },
  ],
]);

const REFUSED = ['pprint', 'random', 'striptags', 'urlize', 'wordwrap', 'xmlattr'];

for (const name of [...FILTERS.keys(), ...VARIADIC.keys(), ...REFUSED]) knownFilters.add(name);

export const isFilterName = (name: string): boolean => knownFilters.has(name);

export function applyFilter(name: string, value: Value, args: readonly Value[], kwargs: Kwargs): Value {
  const filter = FILTERS.get(name);
  if (filter !== undefined) return callBuiltin(name, filter, [value], args, kwargs);
  const variadic = VARIADIC.get(name);
  if (variadic !== undefined) return variadic(value, args, kwargs);
  if (REFUSED.includes(name)) throw notSupported(`the filter ${name}`);
  throw new TemplateError(`TemplateAssertionError: No filter named '${name}'.`);
}
