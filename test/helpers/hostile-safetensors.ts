// Safetensors files made by hand that must be refused, and why.

/** A file: header length, header, data. */
export function file(header: string | Buffer, data: Buffer | number = 0, length?: bigint): Buffer {
  const text = typeof header === 'string' ? Buffer.from(header) : header;
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(length ?? BigInt(text.length));
  return Buffer.concat([size, text, typeof data === 'number' ? Buffer.alloc(data) : data]);
}

export const entry = (dtype: string, shape: string, begin: number | string, end: number | string) =>
  `{"dtype":"${dtype}","shape":${shape},"data_offsets":[${begin},${end}]}`;
/** One tensor "a" of two float32, with a piece of its JSON replaced. */
const edited = (from: string, to: string) => {
  const header = `{"a":${entry('F32', '[2]', 0, 8)}}`;
  if (!header.includes(from)) throw new Error(`the header has no ${from}`);
  return file(header.replace(from, to), 8);
};

const MAX = '18446744073709551615'; // 2^64 - 1
export const hostile: [name: string, bytes: Buffer, message: RegExp][] = [];
const add = (name: string, bytes: Buffer, message: RegExp) => hostile.push([name, bytes, message]);

// The header's length.
for (let size = 0; size < 8; size++)
  add(`a file of ${size} bytes`, Buffer.alloc(size), /too few for a header/);
add('nothing but a length of 0', file(''), /expected '{' at byte 0/);
for (const [name, length, message] of [
  ['100 MB + 1', 100_000_001n, /claims 100000001 bytes, the limit is 100000000/],
  ['2^31', 2n ** 31n, /the limit is/],
  ['2^32', 2n ** 32n, /the limit is/],
  ['2^53', 2n ** 53n, /the limit is/],
  ['2^63 - 1', 2n ** 63n - 1n, /the limit is/],
  ['2^63', 2n ** 63n, /the limit is/],
  ['2^64 - 8', 2n ** 64n - 8n, /the limit is/],
  ['2^64 - 1', 2n ** 64n - 1n, /the limit is/],
  ['one more than there is', 3n, /truncated: the header claims 3 bytes, 2 follow/],
  ['100 MB, which are not there', 100_000_000n, /truncated: the header claims 100000000 bytes/],
] as const) {
  add(`a header length of ${name}`, file('{}', 0, length), message);
}
add('a header length that ends inside the header', file('{"a":1}', 0, 4n), /a string without end|expected/);
add('pickle', Buffer.from('\x80\x02}q\x00(X\x04\x00\x00\x00dataq\x01K\x00u.', 'latin1'), /limit|truncated/);
add('a zip file', Buffer.from('PK\x03\x04\x14\x00\x00\x00\x08\x00more of it', 'latin1'), /limit|truncated/);
add('an HTML page', Buffer.from('<!DOCTYPE html><html>404</html>'), /limit/);
add('a Git LFS pointer', Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:00\n'), /limit/);

// JSON that is none, or that the format does not allow.
for (const [text, message] of [
  ['null', /expected '{' at byte 0/],
  ['[]', /expected '{'/],
  ['"a"', /expected '{'/],
  ['7', /expected '{'/],
  ['{', /expected '"' at byte 1/],
  ['}', /expected '{'/],
  ['{}}', /unexpected content after/],
  ['{}{}', /unexpected content after/],
  ['{} x', /unexpected content after/],
  ['{}\0', /unexpected content after/],
  ['\0{}', /expected '{' at byte 0/],
  ['\ufeff{}', /expected '{' at byte 0/],
  ['{,}', /expected '"'/],
  ['{"a"}', /expected ':'/],
  ['{"a":}', /expected '{'/],
  ['{"a" 1}', /expected ':'/],
  ["{'a':{}}", /expected '"'/],
  ['{a:{}}', /expected '"'/],
  ['{"a":{},}', /lacks "dtype"/],
  ['{"a":1}', /expected '{' at byte 5/],
  ['{"a":null}', /expected '{'/],
  ['{"a":[]}', /expected '{'/],
  ['{"a":"b"}', /expected '{'/],
  ['{"a":{}}', /tensor "a" lacks "dtype"/],
  ['{/*c*/}', /expected '"'/],
  ['{"a', /a string without end/],
  ['{"a\\', /wrong escape/],
  ['{"a\\q":{}}', /wrong escape/],
  ['{"a\\u12":{}}', /wrong \\u escape/],
  ['{"a\\u00g0":{}}', /wrong \\u escape/],
  ['{"\\ud800":{}}', /lone surrogate/],
  ['{"\\udc00":{}}', /lone surrogate/],
  ['{"\\ud800\\u0041":{}}', /lone surrogate/],
  ['{"\\ud800x":{}}', /lone surrogate/],
  ['{"":{}}', /an empty name/],
  ['{"a\nb":{}}', /control character in a string/],
  ['{"a\tb":{}}', /control character in a string/],
  ['{"\\u0000":{}}', /control character in a name/],
  ['{"\\u001b[31m":{}}', /control character in a name/],
  ['{"a\\nb":{}}', /control character in a name/],
  ['{"\\u007f":{}}', /control character in a name/],
  [`{"${'x'.repeat(1025)}":{}}`, /a string of more than 1024 bytes/],
  [`{"${'x'.repeat(1_000_000)}":{}}`, /a string of more than 1024 bytes/],
  ['{"a":'.repeat(100_000), /unknown field|expected/],
  [`{"a":${'['.repeat(100_000)}`, /expected '{'/],
  [`{"a":{"shape":${'['.repeat(100_000)}`, /expected an unsigned integer/],
  [`{"a":{"shape":[${'{"b":'.repeat(100_000)}`, /expected an unsigned integer/],
] as const) {
  add(
    `the header ${text.length > 40 ? `${text.slice(0, 24)}... (${text.length})` : JSON.stringify(text)}`,
    file(text),
    message,
  );
}
for (const [name, bytes] of [
  ['a lone continuation byte', [0x80]],
  ['an overlong slash', [0xc0, 0xaf]],
  ['an overlong NUL', [0xc0, 0x80]],
  ['a truncated two-byte sequence', [0xc3]],
  ['an overlong three-byte sequence', [0xe0, 0x80, 0xaf]],
  ['a truncated three-byte sequence', [0xe2, 0x82]],
  ['a surrogate', [0xed, 0xa0, 0x80]],
  ['an overlong four-byte sequence', [0xf0, 0x80, 0x80, 0xaf]],
  ['a code above U+10FFFF', [0xf4, 0x90, 0x80, 0x80]],
  ['a five-byte sequence', [0xf8, 0x88, 0x80, 0x80, 0x80]],
  ['the byte FF', [0xff]],
] as const) {
  const header = Buffer.concat([Buffer.from('{"a'), Buffer.from(bytes), Buffer.from('":{}}')]);
  add(`${name} in a name`, file(header), /invalid UTF-8 at byte/);
}

// Fields of a tensor.
for (const [from, to, message] of [
  ['"dtype":"F32",', '', /tensor "a" lacks "dtype"/],
  ['"shape":[2],', '', /lacks "shape"/],
  [',"data_offsets":[0,8]', '', /lacks "data_offsets"/],
  ['"dtype":"F32"', '"dtype":"F32","dtype":"F32"', /has "dtype" twice/],
  ['"shape":[2]', '"shape":[2],"shape":[2]', /has "shape" twice/],
  ['"data_offsets":[0,8]', '"data_offsets":[0,8],"data_offsets":[0,8]', /has "data_offsets" twice/],
  ['"dtype":"F32"', '"dtype":"F32","extra":1', /has the unknown field "extra"/],
  ['"dtype":"F32"', '"dtype":"F32","__proto__":{}', /has the unknown field "__proto__"/],
  ['"dtype"', '"Dtype"', /has the unknown field "Dtype"/],
  ['"F32"', '"f32"', /has the unknown dtype "f32"/],
  ['"F32"', '"F33"', /unknown dtype "F33"/],
  ['"F32"', '""', /unknown dtype ""/],
  ['"F32"', '"F8_E4M3"', /unknown dtype "F8_E4M3"/],
  ['"F32"', '"C64"', /unknown dtype "C64"/],
  ['"F32"', `"${'F'.repeat(65)}"`, /a string of more than 64 bytes/],
  ['"F32"', '32', /expected '"'/],
  ['"F32"', 'null', /expected '"'/],
  ['"F32"', '["F32"]', /expected '"'/],
  ['[2]', '2', /expected '\['/],
  ['[2]', '"2"', /expected '\['/],
  ['[2]', 'null', /expected '\['/],
  ['[2]', '[2,]', /expected an unsigned integer/],
  ['[2]', '[,2]', /expected an unsigned integer/],
  ['[2]', '[2 2]', /expected ','/],
  ['[2]', '[-2]', /expected an unsigned integer/],
  ['[2]', '[+2]', /expected an unsigned integer/],
  ['[2]', '[2.0]', /expected an unsigned integer/],
  ['[2]', '[2e0]', /expected an unsigned integer/],
  ['[2]', '[02]', /leading zero/],
  ['[2]', '[00]', /leading zero/],
  ['[2]', '[0x2]', /expected ','/],
  ['[2]', '["2"]', /expected an unsigned integer/],
  ['[2]', '[true]', /expected an unsigned integer/],
  ['[2]', '[null]', /expected an unsigned integer/],
  ['[2]', '[[2]]', /expected an unsigned integer/],
  ['[2]', '[NaN]', /expected an unsigned integer/],
  ['[2]', '[1e999]', /expected an unsigned integer/],
  ['[2]', '[9223372036854775808]', /integer that is too large/],
  ['[2]', `[${MAX}]`, /integer that is too large/],
  ['[2]', '[18446744073709551616]', /integer that is too large/],
  ['[2]', `[${'9'.repeat(10_000)}]`, /integer that is too large/],
  ['[2]', '[9223372036854775807]', /the size of tensor "a" overflows/],
  ['[2]', '[4611686018427387905]', /overflows/],
  ['[2]', '[4294967296,4294967296]', /overflows/],
  ['[2]', '[2147483648,2147483648,2147483648]', /overflows/],
  ['[2]', '[4294967296,4294967296,0]', /overflows/],
  ['[2]', '[1,1,1,1,1,1,1,1,2]', /more than 8 dimensions/],
  ['[2]', `[${'1,'.repeat(100_000)}2]`, /more than 8 dimensions/],
  ['[2]', '[3]', /needs 12 bytes by its shape and dtype, its data_offsets hold 8/],
  ['[2]', '[1]', /needs 4 bytes/],
  ['[2]', '[]', /needs 4 bytes/],
  ['[2]', '[0]', /needs 0 bytes/],
  ['[2]', '[2,0]', /needs 0 bytes/],
  ['"F32"', '"F64"', /needs 16 bytes/],
  ['"F32"', '"BOOL"', /needs 2 bytes/],
  ['[0,8]', '[]', /needs two data_offsets/],
  ['[0,8]', '[0]', /needs two data_offsets/],
  ['[0,8]', '[0,8,8]', /more than two data_offsets/],
  ['[0,8]', `[${'0,'.repeat(100_000)}8]`, /more than two data_offsets/],
  ['[0,8]', '8', /expected '\['/],
  ['[0,8]', '{"0":0}', /expected '\['/],
  ['[0,8]', '[0,-8]', /expected an unsigned integer/],
  ['[0,8]', '[0,8.0]', /expected an unsigned integer/],
  ['[0,8]', '[0,"8"]', /expected an unsigned integer/],
  ['[0,8]', '[0,08]', /leading zero/],
  ['[0,8]', '[8,0]', /ends \(0\) before it begins \(8\)/],
  ['[0,8]', '[8,16]', /begins at byte 8, after a gap/],
  ['[0,8]', '[1,9]', /after a gap/],
  ['[0,8]', '[0,4]', /hold 4/],
  ['[0,8]', '[0,9]', /hold 9/],
  ['[0,8]', '[0,16]', /hold 16/],
  ['[0,8]', `[0,${MAX}]`, /hold 18446744073709551615/],
  ['[0,8]', `[${MAX},7]`, /before it begins/],
  ['[0,8]', '[18446744073709551608,18446744073709551615]', /hold 7/],
  ['[0,8]', '[18446744073709551607,18446744073709551615]', /after a gap/],
  ['[0,8]', '[0,18446744073709551616]', /integer that is too large/],
  ['[0,8]', '[9007199254740993,9007199254741001]', /begins at byte 9007199254740993, after a gap/],
] as const) {
  const shown = to.length > 40 ? `${to.slice(0, 24)}... (${to.length})` : to;
  add(`${from} as ${shown === '' ? 'nothing' : shown}`, edited(from, to), message);
}

// Several tensors.
const two = (a: string, b: string, data: number) => file(`{"a":${a},"b":${b}}`, data);
export const f32 = (begin: number, end: number, count = (end - begin) / 4) =>
  entry('F32', `[${count}]`, begin, end);
add('the same name twice', file(`{"a":${f32(0, 8)},"a":${f32(8, 16)}}`, 16), /tensor "a" twice/);
add(
  'the same name twice by an escape',
  file(`{"a":${f32(0, 8)},"\\u0061":${f32(8, 16)}}`, 16),
  /tensor "a" twice/,
);
add(
  'the same bytes twice',
  two(f32(0, 8), f32(0, 8), 8),
  /tensor "b" begins at byte 0, inside the tensor before it/,
);
add(
  'an overlap by one byte',
  two(f32(0, 8), f32(7, 15), 16),
  /inside the tensor before it \(which ends at 8\)/,
);
add('a tensor inside another', two(f32(0, 16), f32(4, 8), 16), /inside the tensor before it/);
add(
  'a gap between tensors',
  two(f32(0, 8), f32(12, 20), 20),
  /after a gap \(the tensor before it ends at 8\)/,
);
add('a gap before the first', two(f32(4, 8), f32(8, 16), 16), /begins at byte 4, after a gap/);
add('bytes after the last', two(f32(0, 8), f32(8, 16), 17), /data section has 17 bytes, the tensors fill 16/);
add('data without tensors', file('{}', 8), /data section has 8 bytes, the tensors fill 0/);
add(
  'one byte missing',
  two(f32(0, 8), f32(8, 16), 15),
  /truncated: tensor "b" ends at byte 16 .* of 15 bytes/,
);
add('no data at all', two(f32(0, 8), f32(8, 16), 0), /truncated: tensor "a" ends at byte 8/);
add(
  'an empty tensor inside another',
  two(f32(0, 8), entry('F32', '[0]', 4, 4), 8),
  /inside the tensor before it/,
);
add('an empty tensor behind the end', two(f32(0, 8), entry('F32', '[0]', 12, 12), 8), /after a gap/);
add(
  'a 4 GB tensor in a small file',
  file(`{"a":${entry('F32', '[1073741824]', 0, 4294967296)}}`, 64),
  /truncated/,
);
add(
  'a 2^62 byte tensor in a small file',
  file(`{"a":${entry('U8', '[4611686018427387904]', 0, '4611686018427387904')}}`, 64),
  /truncated/,
);

// Metadata.
const meta = (json: string) => file(`{"__metadata__":${json},"a":${f32(0, 8)}}`, 8);
for (const [json, message] of [
  ['null', /expected '{'/],
  ['[]', /expected '{'/],
  ['"pt"', /expected '{'/],
  ['{"format":1}', /expected '"'/],
  ['{"format":null}', /expected '"'/],
  ['{"format":{"a":"b"}}', /expected '"'/],
  ['{"format":["pt"]}', /expected '"'/],
  ['{"format":"pt","format":"pt"}', /metadata have the key "format" twice/],
  ['{"format":"pt"', /expected|unknown|without end/],
  ['{"format":"p\nt"}', /control character/],
  ['{"format":"\\ud800"}', /lone surrogate/],
] as const) {
  add(`the metadata ${JSON.stringify(json)}`, meta(json), message);
}
add(
  'metadata twice',
  file(`{"__metadata__":{},"__metadata__":{},"a":${f32(0, 8)}}`, 8),
  /"__metadata__" twice/,
);
