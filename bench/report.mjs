import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

const NOTABLE_FLAGS = ['avx2', 'avx512f', 'avx512_bf16', 'amx_bf16'];

export function machine() {
  const flags = new Set(
    /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1].trim().split(' '),
  );
  return {
    cpu: cpus()[0].model.trim(),
    cores: cpus().length,
    instructions: NOTABLE_FLAGS.filter((flag) => flags.has(flag)),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    node: process.versions.node,
  };
}

/** The commit of these sources; a bundle has it in a file. */
export function commit() {
  const root = join(dirname(fileURLToPath(import.meta.url)), '..');
  const noted = join(root, 'COMMIT');
  if (existsSync(noted)) return readFileSync(noted, 'utf8').trim();
  try {
    const options = { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] };
    const run = (...args) => execFileSync('git', ['-C', root, ...args], options).trim();
    return (
      run('rev-parse', '--short', 'HEAD') +
      (run('status', '--porcelain', '--untracked-files=no') ? '+changes' : '')
    );
  } catch {
    return undefined;
  }
}

const mebibytes = (bytes) => Math.round(bytes / 2 ** 20);

/** One line per job and dtype. */
export function table(rows) {
  const cells = [
    [
      'job',
      'dtype',
      'ours',
      'peer',
      'ratio',
      'wanted',
      'ours tok/s',
      'peer tok/s',
      'ours MiB',
      'peer MiB',
      '',
    ],
    ...rows.map((row) => [
      row.job,
      row.dtype,
      `${row.ours.seconds.toFixed(3)} s`,
      `${row.peer.seconds.toFixed(3)} s`,
      `${row.ratio.toFixed(2)}x`,
      `${row.wanted}x`,
      row.ours.tokensPerSecond.toFixed(0),
      row.peer.tokensPerSecond.toFixed(0),
      String(mebibytes(row.ours.peakMemory)),
      String(mebibytes(row.peer.peakMemory)),
      verdict(row),
    ]),
  ];
  const widths = cells[0].map((_, column) => Math.max(...cells.map((line) => line[column].length)));
  return cells
    .map((line) =>
      line.map((cell, column) => (column < 2 ? cell.padEnd(widths[column]) : cell.padStart(widths[column]))),
    )
    .map((line) => line.join('  ').trimEnd())
    .join('\n');
}

function verdict(row) {
  const misses = [];
  if (row.ratio < row.wanted) misses.push('slower than wanted');
  if (row.ours.peakMemory > row.peer.peakMemory) misses.push('more memory than the peer');
  return misses.length === 0 ? 'ok' : misses.join(', ');
}
