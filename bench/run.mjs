// npm run bench [-- --quick] [--job generate|score|preference|lora] [--dtype float32|bfloat16] [--rounds N] [--threads N] [--no-save] [--no-tune]
//
// Measures our engine and transformers on the same checkpoint in one run: both processes stay loaded and take turns,
// medians are compared, and what both computed must agree.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { makeCheckpoint } from './checkpoint.mjs';
import { peerPython } from './peer-python.mjs';
import { inspectInstallation } from '../dist/lib/native/installation.js';
import { commit, machine, median, table } from './report.mjs';
import { DTYPES, JOBS, makeWorkload, WANTED } from './workload.mjs';
import { Worker } from './worker.mjs';

const HERE = dirname(fileURLToPath(import.meta.url));
const SETTLE_MS = 300; // threads of the side that has just run spin for a while

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    job: { type: 'string', multiple: true, default: JOBS },
    dtype: { type: 'string', multiple: true, default: DTYPES },
    rounds: { type: 'string' },
    threads: { type: 'string', default: '2' },
    save: { type: 'boolean', default: true },
    tune: { type: 'boolean', default: true },
  },
  allowNegative: true,
});
const rounds = Number(options.rounds ?? (options.quick ? 2 : 7));
const threads = Number(options.threads);
const workload = makeWorkload();
const python = peerPython();

const startPeer = () => new Worker(python, [join(HERE, 'peer.py')], { OMP_NUM_THREADS: String(threads) });
const startOurs = () =>
  new Worker(process.execPath, [join(HERE, 'engine.mjs')], { OMP_NUM_THREADS: String(threads) });

/** What both sides computed. Tolerances: float32 rounding over 128 tokens; bfloat16 keeps 8 bits. */
function checkAgreement(job, dtype, ours, peer) {
  const tolerance = dtype === 'float32' ? 1e-5 : 2e-3;
  const pairs =
    job === 'generate'
      ? [[ours.tokens, peer.tokens]]
      : job === 'score'
        ? ours.logprobs.flat().map((value, index) => [value, peer.logprobs.flat()[index]])
        : [
            [ours.loss, peer.loss],
            [ours.loss, Math.LN2],
          ];
  let largest = 0;
  for (const [a, b] of pairs) largest = Math.max(largest, Math.abs(a - b) / Math.abs(b));
  if (!(largest <= tolerance))
    throw new Error(`${job} ${dtype}: the two sides differ by ${largest} (relative)`);
  return largest;
}

async function measure(job, dtype, model) {
  const request = { job, dtype, model, threads, workload: { [job]: workload[job] } };
  const tuner = startPeer();
  const { best: variant, tried } = await tuner.ask({
    ...request,
    tune: options.quick || !options.tune ? 'none' : 'all',
  });
  await tuner.end();

  const ours = startOurs();
  const peer = startPeer();
  const times = { ours: [], peer: [] };
  // The first run of each warms up and is compared.
  const difference = checkAgreement(
    job,
    dtype,
    (await ours.ask(request)).result,
    (await peer.ask({ ...request, variant })).result,
  );
  for (let round = 0; round < rounds; round++) {
    await sleep(SETTLE_MS);
    times.ours.push((await ours.ask(request)).seconds);
    await sleep(SETTLE_MS);
    times.peer.push((await peer.ask({ ...request, variant })).seconds);
  }
  const side = (name, worker) => ({
    seconds: median(times[name]),
    tokensPerSecond: workload[job].tokens / median(times[name]),
    peakMemory: worker.peakMemory(),
    rounds: times[name],
  });
  const row = {
    job,
    dtype,
    ours: side('ours', ours),
    peer: { ...side('peer', peer), variant, tried },
    ratio: median(times.peer) / median(times.ours),
    wanted: WANTED[job],
    largestDifference: difference,
  };
  await ours.end();
  await peer.end();
  if (job === 'preference' && dtype === 'bfloat16' && !options.quick) {
    row.peerPureBfloat16 = await measurePure(request, variant);
  }
  return row;
}

/** For information: weights, gradients and moments in bfloat16, which loses small updates. */
async function measurePure(request, variant) {
  const peer = startPeer();
  const pure = { ...request, variant: { ...variant, weights: 'bfloat16' } };
  await peer.ask(pure);
  const times = [];
  for (let round = 0; round < 3; round++) times.push((await peer.ask(pure)).seconds);
  const peakMemory = peer.peakMemory();
  await peer.end();
  return { seconds: median(times), peakMemory };
}

const directory = mkdtempSync(join(tmpdir(), 'cream-bench-'));
try {
  const versions = await (async () => {
    const peer = startPeer();
    const answer = await peer.ask({ versions: true });
    await peer.end();
    return answer;
  })();
  const path = await makeCheckpoint(directory);
  const rows = [];
  for (const dtype of options.dtype) {
    for (const job of options.job) {
      console.error(`${job}, ${dtype} ...`);
      rows.push(await measure(job, dtype, path));
    }
  }
  console.log(table(rows));
  if (options.save && !options.quick) {
    const date = new Date().toISOString().slice(0, 10);
    const file = join(HERE, 'results', `cpu-${date}.json`);
    mkdirSync(dirname(file), { recursive: true });
    const result = {
      date,
      commit: commit(),
      machine: machine(),
      threads,
      libtorch: inspectInstallation().info?.libtorch,
      peer: versions,
      rows,
    };
    writeFileSync(file, `${JSON.stringify(result, null, 1)}\n`);
    console.log(`\nbench/results/cpu-${date}.json written`);
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
