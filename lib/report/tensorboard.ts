import { maskedCrc32c } from './crc32c.js';

// TensorBoard event files: TFRecords of Event messages (tensorflow/core/util/event.proto), scalars alone.

type Field = Buffer;

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = BigInt(value);
  while (rest > 0x7fn) {
    bytes.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}

const key = (field: number, wireType: number) => varint((field << 3) | wireType);
const integer = (field: number, value: number): Field => Buffer.concat([key(field, 0), varint(value)]);
const bytes = (field: number, value: Buffer): Field =>
  Buffer.concat([key(field, 2), varint(value.length), value]);
const text = (field: number, value: string): Field => bytes(field, Buffer.from(value));

function double(field: number, value: number): Field {
  const buffer = Buffer.alloc(8);
  buffer.writeDoubleLE(value);
  return Buffer.concat([key(field, 1), buffer]);
}

function float(field: number, value: number): Field {
  const buffer = Buffer.alloc(4);
  buffer.writeFloatLE(value);
  return Buffer.concat([key(field, 5), buffer]);
}

/** Length, its checksum, the data, its checksum. */
function tfRecord(data: Buffer): Buffer {
  const header = Buffer.alloc(12);
  header.writeBigUInt64LE(BigInt(data.length));
  header.writeUInt32LE(maskedCrc32c(header.subarray(0, 8)), 8);
  const footer = Buffer.alloc(4);
  footer.writeUInt32LE(maskedCrc32c(data));
  return Buffer.concat([header, data, footer]);
}

/** The record that every event file begins with. `time` is in seconds since 1970. */
export const versionRecord = (time: number) =>
  tfRecord(Buffer.concat([double(1, time), text(3, 'brain.Event:2')]));

/** A process begins to write at `step`: TensorBoard forgets what an earlier one wrote from there on. */
export const startRecord = (time: number, step: number) =>
  tfRecord(Buffer.concat([double(1, time), integer(2, step), bytes(7, integer(1, 1))]));

/** Scalars of one step. Values that are not finite are left out. */
export function scalarsRecord(time: number, step: number, scalars: Readonly<Record<string, number>>): Buffer {
  const values = Object.entries(scalars)
    .filter(([, value]) => Number.isFinite(value))
    .map(([tag, value]) => bytes(1, Buffer.concat([text(1, tag), float(2, value)])));
  return tfRecord(Buffer.concat([double(1, time), integer(2, step), bytes(5, Buffer.concat(values))]));
}

/** What TensorBoard takes for an event file; later files come after earlier ones in the order of names. */
export const eventFileName = (time: number, host: string, pid: number) =>
  `events.out.tfevents.${String(Math.floor(time)).padStart(10, '0')}.${host.replaceAll(/[^\w.-]/g, '_')}.${pid}.0`;
