import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type AdapterFiles, readAdapter } from '../../lib/data/adapter.js';
import { loadBinding } from '../../lib/native/binding.js';

/** Settings and file of an adapter folder over a model of so many layers. */
export const adapterOf = (directory: string, numLayers: number): Promise<AdapterFiles> =>
  readAdapter(directory, { numLayers, tensorsOf: (file) => loadBinding().safetensorsHeader(file) });

/** An adapter folder whose factors test/golden/adapters.py makes by the same rule: small fractions by number. */
export function writeAdapter(directory: string, config: object, shapes: Record<string, number[]>): void {
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, 'adapter_config.json'), JSON.stringify(config));
  const names = Object.keys(shapes).sort();
  const entries: Record<string, object> = {};
  const values: number[] = [];
  for (const [number, name] of names.entries()) {
    const size = shapes[name]!.reduce((product, length) => product * length, 1);
    const begin = 4 * values.length;
    entries[name] = { dtype: 'F32', shape: shapes[name], data_offsets: [begin, begin + 4 * size] };
    for (let i = 0; i < size; i++) values.push((((i * 31 + number * 17) % 23) - 11) / 32);
  }
  const header = Buffer.from(JSON.stringify(entries));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const bytes = Buffer.from(Float32Array.from(values).buffer);
  writeFileSync(join(directory, 'adapter_model.safetensors'), Buffer.concat([length, header, bytes]));
}
