import { cpSync, mkdirSync, openSync, closeSync, readFileSync, ftruncateSync, writeFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import { readCheckpoint } from '../../lib/data/checkpoint.js';
import { loadBinding } from '../../lib/native/binding.js';
import { Model } from '../../lib/native/model.js';
import { checkpoint } from '../helpers/golden.js';
import { entry, f32, file, hostile } from '../helpers/hostile-safetensors.js';

// Hostile safetensors files. Each must end in a typed error that says what is wrong, and never in a crash.

const binding = loadBinding();

t.test('hostile files are refused with the reason', async (t) => {
  t.ok(hostile.length >= 150, `${hostile.length} files`);
  t.equal(new Set(hostile.map(([name]) => name)).size, hostile.length, 'each once');
  const path = join(t.testdir(), 'hostile.safetensors');
  for (const [name, bytes, message] of hostile) {
    writeFileSync(path, bytes);
    let error: (Error & { code?: string }) | undefined;
    try {
      binding.safetensorsHeader(path);
    } catch (thrown) {
      error = thrown as Error;
    }
    const isRight =
      error?.code === 'INVALID_CHECKPOINT' &&
      error.message.startsWith(`${path}: `) &&
      message.test(error.message) &&
      error.message.length < 600 + path.length;
    t.ok(isRight, name, { error: error?.message.slice(0, 600), code: error?.code, wanted: String(message) });
  }
});

t.test('what the format allows is read', async (t) => {
  const path = join(t.testdir(), 'fine.safetensors');
  const cases: [string, Buffer, unknown][] = [
    ['no tensors', file('{}'), []],
    ['white space around', file(' \t\r\n{ } \n '), []],
    ['padding by spaces', file(`{"a":${f32(0, 8)}}     `, 8), [['a', 'F32', [2]]]],
    ['only metadata', file('{"__metadata__":{"format":"pt"}}'), []],
    ['a scalar', file(`{"a":${entry('F32', '[]', 0, 4)}}`, 4), [['a', 'F32', []]]],
    ['an empty tensor', file(`{"a":${entry('F32', '[0]', 0, 0)}}`), [['a', 'F32', [0]]]],
    [
      'an empty tensor between',
      file(`{"a":${f32(0, 8)},"b":${entry('I8', '[3,0]', 8, 8)},"c":${f32(8, 16)}}`, 16),
      [
        ['a', 'F32', [2]],
        ['b', 'I8', [3, 0]],
        ['c', 'F32', [2]],
      ],
    ],
    [
      '8 dimensions',
      file(`{"a":${entry('U8', '[1,1,1,2,1,1,1,3]', 0, 6)}}`, 6),
      [['a', 'U8', [1, 1, 1, 2, 1, 1, 1, 3]]],
    ],
    [
      'fields in another order',
      file('{"a":{"data_offsets":[0,8],"shape":[2],"dtype":"F32"}}', 8),
      [['a', 'F32', [2]]],
    ],
    [
      'tensors in another order',
      file(`{"b":${f32(8, 16)},"a":${f32(0, 8)}}`, 16),
      [
        ['a', 'F32', [2]],
        ['b', 'F32', [2]],
      ],
    ],
    [
      'escapes',
      file(`{"a\\"\\\\\\/\\u00e9\\ud83d\\ude00":${f32(0, 8)}}`, 8),
      [['a"\\/\u00e9\u{1f600}', 'F32', [2]]],
    ],
    [
      'UTF-8',
      file(`{"gewicht.\u00e9\u20ac\u{1f600}":${f32(0, 8)}}`, 8),
      [['gewicht.\u00e9\u20ac\u{1f600}', 'F32', [2]]],
    ],
    [
      'names of the prototype',
      file(`{"__proto__":${f32(0, 8)},"constructor":${f32(8, 16)}}`, 16),
      [
        ['__proto__', 'F32', [2]],
        ['constructor', 'F32', [2]],
      ],
    ],
    ['a long name', file(`{"${'x'.repeat(1024)}":${f32(0, 8)}}`, 8), [['x'.repeat(1024), 'F32', [2]]]],
    ['long metadata', file(`{"__metadata__":{"k":"${'v'.repeat(100_000)}"}}`), []],
  ];
  for (const [dtype, size] of [
    ['F64', 8],
    ['F32', 4],
    ['F16', 2],
    ['BF16', 2],
    ['I64', 8],
    ['I32', 4],
    ['I16', 2],
    ['I8', 1],
    ['U8', 1],
    ['BOOL', 1],
  ] as const) {
    cases.push([dtype, file(`{"a":${entry(dtype, '[3]', 0, 3 * size)}}`, 3 * size), [['a', dtype, [3]]]]);
  }
  for (const [name, bytes, expected] of cases) {
    writeFileSync(path, bytes);
    const found = binding.safetensorsHeader(path).map(({ name, dtype, shape }) => [name, dtype, shape]);
    t.strictSame(found, expected, name);
  }
});

t.test('every truncation and every flipped bit of a header ends in an error or in a header', async (t) => {
  const path = join(t.testdir(), 'flipped.safetensors');
  const good = file(
    `{"__metadata__":{"format":"pt"},"w":${entry('BF16', '[2,3]', 0, 12)},"v":${entry('F32', '[]', 12, 16)}}`,
    16,
  );
  let refused = 0;
  const tryRead = (bytes: Buffer) => {
    writeFileSync(path, bytes);
    try {
      binding.safetensorsHeader(path);
      return true;
    } catch (error) {
      if ((error as { code?: string }).code !== 'INVALID_CHECKPOINT') throw error;
      refused++;
      return false;
    }
  };
  t.ok(tryRead(good));
  for (let length = 0; length < good.length; length++) {
    if (tryRead(good.subarray(0, length))) t.fail(`cut to ${length} bytes, it was read`);
  }
  t.equal(refused, good.length);
  const header = good.length - 16;
  for (let bit = 0; bit < 8 * header; bit++) {
    const bytes = Buffer.from(good);
    bytes[bit >> 3]! ^= 1 << (bit & 7);
    tryRead(bytes);
  }
  // Flips inside names, metadata and unused digits leave a valid file; most others do not.
  t.ok(
    refused - good.length > 0.75 * 8 * header,
    `${refused - good.length} of ${8 * header} flips are refused`,
  );
});

t.test('a header of 100 MB that says nothing costs no more than its size', async (t) => {
  const path = join(t.testdir(), 'large.safetensors');
  const descriptor = openSync(path, 'w');
  ftruncateSync(descriptor, 8 + 100_000_000); // sparse: zeros
  closeSync(descriptor);
  const start = file('{', 0, 100_000_000n);
  const handle = openSync(path, 'r+');
  writeFileSync(handle, start);
  closeSync(handle);
  const before = process.memoryUsage().rss;
  t.throws(() => binding.safetensorsHeader(path), { code: 'INVALID_CHECKPOINT' });
  t.ok(process.memoryUsage().rss - before < 50_000_000);
});

t.test('what is no regular file is refused without waiting', async (t) => {
  const folder = t.testdir({ folder: {} });
  execFileSync('mkfifo', [join(folder, 'fifo')]);
  for (const [path, message] of [
    [join(folder, 'fifo'), /is not a regular file/],
    [join(folder, 'folder'), /is not a regular file/],
    ['/dev/null', /is not a regular file/],
    [join(folder, 'missing'), /there is no such file/],
  ] as const) {
    t.throws(() => binding.safetensorsHeader(path), { code: 'INVALID_CHECKPOINT', message }, path);
  }
  t.throws(() => binding.safetensorsHeader('a\0b'), { code: 'INVALID_ARGUMENT', message: /NUL/ });
});

/** Bytes of one tensor in a checkpoint's only file. */
function offsetOf(bytes: Buffer, tensor: string): { begin: number; dtype: string } {
  const length = Number(bytes.readBigUInt64LE());
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + length)) as Record<
    string,
    { dtype: string; data_offsets: number[] }
  >;
  return { begin: 8 + length + header[tensor]!.data_offsets[0]!, dtype: header[tensor]!.dtype };
}

t.test('NaN and infinite weights are refused by name and element', async (t) => {
  const folder = join(t.testdir(), 'model');
  const tensor = 'model.layers.1.mlp.down_proj.weight';
  const cases: [string, number, RegExp, ('float32' | 'bfloat16')?][] = [
    ['llama', 0x7fc00000, /is -?nan$/],
    ['llama', 0x7f800001, /is -?nan$/],
    ['llama', 0x7f800000, /is inf$/],
    ['llama', 0xff800000, /is -inf$/],
    ['llama', 0x7f7fffff, /which does not fit the requested dtype$/, 'bfloat16'],
    ['llama-bfloat16', 0x7fc0, /is -?nan$/],
    ['llama-bfloat16', 0xff80, /is -inf$/],
    ['llama-float16', 0x7c00, /is inf$/],
    ['llama-float16', 0x7e01, /is -?nan$/],
  ];
  for (const [source, bits, message, dtype = 'float32'] of cases) {
    cpSync(checkpoint(source), folder, { recursive: true });
    const path = join(folder, 'model.safetensors');
    const bytes = readFileSync(path);
    const { begin, dtype: stored } = offsetOf(bytes, tensor);
    if (stored === 'F32') bytes.writeUInt32LE(bits, begin + 4 * 17);
    else bytes.writeUInt16LE(bits, begin + 2 * 17);
    writeFileSync(path, bytes);
    const error = (await Model.load(folder, { dtype }).then(
      () => undefined,
      (reason: unknown) => reason,
    )) as (Error & { code: string }) | undefined;
    t.equal(error?.code, 'INVALID_CHECKPOINT');
    t.match(error?.message, /tensor model\.layers\.1\.mlp\.down_proj\.weight: element 17 of \[32, 52\]/);
    t.match(error?.message, message, `${source} ${bits.toString(16)}`);
  }
  // The largest float32 is a fine float32.
  cpSync(checkpoint('llama'), folder, { recursive: true });
  const path = join(folder, 'model.safetensors');
  const bytes = readFileSync(path);
  bytes.writeUInt32LE(0x7f7fffff, offsetOf(bytes, tensor).begin);
  writeFileSync(path, bytes);
  const model = await Model.load(folder);
  model.dispose();
});

t.test('float16 and bfloat16 weights become exactly the float32 numbers they are', async (t) => {
  // Every finite 16-bit pattern, as the values of one matrix.
  const folder = join(t.testdir(), 'model');
  mkdirSync(folder);
  for (const [source, stored] of [
    ['llama-float16', 'F16'],
    ['llama-bfloat16', 'BF16'],
  ] as const) {
    cpSync(checkpoint(source), folder, { recursive: true });
    const path = join(folder, 'model.safetensors');
    const original = readFileSync(path);
    const { begin, dtype } = offsetOf(original, 'model.embed_tokens.weight');
    t.equal(dtype, stored);
    const isFinite16 = (bits: number) =>
      stored === 'F16' ? (bits & 0x7c00) !== 0x7c00 : (bits & 0x7f80) !== 0x7f80;
    const patterns = Array.from({ length: 65536 }, (_, bits) => bits).filter(isFinite16);
    for (let start = 0; start < patterns.length; start += 131 * 32) {
      const bytes = Buffer.from(original);
      const chunk = patterns.slice(start, start + 131 * 32);
      for (const [i, bits] of chunk.entries()) bytes.writeUInt16LE(bits, begin + 2 * i);
      writeFileSync(path, bytes);
      const { config } = await readCheckpoint(folder);
      const model = await binding.loadModel({ config, files: [path], dtype: 'float32', device: 'cpu' });
      const tensors = await model._tensors();
      const values = tensors.find(({ name }) => name === 'model.embed_tokens.weight')!.data;
      const wrong = chunk.filter(
        (bits, i) => !Object.is(values[i], stored === 'F16' ? half(bits) : brain(bits)),
      );
      t.strictSame(wrong, [], `${stored} from ${start}`);
      model.dispose();
    }
  }
});

function brain(bits: number): number {
  const view = new DataView(new ArrayBuffer(4));
  view.setUint32(0, bits * 65536);
  return view.getFloat32(0);
}

function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}
