import { join } from 'node:path';
import { makeFolder, writeFileDurably } from '../lib/run/storage.js';
import type { Regime } from './design.js';
import type { UnitResult } from './unit.js';

export interface ReportInput {
  regimes: readonly Regime[];
  results: readonly UnitResult[];
  time?: Record<string, unknown>;
}

export async function writeReport(folder: string, { regimes, results, time }: ReportInput): Promise<void> {
  await makeFolder(folder);
  for (const { name } of regimes) {
    const units = results.filter(({ regime }) => regime === name);
    const text = units.map((unit) => JSON.stringify(unit)).join(',\n');
    await writeFileDurably(join(folder, `${name}.json`), `{"units":[\n${text}\n]}\n`);
  }
  await writeFileDurably(join(folder, 'machine.json'), `${JSON.stringify(time ?? {}, null, 2)}\n`);
}
