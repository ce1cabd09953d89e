// npm run bench:cuda, ./bench-cuda: what a GPU does beside what it could do.
import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { commit, machine } from '../report.mjs';
import { makeRows } from './rows.mjs';
import { SHAPES } from './shapes.mjs';

const HERE = dirname(fileURLToPath(import.meta.url));
const HELP = `Measures decoding, scoring, the head, preference steps and AdamW on a GPU, each in a process of its own.

  --row NAME          only this row; may be given more than once
  --quick             one round of each
  --device DEVICE     cuda (default), cuda:N, cpu
  --shape tiny        a toy model in place of every shape: tries the bench itself
  --limit SECONDS     of each row, 540
  --total SECONDS     starts no row after this many
  --no-peer           not transformers
  --python FILE       the Python with torch and transformers, python3
  --flops, --bandwidth   ceilings in TFLOP/s and TB/s, for a GPU whose are not known
  --out FILE          of the results; default bench/results/cuda-DATE-GPU.json
`;

const { values: options } = parseArgs({
  options: {
    row: { type: 'string', multiple: true },
    child: { type: 'string' },
    quick: { type: 'boolean', default: false },
    device: { type: 'string', default: 'cuda' },
    shape: { type: 'string' },
    limit: { type: 'string', default: '540' },
    total: { type: 'string', default: '100000' },
    peer: { type: 'boolean', default: true },
    python: { type: 'string', default: process.env.PEER_PYTHON ?? 'python3' },
    flops: { type: 'string' },
    bandwidth: { type: 'string' },
    out: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
  allowNegative: true,
});
const isTiny = options.shape === 'tiny';
if (options.shape !== undefined && !isTiny) throw new Error(`--shape can be tiny, not ${options.shape}`);
const rows = makeRows({ tiny: isTiny });

/** Ours that a peer is measured against, and how many times as fast is wanted. */
const PEERS = {
  'peer-generate-8b': {
    job: 'generate',
    against: 'decode-8b',
    of: (row) => row.value,
    wanted: 8,
    batch: 256,
  },
  'peer-score-8b': {
    job: 'score',
    against: 'score-8b',
    of: (row) => row.extra.tokensPerSecond,
    wanted: 2.5,
    batch: 128,
  },
  'peer-train-8b': {
    job: 'train',
    against: 'train-8b',
    of: (row) => row.extra.pairsPerSecond,
    wanted: 2.5,
    batch: 64,
  },
};
const names = [...Object.keys(rows), ...(options.peer ? Object.keys(PEERS) : [])];

/** Runs a program whose last line of output is JSON. */
function lastLine(command, parameters) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, parameters, { stdio: ['ignore', 'pipe', 'pipe'] });
    let [output, errors, isLate] = ['', '', false];
    const timer = setTimeout(() => {
      isLate = true;
      child.kill('SIGKILL');
    }, Number(options.limit) * 1e3);
    child.stdout.on('data', (data) => (output += data));
    child.stderr.on('data', (data) => (errors += data));
    child.on('error', reject);
    child.on('close', (code) => {
      clearTimeout(timer);
      if (isLate) return reject(new Error(`took more than ${options.limit} s`));
      if (code !== 0)
        return reject(new Error(errors.trim().split('\n').slice(-6).join('\n') || `ended with ${code}`));
      resolve(JSON.parse(output.trim().split('\n').at(-1)));
    });
  });
}

async function measureHere(name) {
  const { devices } = await import('./device.mjs');
  const { caps } = devices(options);
  const [shape, run] = rows[name];
  const context = { shape: isTiny ? 'tiny' : shape, device: options.device, caps, quick: options.quick };
  console.log(JSON.stringify(await run(context)));
}

const passed = () => {
  const kept = ['device', 'flops', 'bandwidth', 'shape'].flatMap((key) =>
    options[key] === undefined ? [] : [`--${key}`, options[key]],
  );
  return options.quick ? [...kept, '--quick'] : kept;
};

async function measurePeer(name, results) {
  const { job, against, of, wanted, batch } = PEERS[name];
  const work = isTiny ? { P: 8, T: 12, pairs: 3 } : { P: 128, T: 300, pairs: 44 };
  const request = {
    job,
    shape: SHAPES[isTiny ? 'tiny' : '8b'],
    device: options.device,
    rounds: options.quick ? 1 : 3,
    batch: isTiny ? 4 : batch,
    ...work,
  };
  const result = await lastLine(options.python, [join(HERE, 'peer_cuda.py'), JSON.stringify(request)]);
  const ours = results[against]?.value === undefined ? undefined : of(results[against]);
  return { ...result, work, ratio: ours && ours / result.value, wantedRatio: wanted, against };
}

/** Minutes of the paper's iteration from the rates measured: 21,000 prompts, 5 x 300 tokens, three models scored. */
function iteration({ 'decode-8b': decode, 'score-8b': score, 'train-8b': train }) {
  if (![decode, score, train].every((row) => row?.value !== undefined)) return undefined;
  const tokens = 21_000 * 5 * 300;
  const parts = {
    generate: tokens / decode.value / 60,
    score: (3 * tokens) / score.extra.tokensPerSecond / 60,
    train: 21_000 / train.extra.pairsPerSecond / 60,
  };
  return { minutes: parts.generate + parts.score + parts.train, parts, wantedMinutes: 85 };
}

const short = (number) =>
  number === undefined || number === null || Number.isNaN(number)
    ? '-'
    : Math.abs(number) >= 1000
      ? Math.round(number).toLocaleString('en')
      : number.toPrecision(3);
const percent = (share) => `${(100 * share).toFixed(0)} %`;

function describe(name, row) {
  if (row.error !== undefined) return [name, 'failed', '', '', '', row.error.split('\n')[0]];
  const { total, ...parts } = row.where ?? {};
  const where = Object.entries(parts)
    .filter(([, seconds]) => seconds > 0.005 * total)
    .map(([part, seconds]) => `${part} ${percent(seconds / total)}`)
    .join(', ');
  const notes = [
    where,
    row.ratio && `ours is ${short(row.ratio)}x (wanted ${row.wantedRatio}x)`,
    row.peakBytes ? `peak ${(row.peakBytes / 1e9).toFixed(1)} GB` : '',
    row.extra?.sharingGain && `sharing ${row.extra.sharingGain.toFixed(2)}x`,
    row.extra?.pairsPerSecond && `${short(row.extra.pairsPerSecond)} pairs/s`,
  ];
  return [
    name,
    `${short(row.value)} ${row.unit}`,
    row.floor ? short(row.floor) : '-',
    row.floor ? percent(row.value / row.floor) : '-',
    row.wanted ? short(row.wanted) : '-',
    notes.filter(Boolean).join('; '),
  ];
}

function table(lines) {
  const all = [['row', 'measured', 'limit', 'of it', 'wanted', 'where the time went'], ...lines];
  const widths = all[0].map((_, column) => Math.max(...all.map((line) => line[column].length)));
  return all
    .map((line) =>
      line
        .map((cell, c) => (c === 0 || c === 5 ? cell.padEnd(widths[c]) : cell.padStart(widths[c])))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

async function main() {
  const { devices } = await import('./device.mjs');
  const { gpu, caps, versions } = devices(options);
  const chosen = options.row ?? names;
  const unknown = chosen.find((name) => !names.includes(name));
  if (unknown !== undefined) throw new Error(`there is no row ${unknown}; there are ${names.join(', ')}`);
  const started = Date.now();
  const results = {};
  for (const name of chosen) {
    if (Date.now() - started > Number(options.total) * 1e3) {
      results[name] = { error: `not begun: ${options.total} s were over` };
      continue;
    }
    process.stderr.write(`${name} ... `);
    const begin = Date.now();
    try {
      results[name] = Object.hasOwn(rows, name)
        ? await lastLine(process.execPath, [fileURLToPath(import.meta.url), '--child', name, ...passed()])
        : await measurePeer(name, results);
    } catch (error) {
      results[name] = { error: error.message };
    }
    process.stderr.write(`${((Date.now() - begin) / 1e3).toFixed(0)} s\n`);
  }
  console.log(table(Object.entries(results).map(([name, row]) => describe(name, row))));
  const whole = iteration(results);
  if (whole)
    console.log(`an iteration of the paper, from these rates: ${short(whole.minutes)} min (wanted 85)`);

  const date = new Date().toISOString();
  const record = {
    date,
    commit: commit(),
    device: options.device,
    gpu,
    ceilings: caps,
    versions,
    machine: machine(),
    options: { quick: options.quick, shape: options.shape },
    rows: results,
    iteration: whole,
  };
  const label = gpu.name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-');
  // What is no measurement of a GPU is not kept beside those that are.
  const folder = isTiny || options.device === 'cpu' ? tmpdir() : join(HERE, '..', 'results');
  const file = options.out ?? join(folder, `cuda-${date.slice(0, 10)}-${label}.json`);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify(record, null, 1)}\n`);
  console.log(`written to ${file}`);
  if (Object.values(results).some(({ error }) => error !== undefined)) process.exitCode = 1;
}

if (options.help) {
  console.log(`${HELP}\nrows: ${names.join(', ')}`);
} else if (options.child !== undefined) {
  await measureHere(options.child);
} else {
  await main().catch((error) => {
    console.error(`bench-cuda: ${error.message}`);
    process.exitCode = 1;
  });
}
