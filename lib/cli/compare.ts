import { basename, extname } from 'node:path';
import type { Comparison } from '../compare/results.js';
import { type CompareEvent, compareRuns } from '../compare/compare.js';
import { notesOf, tablesOf, type TextTable } from '../compare/tables.js';
import { loadConfig } from '../config-file.js';
import { CreamError, EXIT_CODES, type ErrorCode, isCreamError } from '../errors.js';
import type { Context } from './command.js';
import { missingFiles } from './config-input.js';
import { ensureEngine } from './engine.js';
import { formatDuration, formatTable } from './format.js';
import { Progress } from './progress.js';
import { shortPath } from './summary.js';

export interface CompareValues {
  seeds: string | undefined;
  output: string | undefined;
  allowDifferent: boolean;
  json: boolean;
}

const MAX_SEEDS = 1000;

/** "1,2,5-8" */
export function parseSeeds(text: string | undefined): number[] {
  if (text === undefined || text.trim() === '') {
    throw new CreamError('USAGE', '--seeds is missing; name one or more, such as --seeds 1,2,3');
  }
  const seeds = text.split(',').flatMap((part) => {
    const [, from, to] = /^\s*(\d{1,15})(?:\s*-\s*(\d{1,15}))?\s*$/.exec(part) ?? [];
    const [first, last] = [Number(from), Number(to ?? from)];
    if (from === undefined || last < first || last - first >= MAX_SEEDS) {
      throw new CreamError('USAGE', `--seeds must be whole numbers such as 1,2,3 or 1-5, got "${text}"`);
    }
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
  const twice = seeds.find((seed, index) => seeds.indexOf(seed) !== index);
  if (twice !== undefined) throw new CreamError('USAGE', `--seeds names ${twice} twice`);
  return seeds;
}

/** Files, and settings for all of them; an existing file is never taken for a setting. */
async function readContestants(words: readonly string[]) {
  const overrides = words.filter((word) => /^[\w.]+=/.test(word));
  const files = words.filter((word) => !overrides.includes(word));
  if (files.length === 0)
    throw new CreamError('USAGE', 'cream compare needs config files, got settings alone');
  const named = files.map((file) => ({ file, name: basename(file, extname(file)) }));
  named.forEach(({ file, name }, index) => {
    const other = named.slice(0, index).find((one) => one.name.toLowerCase() === name.toLowerCase());
    if (other !== undefined) {
      throw new CreamError(
        'USAGE',
        `${other.file} and ${file} would both be called ${name}; rename one of the files`,
      );
    }
  });
  const contestants = [];
  for (const { file, name } of named) {
    const config = await loadConfig(file, overrides);
    const missing = await missingFiles(config);
    if (missing.length > 0) {
      throw new CreamError('INVALID_CONFIG', missing.map((line) => `${line} (${file})`).join('\n'));
    }
    contestants.push({ name, config });
  }
  return contestants;
}

/** `cream compare`: runs what is missing, shows it, and prints the tables. */
export async function executeCompare(values: CompareValues, context: Context): Promise<number> {
  const { terminal, words, isQuiet, signal } = context;
  const seeds = parseSeeds(values.seeds);
  const contestants = await readContestants(words);
  const output = values.output ?? 'cream-compare';
  await ensureEngine(terminal);

  const progress = new Progress(terminal, {
    isQuiet,
    ...(values.json && terminal.isOutputTerminal && { isLive: false }),
  });
  try {
    const { allowDifferent } = values;
    const comparing = compareRuns(contestants, { seeds, output, signal, allowDifferent });
    for await (const event of comparing) {
      if (values.json) await terminal.print(`${JSON.stringify(event)}\n`);
      show(event, progress, context);
    }
    const comparison = await comparing.result;
    progress.stop();
    const text = `\n${asText(comparison, context)}\n`;
    if (!values.json) await terminal.print(text);
    else if (!isQuiet) terminal.note(text);
    const failure = comparison.runs.find(({ status }) => status === 'failed')?.failure;
    return failure === undefined ? 0 : EXIT_CODES[failure.code as ErrorCode];
  } catch (error) {
    progress.stop();
    if (isCreamError(error) && error.code === 'ABORTED') {
      terminal.note(`the comparison can be continued from ${output}: give the same command again`);
    }
    throw error;
  } finally {
    progress.stop();
  }
}

function show(event: CompareEvent, progress: Progress, { terminal, isQuiet }: Context): void {
  if (event.type === 'comparison') return;
  if (event.type !== 'member') {
    progress.event(event);
    return;
  }
  if (isQuiet || event.status === 'finished') return;
  const { name, seed, index, total, shared, status } = event;
  const note = { started: '', skipped: ', already done', failed: ', failed' }[status];
  const sources = [...new Set(Object.values(shared))];
  const from =
    sources.length === 0 || status !== 'started'
      ? ''
      : `, ${Object.keys(shared).length} stages from ${sources.join(' and ')}`;
  terminal.note(`${terminal.style('bold', `[${index}/${total}] ${name}, seed ${seed}`)}${note}${from}`);
}

/** A table as one or more, none wider than `columns`; each begins with the first two columns, which tell the rows. */
export function narrowed(table: TextTable, columns: number): TextTable[] {
  const { title, header, rows } = table;
  const widths = header.map((name, i) => 2 + Math.max(name.length, ...rows.map((row) => row[i]!.length)));
  const label = widths[0]! + widths[1]!;
  const parts: number[][] = [[]];
  let width = label;
  for (let column = 2; column < header.length; column++) {
    if (width + widths[column]! - 2 > columns && parts.at(-1)!.length > 0) {
      parts.push([]);
      width = label;
    }
    parts.at(-1)!.push(column);
    width += widths[column]!;
  }
  const pick = (row: readonly string[], part: readonly number[]) =>
    [0, 1, ...part].map((column) => row[column]!);
  return parts.map((part, index) => ({
    title: index === 0 ? title : `${title}, continued`,
    header: pick(header, part),
    rows: rows.map((row) => pick(row, part)),
  }));
}

/** The tables; in a terminal with headings in bold, and clear differences in green or red. */
function asText(comparison: Comparison, { terminal }: Context): string {
  const color = (text: string) =>
    text.replaceAll(/([+-]\d\.\d{3} ±\d\.\d{3}) \*/g, (found, number: string) =>
      terminal.outStyle(number.startsWith('-') ? 'red' : 'green', found),
    );
  const tables = tablesOf(comparison).flatMap((table) =>
    terminal.isOutputTerminal ? narrowed(table, terminal.columns) : [table],
  );
  const seconds = comparison.runs.reduce((sum, run) => sum + (run.seconds ?? 0), 0);
  const shared = comparison.runs.reduce((sum, run) => sum + Object.keys(run.shared).length, 0);
  return [
    ...tables.flatMap(({ title, header, rows }) => [
      terminal.outStyle('bold', title),
      color(formatTable(header, rows)),
      '',
    ]),
    ...comparison.warnings.map((warning) => `${terminal.outStyle('yellow', 'warning:')} ${warning}`),
    ...notesOf(comparison),
    `${comparison.runs.length} runs, ${formatDuration(seconds)} of work, ${shared} stages taken from another run; ` +
      `folder: ${shortPath(comparison.directory)} (compare.json, compare.md)`,
  ].join('\n');
}
