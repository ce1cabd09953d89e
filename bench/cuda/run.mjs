// npm run bench:cuda, ./bench-cuda: what a GPU does beside what it could do.
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { commit, machine } from '../report.mjs';
import { schedule, table, withRatios } from './output.mjs';
import { readmeTables } from './readme.mjs';
import { ceilings } from './floors.mjs';
import { expectedSeconds, makeRows, order, PEERS } from './rows.mjs';
import { SHAPES } from './shapes.mjs';

const HERE = dirname(fileURLToPath(import.meta.url));
const HELP = `Measures decoding, scoring, preference steps and a slice of a whole iteration on a GPU, each row in a process of its own,
and transformers beside them. Results are written after every row.

  --row NAME          only this row; may be given more than once
  --quick             one round of each
  --total SECONDS     ends within so many; a row that is expected to take longer than what is left is not begun
  --merge FILE        takes over the rows that an earlier command measured; may be given more than once
  --schedule          only says how long the rows are expected to take
  --device DEVICE     cuda (default), cuda:N, cpu
  --shape tiny        a toy model in place of every shape: tries the bench itself
  --limit SECONDS     of each row, 300
  --no-peer           not transformers
  --python FILE       the Python with torch and transformers, python3
  --flops, --bandwidth, --host   ceilings in TFLOP/s, TB/s and GB/s, in place of those that the first row measures
  --readme FILE       prints the tables of the README from a file of results, and measures nothing
  --out FILE          of the results; default bench/results/cuda-DATE-GPU.json
`;

const { values: options } = parseArgs({
  options: {
    row: { type: 'string', multiple: true },
    child: { type: 'string' },
    quick: { type: 'boolean', default: false },
    schedule: { type: 'boolean', default: false },
    merge: { type: 'string', multiple: true, default: [] },
    device: { type: 'string', default: 'cuda' },
    shape: { type: 'string' },
    limit: { type: 'string', default: '300' },
    total: { type: 'string', default: '100000' },
    peer: { type: 'boolean', default: true },
    python: { type: 'string', default: process.env.PEER_PYTHON ?? 'python3' },
    flops: { type: 'string' },
    bandwidth: { type: 'string' },
    host: { type: 'string' },
    readme: { type: 'string' },
    out: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
  allowNegative: true,
});
const isTiny = options.shape === 'tiny';
if (options.shape !== undefined && !isTiny) throw new Error(`--shape can be tiny, not ${options.shape}`);
const rows = makeRows(isTiny);
const names = order(rows).filter((name) => options.peer || !Object.hasOwn(PEERS, name));
/** Writing results and ending a child. */
const END_SECONDS = 4;

const running = new Set();

/** Runs a program whose last line of output is JSON. */
function lastLine(command, parameters, seconds, variables = {}) {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, ...variables };
    const child = spawn(command, parameters, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    running.add(child);
    let [output, errors, isLate] = ['', '', false];
    const timer = setTimeout(() => {
      isLate = true;
      child.kill('SIGKILL');
    }, seconds * 1e3);
    child.stdout.on('data', (data) => (output += data));
    child.stderr.on('data', (data) => (errors += data));
    child.on('error', (error) => {
      clearTimeout(timer);
      running.delete(child);
      reject(error);
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      running.delete(child);
      if (isLate) return reject(new Error(`took more than ${seconds.toFixed(0)} s`));
      if (code !== 0)
        return reject(
          new Error(errors.trim().split('\n').slice(-6).join('\n') || `ended with ${code ?? signal}`),
        );
      resolve(JSON.parse(output.trim().split('\n').at(-1)));
    });
  });
}

async function measureHere(name) {
  const [{ devices }, { binding }, { memoryOf }] = await Promise.all([
    import('./device.mjs'),
    import('./measure.mjs'),
    import('./plan.mjs'),
  ]);
  binding.dieWithParent();
  const { device, quick } = options;
  const { caps } = devices(options);
  const memory = await memoryOf(device);
  const shape = isTiny ? 'tiny' : rows[name].shape;
  console.log(JSON.stringify(await rows[name].run({ shape, device, caps, quick, memory })));
}

/** Measured ceilings are those of the rows after them, here and in their processes; what was given stays. */
function take({ flops, bandwidth, host }) {
  options.flops ??= String(flops / 1e12);
  options.bandwidth ??= String(bandwidth / 1e12);
  options.host ??= String(host / 1e9);
}

const passed = () => {
  const kept = ['device', 'flops', 'bandwidth', 'host', 'shape'].flatMap((key) =>
    options[key] === undefined ? [] : [`--${key}`, options[key]],
  );
  return options.quick ? [...kept, '--quick'] : kept;
};

async function measurePeer(name, seconds) {
  const { job, batch, seconds: enough } = PEERS[name];
  const work = isTiny ? { P: 8, T: 12, pairs: 3 } : { P: 128, T: 300, pairs: 44 };
  const request = {
    job,
    shape: SHAPES[isTiny ? 'tiny' : '8b'],
    device: options.device,
    rounds: options.quick ? 1 : 3,
    batch: isTiny ? 2 : batch,
    seconds: 0.8 * Math.min(seconds, isTiny ? seconds : 1.5 * enough),
    ...work,
  };
  const result = await lastLine(
    options.python,
    [join(HERE, 'peer_cuda.py'), JSON.stringify(request)],
    seconds,
  );
  return { ...result, work };
}

function earlier(files, gpu) {
  const taken = {};
  for (const file of files) {
    const record = JSON.parse(readFileSync(file, 'utf8'));
    if (record.gpu.name !== gpu.name)
      throw new Error(`${file} was measured on ${record.gpu.name}, not on ${gpu.name}`);
    for (const [name, row] of Object.entries(record.rows)) {
      if (row.error !== undefined && taken[name] !== undefined) continue;
      taken[name] = { ...row, date: row.date ?? record.date, commit: row.commit ?? record.commit };
    }
  }
  return taken;
}

async function main() {
  const { devices } = await import('./device.mjs');
  const started = Date.now();
  const left = () => Number(options.total) - (Date.now() - started) / 1e3 - END_SECONDS;
  const { gpu, versions } = devices(options);
  let caps = ceilings(gpu.name, options);
  const hold = (row) => {
    take(row.ceilings);
    const { burst, isMeasured } = row.ceilings;
    caps = { ...ceilings(gpu.name, options), burst, isMeasured };
  };
  const chosen = options.row ?? names;
  const unknown = chosen.find((name) => !order(rows).includes(name));
  if (unknown !== undefined) throw new Error(`there is no row ${unknown}; there are ${names.join(', ')}`);
  const expected = (name) => expectedSeconds(name, rows, caps, { isQuick: options.quick, isTiny });
  if (options.schedule) return console.log(schedule(chosen, expected, Number(options.total)));

  const date = new Date().toISOString();
  const label = gpu.name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-');
  // What is no measurement of a GPU is not kept beside those that are.
  const folder = isTiny || !options.device.startsWith('cuda') ? tmpdir() : join(HERE, '..', 'results');
  const file = options.out ?? join(folder, `cuda-${date.slice(0, 10)}-${label}.json`);
  mkdirSync(dirname(file), { recursive: true });
  const taken = earlier(options.merge, gpu);
  // One row alone is held to the ceilings that another command measured; all rows to those of their own.
  if (options.row !== undefined && taken.ceilings?.ceilings !== undefined) hold(taken.ceilings);
  const found = {};
  const sorted = () => {
    const all = { ...taken, ...found };
    const known = order(rows).filter((name) => Object.hasOwn(all, name));
    return withRatios(Object.fromEntries(known.map((name) => [name, all[name]])));
  };
  const save = () => {
    const record = {
      date,
      commit: commit(),
      device: options.device,
      gpu,
      ceilings: caps,
      versions,
      machine: machine(),
      options: { quick: options.quick, shape: options.shape },
      rows: sorted(),
    };
    writeFileSync(`${file}.part`, `${JSON.stringify(record, null, 1)}\n`);
    renameSync(`${file}.part`, file);
  };
  const finish = () => {
    save();
    console.log(table(sorted()));
    console.log(`written to ${file}`);
  };
  for (const signal of ['SIGINT', 'SIGTERM']) {
    process.once(signal, () => {
      for (const child of running) child.kill('SIGKILL');
      finish();
      process.exit(130);
    });
  }

  for (const name of chosen) {
    const isKnown = taken[name] !== undefined && taken[name].error === undefined;
    if (isKnown && options.row === undefined && name !== 'ceilings') continue;
    const seconds = expected(name) ?? 0;
    if (left() < Math.max(1, seconds)) {
      if (isKnown) continue;
      found[name] = {
        error: `not begun: ${seconds.toFixed(0)} s are expected and ${Math.max(0, left()).toFixed(0)} of ${options.total} s were left`,
      };
      continue;
    }
    process.stderr.write(`${name} ... `);
    const begin = Date.now();
    const limit = Math.min(Number(options.limit), left());
    try {
      found[name] = Object.hasOwn(rows, name)
        ? await lastLine(
            process.execPath,
            [fileURLToPath(import.meta.url), '--child', name, ...passed()],
            limit,
            rows[name].variables,
          )
        : await measurePeer(name, limit);
    } catch (error) {
      found[name] = { error: error.message };
    }
    if (found[name].ceilings !== undefined) hold(found[name]);
    found[name].wallSeconds = (Date.now() - begin) / 1e3;
    found[name].expectedSeconds = seconds;
    process.stderr.write(`${found[name].wallSeconds.toFixed(0)} s\n`);
    save();
  }
  finish();
  if (Object.values(found).some(({ error }) => error !== undefined)) process.exitCode = 1;
}

if (options.help) {
  console.log(`${HELP}\nrows: ${names.join(', ')}`);
} else if (options.readme !== undefined) {
  console.log(readmeTables(JSON.parse(readFileSync(options.readme, 'utf8'))));
} else if (options.child !== undefined) {
  await measureHere(options.child);
} else {
  await main().catch((error) => {
    console.error(`bench-cuda: ${error.message}`);
    process.exitCode = 1;
  });
}
