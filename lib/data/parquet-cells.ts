import type { FileMetaData, SchemaElement } from 'hyparquet';
import { parquetSchema } from 'hyparquet';
import { parseJson } from './exact-json.js';
import { exactNumber, ForeignValue } from './foreign-value.js';

// The cells of Parquet as JSON has them, by the types that the file's schema gives them. The library's own conversions
// are switched off where they lose something: decimals through doubles, times as bare numbers, types that it refuses.

type Convert = (value: unknown) => unknown;
/** A node of the schema's tree, as the library makes it. */
type Node = ReturnType<typeof parquetSchema>;

const decoder = new TextDecoder('utf-8', { fatal: true });

/** What the library calls where a type reaches it after all (INT96, values of VARIANT). */
export const parsers = {
  timestampFromMilliseconds: (value: bigint) => timestamp(value, 3),
  timestampFromMicroseconds: (value: bigint) => timestamp(value, 6),
  timestampFromNanoseconds: (value: bigint) => timestamp(value, 9),
  dateFromDays: (days: number) => new ForeignValue('date', dateText(days)),
};

/**
 * One function per column that turns its cells into JSON values and {@link ForeignValue}s; null stays null. Changes
 * the metadata so that the library leaves these columns to them.
 */
export function cellConverters(metadata: FileMetaData): Map<string, Convert> {
  const columns = parquetSchema(metadata).children;
  return new Map(columns.map((node) => [node.element.name, converter(node)]));
}

function converter(node: Node): Convert {
  const { element, children } = node;
  const convert = children.length === 0 ? leafConverter(element) : groupConverter(node);
  return (value) => (value === null || value === undefined ? null : convert(value));
}

/** Lists come as arrays, maps and structs as objects. */
function groupConverter(node: Node): Convert {
  const { element, children } = node;
  const [first] = children;
  if (element.logical_type?.type === 'VARIANT') return anyCell;
  const isRepeated = first?.element.repetition_type === 'REPEATED' && children.length === 1;
  if (element.converted_type === 'LIST' && isRepeated && first.children.length <= 1) {
    const item = converter(first.children[0] ?? first);
    return (value) => (value as unknown[]).map(item);
  }
  if (element.converted_type === 'MAP' && isRepeated && first.children.length === 2) {
    const item = converter(first.children[1]!);
    return (value) => mapObject(value as object, () => item);
  }
  const items = new Map(children.map((child) => [child.element.name, converter(child)]));
  const struct = (value: unknown) => mapObject(value as object, (key) => items.get(key)!);
  // A repeated group without an annotation is a list of structs.
  return (value) => (Array.isArray(value) ? value.map(struct) : struct(value));
}

function mapObject(value: object, convertOf: (key: string) => Convert): object {
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, convertOf(key)(item)]));
}

function leafConverter(element: SchemaElement): Convert {
  const convert = ofLeaf(element);
  if (element.repetition_type !== 'REPEATED') return convert;
  return (value) =>
    Array.isArray(value) ? value.map((item) => (item === null ? null : convert(item))) : convert(value);
}

function ofLeaf(element: SchemaElement): Convert {
  const { type, converted_type: converted, logical_type: logical } = element;
  const kind = kindOf(element);
  switch (kind) {
    case 'unsigned':
      return number('uint64');
    case 'none':
      if (type === 'FLOAT')
        return (value) => float('float', value, shortest(value as number, 9, Math.fround));
      if (type === 'DOUBLE') return (value) => float('double', value, value as number);
      if (type === 'BYTE_ARRAY' || type === 'FIXED_LEN_BYTE_ARRAY') return bytes('binary');
      return number(type === undefined ? 'number' : type.toLowerCase());
    default:
  }
  delete element.converted_type;
  delete element.logical_type;
  switch (kind) {
    case 'text':
      return (value) => textOf(value as Uint8Array);
    case 'decimal': {
      const scale = (logical?.type === 'DECIMAL' ? logical.scale : element.scale) ?? 0;
      return (value) => exactNumber('decimal', decimalText(wholeNumber(value), scale));
    }
    case 'date':
      return (value) => new ForeignValue('date', dateText(Number(value)));
    case 'time':
      return (value) =>
        new ForeignValue('time', timeText(BigInt(value as number), digitsOf(logical, converted)));
    case 'timestamp':
      return (value) => timestamp(value as bigint, digitsOf(logical, converted));
    case 'float16':
      return (value) => halfFloat(value as Uint8Array);
    case 'uuid':
      return (value) => uuidText(value as Uint8Array);
    case 'json':
      return (value) => jsonOf(value as Uint8Array);
    default:
      return bytes(kind);
  }
}

type Logical = SchemaElement['logical_type'];

function kindOf({ type, converted_type: converted, logical_type: logical }: SchemaElement): string {
  const name = logical?.type;
  if (converted === 'DECIMAL' || name === 'DECIMAL') return 'decimal';
  if (converted === 'DATE' || name === 'DATE') return 'date';
  if (converted?.startsWith('TIMESTAMP') || name === 'TIMESTAMP') return 'timestamp';
  if (converted?.startsWith('TIME_') || name === 'TIME') return 'time';
  if (name === 'FLOAT16') return 'float16';
  if (name === 'UUID') return 'uuid';
  if (converted === 'JSON' || name === 'JSON') return 'json';
  if (converted === 'BSON' || name === 'BSON') return 'BSON';
  if (converted === 'INTERVAL') return 'interval';
  if (name === 'GEOMETRY' || name === 'GEOGRAPHY') return name.toLowerCase();
  const isText = ['UTF8', 'ENUM'].includes(converted ?? '') || ['STRING', 'ENUM'].includes(name ?? '');
  if (isText && type === 'BYTE_ARRAY') {
    return 'text';
  }
  return converted === 'UINT_64' ? 'unsigned' : 'none';
}

/** Digits after the point of a second: 3, 6 or 9. */
function digitsOf(logical: Logical, converted: SchemaElement['converted_type']): number {
  const unit = logical !== undefined && 'unit' in logical ? logical.unit : undefined;
  if (unit === 'NANOS') return 9;
  return unit === 'MICROS' || converted?.endsWith('MICROS') ? 6 : 3;
}

const number =
  (type: string): Convert =>
  (value) =>
    typeof value === 'bigint' ? exactNumber(type, String(value)) : value;

const bytes =
  (type: string): Convert =>
  (value) =>
    new ForeignValue(type, `of ${(value as Uint8Array).length} bytes`);

/** Cells of VARIANT have types of their own. */
function anyCell(value: unknown): unknown {
  if (value === null || value === undefined) return null;
  if (typeof value === 'bigint') return exactNumber('number', String(value));
  if (typeof value === 'number') return float('number', value, value);
  if (value instanceof Uint8Array) return bytes('binary')(value);
  if (Array.isArray(value)) return value.map(anyCell);
  return typeof value === 'object' && !(value instanceof ForeignValue)
    ? mapObject(value, () => anyCell)
    : value;
}

function textOf(value: Uint8Array): unknown {
  try {
    return decoder.decode(value);
  } catch {
    return new ForeignValue('text that is no UTF-8', `of ${value.length} bytes`);
  }
}

const float = (type: string, value: unknown, shown: number) =>
  Number.isFinite(value) ? shown : new ForeignValue(type, String(value));

/** The number of fewest digits that a narrower float rounds to the same value, as every tool prints it. */
function shortest(value: number, digits: number, round: (value: number) => number): number {
  if (!Number.isFinite(value)) return value;
  for (let precision = 1; precision < digits; precision++) {
    const short = Number(value.toPrecision(precision));
    if (round(short) === value) return short;
  }
  return value;
}

function halfFloat(value: Uint8Array): unknown {
  const bits = (value[1]! << 8) | value[0]!;
  const exponent = (bits >> 10) & 31;
  const sign = bits >> 15 ? -1 : 1;
  if (exponent === 31)
    return new ForeignValue('float16', bits & 1023 ? 'NaN' : `${sign > 0 ? '' : '-'}Infinity`);
  const step = 2 ** (Math.max(exponent, 1) - 25);
  const exact = sign * ((bits & 1023) + (exponent === 0 ? 0 : 1024)) * step;
  return shortest(exact, 6, (short) => Math.round(short / step) * step);
}

function wholeNumber(value: unknown): bigint {
  if (!(value instanceof Uint8Array)) return BigInt(value as number | bigint);
  let whole = 0n;
  for (const byte of value) whole = (whole << 8n) | BigInt(byte);
  return BigInt.asIntN(8 * value.length, whole);
}

function decimalText(unscaled: bigint, scale: number): string {
  const digits = String(unscaled < 0n ? -unscaled : unscaled).padStart(scale + 1, '0');
  const whole = digits.slice(0, digits.length - scale);
  return `${unscaled < 0n ? '-' : ''}${whole}${scale > 0 ? `.${digits.slice(digits.length - scale)}` : ''}`;
}

function dateText(days: number): string {
  const date = new Date(days * 86_400_000);
  return Number.isNaN(date.getTime()) ? `${days} days after 1970-01-01` : date.toISOString().slice(0, 10);
}

function timeText(count: bigint, digits: number): string {
  const scale = 10n ** BigInt(digits);
  const seconds = count / scale;
  const parts = [seconds / 3600n, (seconds / 60n) % 60n, seconds % 60n].map((part) =>
    String(part).padStart(2, '0'),
  );
  const fraction = String(count % scale).padStart(digits, '0');
  return `${parts.join(':')}${/^0+$/.test(fraction) ? '' : `.${fraction}`}`;
}

function timestamp(count: bigint, digits: number): ForeignValue {
  const day = 86_400n * 10n ** BigInt(digits);
  const time = ((count % day) + day) % day;
  return new ForeignValue('timestamp', `${dateText(Number((count - time) / day))} ${timeText(time, digits)}`);
}

function uuidText(value: Uint8Array): string {
  const hex = Array.from(value, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

function jsonOf(value: Uint8Array): unknown {
  const text = textOf(value);
  if (typeof text !== 'string') return text;
  try {
    return parseJson(text);
  } catch {
    return new ForeignValue('JSON that cannot be parsed', `of ${value.length} bytes`);
  }
}
