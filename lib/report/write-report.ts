import { writeOutput } from '../run/output-file.js';
import { renderPage } from './html.js';
import type { ReadOptions } from './read-run.js';
import { readReport } from './report.js';

/** Groups per iteration that a report shows whole. */
export const DEFAULT_SHOWN = 100;

/** Reads run folders and writes their report as one file. */
export async function writeReport(
  folders: readonly string[],
  path: string,
  options: ReadOptions,
): Promise<void> {
  await writeOutput(path, await renderPage(await readReport(folders, options)));
}
