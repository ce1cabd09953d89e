import { packageVersion } from '../package.js';
import { readRun, type ReadOptions } from './read-run.js';
import type { ReportData, ReportRun } from './types.js';
import { comparisonOf } from './verdict.js';

/** Reads run folders for one report; runs of the same name get a number. */
export async function readReport(folders: readonly string[], options: ReadOptions): Promise<ReportData> {
  const runs: ReportRun[] = [];
  const used = new Map<string, number>();
  for (const folder of folders) {
    const run = await readRun(folder, options);
    const times = (used.get(run.name) ?? 0) + 1;
    used.set(run.name, times);
    runs.push(times === 1 ? run : { ...run, name: `${run.name} (${times})` });
  }
  const comparison = comparisonOf(runs);
  return {
    generated: new Date().toISOString(),
    version: packageVersion(),
    runs,
    ...(comparison === '' ? {} : { comparison }),
  };
}
