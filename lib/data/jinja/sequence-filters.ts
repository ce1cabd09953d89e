import { getItem } from './attributes.js';
import { notSupported, TemplateError, typeError, valueError } from './errors.js';
import { checkLength } from './limits.js';
import { needInt } from './numbers.js';
import { compare, equal, reversed, sorted } from './operators.js';
import { applyTest } from './tests.js';
import { lower } from './letter-case.js';
import {
  Dict,
  hashKey,
  isTrue,
  iterate,
  Iterator,
  type Kwargs,
  listOf,
  Markup,
  Tuple,
  Undefined,
  type Value,
} from './values.js';

// What the filters that work on lists and dicts do; filters.ts gives them their names and arguments.

export function ignoreCase(value: Value): Value {
  if (value instanceof Markup) return new Markup(lower(value.text));
  return typeof value === 'string' ? lower(value) : value;
}

export type Getter = (item: Value) => Value;

/** What `attribute="a.0.b"` takes from an item. */
export function attributeGetter(attribute: Value, isCaseSensitive = true, otherwise: Value = null): Getter {
  const parts: Value[] =
    typeof attribute === 'string'
      ? attribute.split('.').map((part) => (/^\d+$/.test(part) ? Number(part) : part))
      : attribute === null
        ? []
        : [attribute];
  return (item) => {
    let value = item;
    for (const part of parts) {
      value = getItem(value, part);
      if (otherwise !== null && value instanceof Undefined) value = otherwise;
    }
    return isCaseSensitive ? value : ignoreCase(value);
  };
}

/** Keys of `sort`, where "a,b" names two attributes. */
export function sortGetter(attribute: Value, isCaseSensitive: boolean): Getter {
  const names = typeof attribute === 'string' ? attribute.split(',') : [attribute];
  const getters = names.map((name) => attributeGetter(name, isCaseSensitive));
  return (item) => getters.map((get) => get(item));
}

export function* batch(value: Value, size: Value, fill: Value): Generator<Value> {
  let row: Value[] = [];
  for (const item of iterate(value)) {
    if (equal(row.length, size)) {
      yield row;
      row = [];
    }
    row.push(item);
  }
  if (row.length === 0) return;
  if (fill !== null && compare(row.length, size) < 0) {
    const count = checkLength(needInt(size));
    while (row.length < count) row.push(fill);
  }
  yield row;
}

export function* slices(value: Value, number: Value, fill: Value): Generator<Value> {
  const items = listOf(value);
  const count = needInt(number);
  if (count === 0) throw new TemplateError('ZeroDivisionError: integer division or modulo by zero');
  const size = Math.floor(items.length / count);
  const longer = items.length % count;
  let offset = 0;
  for (let i = 0; i < count; i += 1) {
    const start = offset + i * size;
    if (i < longer) offset += 1;
    const row = items.slice(start, offset + (i + 1) * size);
    if (fill !== null && i >= longer) row.push(fill);
    yield row;
  }
}

export function* unique(value: Value, getter: Getter): Generator<Value> {
  const seen = new Set<unknown>();
  for (const item of iterate(value)) {
    const key = hashKey(getter(item));
    if (seen.has(key)) continue;
    seen.add(key);
    yield item;
  }
}

export function groupBy(value: Value, attribute: Value, otherwise: Value, isCaseSensitive: boolean): Value {
  const getter = attributeGetter(attribute, isCaseSensitive, otherwise);
  const grouper = attributeGetter(attribute, true, otherwise);
  const groups: { key: Value; items: Value[] }[] = [];
  for (const item of sorted(listOf(value), getter, false)) {
    const key = getter(item);
    const last = groups.at(-1);
    if (last !== undefined && equal(last.key, key)) last.items.push(item);
    else groups.push({ key, items: [item] });
  }
  return groups.map(({ items }) => new Tuple([grouper(items[0] as Value), items], ['grouper', 'list']));
}

export function extreme(value: Value, getter: Getter, isBetter: (order: number) => boolean): Value {
  let best: { item: Value; key: Value } | undefined;
  for (const item of iterate(value)) {
    const key = getter(item);
    if (best === undefined || isBetter(compare(key, best.key))) best = { item, key };
  }
  return best?.item ?? (best === undefined ? new Undefined('No aggregated item, sequence was empty.') : null);
}

export function* mapped(
  value: Value,
  args: readonly Value[],
  kwargs: Kwargs,
  applyFilter: (name: string, value: Value, args: readonly Value[], kwargs: Kwargs) => Value,
): Generator<Value> {
  if (!isTrue(value)) return;
  let convert: Getter;
  const [name, ...rest] = args;
  if (name === undefined && kwargs.has('attribute')) {
    for (const key of kwargs.keys()) {
      if (key !== 'attribute' && key !== 'default') throw valueError(`Unexpected keyword argument '${key}'`);
    }
    convert = attributeGetter(kwargs.get('attribute') as Value, true, kwargs.get('default') ?? null);
  } else {
    if (typeof name !== 'string') throw valueError('map requires a filter argument');
    convert = (item) => applyFilter(name, item, rest, kwargs);
  }
  for (const item of iterate(value)) yield convert(item);
}

/** select, reject, selectattr and rejectattr. */
export function* chosen(
  value: Value,
  args: readonly Value[],
  kwargs: Kwargs,
  byAttribute: boolean,
  wanted: boolean,
) {
  if (!isTrue(value)) return;
  const rest = [...args];
  let get: Getter = (item) => item;
  if (byAttribute) {
    const attribute = rest.shift();
    if (attribute === undefined) throw valueError('Missing parameter for attribute name');
    get = attributeGetter(attribute);
  }
  const name = rest.shift();
  if (name !== undefined && typeof name !== 'string') throw typeError('the name of a test is a text');
  for (const item of iterate(value)) {
    const tested = get(item);
    if ((name === undefined ? isTrue(tested) : applyTest(name, tested, rest, kwargs)) === wanted) yield item;
  }
}

/** The pairs of a mapping. */
export function* pairs(value: Value): Generator<Value> {
  if (value instanceof Undefined) return;
  if (!(value instanceof Dict)) throw typeError('Can only get item pairs from a mapping.');
  for (const entry of value.entries()) yield new Tuple(entry);
}

export const dictSort = (value: Value, isCaseSensitive: boolean, by: Value, isReversed: boolean): Value => {
  if (value instanceof Undefined) value.fail();
  if (!(value instanceof Dict)) throw typeError('dictsort needs a mapping');
  if (by !== 'key' && by !== 'value') throw valueError('You can only sort by either "key" or "value"');
  const entries = Array.from(value.entries(), (entry) => new Tuple(entry));
  const key = ({ items: [name, item] }: Tuple) => (by === 'key' ? name : item) as Value;
  return sorted(
    entries,
    (e) => (isCaseSensitive ? key(e as Tuple) : ignoreCase(key(e as Tuple))),
    isReversed,
  );
};

export function first(items: Iterable<Value>, which: string): Value {
  for (const item of items) return item;
  return new Undefined(`No ${which} item, sequence was empty.`);
}

export function reverse(value: Value): Value {
  if (typeof value === 'string') return Array.from(value).reverse().join('');
  if (value instanceof Markup) throw notSupported('reversing safe text');
  const items = reversed(value);
  return items === undefined ? listOf(value).reverse() : new Iterator('list_reverseiterator', items);
}
