'use strict';
// ./gpu-check of a bundle: builds, runs the tests for a GPU and the demo in two formats, then measures, in one command whose
// results are written as they come. What need not be timed runs side by side; rows are measured alone.

const { spawn, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { demoOf, demoTable, rowsOf, testsOf } = require('./gpu-check-parts.cjs');

const ROOT = path.resolve(__dirname, '..');
const HELP = `Builds the engine, runs all tests for a GPU, runs the demo on the GPU in float32 and bfloat16 beside the CPU's accuracies, and
measures what the GPU reaches and the rows of the bench, the most telling first. Results are written as they come.

  --out DIR         check.json, rows.json, tests.json and logs; default gpu-check
  --total SECONDS   ends within so many, 420; a row is not begun that is expected to take longer than what is left
  --limit SECONDS   of the tests and of a demo, which run side by side, 150: what hangs must leave time for the rows
  --part LIST       of build, tests, demo, rows; default all
  --merge DIR       of an earlier command: what passed there is not repeated; may be given more than once
  --tests LIST      some files of test/cuda-device in place of all
  --row NAME        only this row of the bench; may be given more than once
  --jobs N          test files at once; default half of the processors, at most 7
  --archs LIST      compute capabilities to build for; default those of the GPUs that are here
  --python FILE     the Python with torch and transformers, python3
  --no-peer         not transformers
  --device DEVICE   cuda (default), cuda:N; cpu and emulated try the command itself
  --shape tiny      a toy model in place of every shape: tries the command itself
`;
const PARTS = ['build', 'tests', 'demo', 'rows'];
const DTYPES = ['float32', 'bfloat16'];
const CPU_DEMO = path.join(ROOT, 'bench', 'results', 'demo-cpu.json');
/** Writing what is known, and ending programs. */
const END_SECONDS = 3;
/** After which a test that says nothing is ended. */
const STALL_SECONDS = 60;

const { values: options } = parseArgs({
  options: {
    out: { type: 'string', default: 'gpu-check' },
    total: { type: 'string', default: '420' },
    limit: { type: 'string', default: '150' },
    part: { type: 'string', default: PARTS.join(',') },
    merge: { type: 'string', multiple: true, default: [] },
    tests: { type: 'string', default: '' },
    row: { type: 'string', multiple: true, default: [] },
    jobs: { type: 'string' },
    archs: { type: 'string' },
    python: { type: 'string' },
    peer: { type: 'boolean', default: true },
    device: { type: 'string', default: 'cuda' },
    shape: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
  allowNegative: true,
});
const started = Date.now();
const passed = () => (Date.now() - started) / 1e3;
const left = () => Math.max(0, Number(options.total) - passed() - END_SECONDS);
const out = path.resolve(options.out);
const work = path.join(os.tmpdir(), `cream-gpu-check-${process.pid}`);
const running = new Set();
const log = (text) => process.stdout.write(`${text}\n`);

/** Ends a program and what it started. */
function endWithAll({ pid }) {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL');
  } catch {
    // it has ended
  }
}

/** Runs a program whose output goes into a file; {status, seconds, text, isLate}. */
function run(command, parameters, { file, seconds, env = {} }) {
  return new Promise((resolve) => {
    const begin = Date.now();
    const child = spawn(command, parameters, {
      cwd: ROOT,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true, // its own processes end with it
    });
    running.add(child);
    let [text, isLate] = ['', false];
    const take = (data) => {
      text += data;
      if (file) fs.appendFileSync(file, data);
    };
    const timer = setTimeout(() => {
      isLate = true;
      endWithAll(child);
    }, seconds * 1e3);
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    child.on('error', (error) => take(`${error.message}\n`));
    child.on('close', (status) => {
      clearTimeout(timer);
      running.delete(child);
      resolve({ status, text, isLate, seconds: (Date.now() - begin) / 1e3 });
    });
  });
}

function smi(query) {
  const { status, stdout } = spawnSync('nvidia-smi', [`--query-gpu=${query}`, '--format=csv,noheader'], {
    encoding: 'utf8',
  });
  return status === 0 ? [...new Set(stdout.trim().split('\n'))] : [];
}

const readJson = (file) => (fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, 'utf8')) : undefined);
const record = { date: new Date().toISOString(), commit: undefined, gpu: smi('name'), seconds: 0, parts: {} };

function save() {
  record.seconds = passed();
  fs.writeFileSync(path.join(out, 'check.json'), `${JSON.stringify(record, null, 1)}\n`);
}

/** Keeps a part's result, and says it. */
function keep(part, result, lines = []) {
  record.parts[part] = result;
  save();
  const seconds = result.seconds === undefined ? '' : `, ${result.seconds.toFixed(0)} s`;
  log(`${part}: ${result.isOk ? 'ok' : 'NOT OK'}${seconds}`);
  for (const line of lines) log(line);
}

const tail = (text, count) => text.trimEnd().split('\n').slice(-count);
const native = () => require('./native.cjs');

/**
 * Reads LibTorch's libraries while the compiler works: some gigabytes, which on a fresh machine come from a slow disk when the
 * first program loads them.
 */
function readAhead() {
  const { libtorch } = native().discover();
  if (libtorch === undefined) return;
  const { cudart } = libtorch.cuda ?? {};
  // NVIDIA's Python packages lie in one folder: nvidia/cu13/lib, nvidia/cudnn/lib.
  const nvidia = cudart === undefined ? undefined : path.resolve(path.dirname(cudart), '..', '..');
  const isPackages = nvidia !== undefined && path.basename(nvidia) === 'nvidia';
  const packages = isPackages ? fs.readdirSync(nvidia).map((name) => path.join(nvidia, name, 'lib')) : [];
  const files = [libtorch.lib, ...packages]
    .filter((folder) => fs.existsSync(folder))
    .flatMap((folder) => fs.readdirSync(folder).map((name) => path.join(folder, name)))
    .filter((file) => /\.so(\.\d+)*$/.test(file) && fs.statSync(file).isFile());
  // The compiler reads its headers first.
  const reader = spawn('sh', ['-c', 'sleep 15; exec cat "$@"', 'sh', ...files], {
    stdio: 'ignore',
    detached: true,
  });
  reader.on('error', () => {}); // nothing is lost
  reader.on('close', () => running.delete(reader));
  running.add(reader);
}

/** What the build waited for longest: object, its seconds, and when it was there. */
function slowestObjects() {
  const file = path.join(ROOT, 'build', '.ninja_log');
  if (!fs.existsSync(file)) return []; // built by make
  return fs
    .readFileSync(file, 'utf8')
    .split('\n')
    .map((line) => line.split('\t'))
    .filter((fields) => fields.length > 3)
    .map(([begin, end, , name]) => ({ name: path.basename(name), begin: begin / 1e3, end: end / 1e3 }))
    .sort((a, b) => b.end - b.begin - (a.end - a.begin))
    .slice(0, 6)
    .map(({ name, begin, end }) => `${name} ${(end - begin).toFixed(0)} s (at ${end.toFixed(0)} s)`);
}

async function build() {
  if (fs.existsSync(native().ADDON) && native().isCurrent({})) {
    keep('build', { isOk: true, seconds: 0, isThere: true });
    return;
  }
  const archs =
    options.archs ??
    smi('compute_cap')
      .map((text) => text.replace('.', ''))
      .join(';');
  const env = archs === '' ? {} : { CREAM_CUDA_ARCHS: archs };
  const file = path.join(out, 'install.log');
  readAhead();
  const { status, seconds, text } = await run('sh', ['install.sh'], { file, seconds: left(), env });
  const slowest = slowestObjects();
  const lines = status === 0 ? [`  slowest: ${slowest.join(', ')}`] : tail(text, 30);
  keep('build', { isOk: status === 0, seconds, archs, slowest }, lines);
}

const isOnGpu = options.device.startsWith('cuda');

async function tests() {
  const jobs = options.jobs ?? Math.max(1, Math.min(7, os.availableParallelism() >> 1));
  const folder = path.join(work, 'tests');
  const names = options.tests.split(',').filter(Boolean);
  const parameters = [
    '--jobs',
    String(jobs),
    '--stall',
    String(STALL_SECONDS),
    '--out',
    folder,
    '--total',
    String(Math.min(left(), Number(options.limit))),
  ];
  const env = isOnGpu ? {} : { CREAM_TEST_GPU: 'emulated' };
  const file = path.join(out, 'tests.log');
  const { text, seconds } = await run(
    process.execPath,
    [path.join(__dirname, 'run-tests.cjs'), ...parameters, ...names],
    { file, seconds: Math.min(left(), Number(options.limit) + END_SECONDS), env },
  );
  const found = readJson(path.join(folder, 'tests.json'));
  if (found === undefined) return keep('tests', { isOk: false, seconds }, tail(text, 10));
  fs.copyFileSync(path.join(folder, 'tests.json'), path.join(out, 'tests.json'));
  const result = testsOf(found, text);
  // The whole output of what failed, for who cannot run it again.
  for (const { file: name, tests: all } of found.results) {
    if (!all.some(({ status }) => status === 'failed')) continue;
    const raw = path.join(
      folder,
      name
        .slice(5)
        .replaceAll('/', '-')
        .replace(/\.test\.js$/, '.tap'),
    );
    if (fs.existsSync(raw)) fs.appendFileSync(path.join(out, 'failed-tests.tap'), fs.readFileSync(raw));
  }
  keep('tests', { ...result, jobs: Number(jobs), seconds }, tail(text, 2 + result.failed.length));
}

async function demo(dtype) {
  const folder = path.join(work, `demo-${dtype}`);
  const part = `demo ${dtype}`;
  const parameters = ['demo', '--device', options.device, '--dtype', dtype, '--output', folder, '-q'];
  const cream = path.join(ROOT, 'dist', 'bin', 'cream.js');
  const { status, text, isLate, seconds } = await run(process.execPath, [cream, ...parameters], {
    seconds: Math.min(left(), Number(options.limit)),
  });
  if (status !== 0) {
    const why = isLate ? ['it did not end in time'] : tail(text, 10);
    return keep(part, { isOk: false, seconds, why }, why);
  }
  const [creamRun, srlm] = ['cream', 'srlm'].map((name) => readJson(path.join(folder, name, 'summary.json')));
  const result = demoOf({ cream: creamRun, srlm }, readJson(CPU_DEMO)[dtype]);
  keep(part, { ...result, seconds }, demoTable(dtype, result));
}

async function rows() {
  const file = path.join(out, 'rows.json');
  const merged = options.merge
    .map((folder) => path.join(path.resolve(folder), 'rows.json'))
    .filter(fs.existsSync);
  const parameters = ['--quick', '--device', options.device, '--total', String(left()), '--out', file];
  for (const from of merged) parameters.push('--merge', from);
  for (const name of options.row) parameters.push('--row', name);
  if (options.shape !== undefined) parameters.push('--shape', options.shape);
  if (options.python !== undefined) parameters.push('--python', options.python);
  if (!options.peer) parameters.push('--no-peer');
  const bench = path.join(ROOT, 'bench', 'cuda', 'run.mjs');
  const { text, seconds } = await run(process.execPath, [bench, ...parameters], {
    file: path.join(out, 'rows.log'),
    seconds: left() + END_SECONDS,
  });
  const found = readJson(file);
  if (found === undefined) return keep('rows', { isOk: false, seconds }, tail(text, 10));
  const result = rowsOf(found);
  const told = (name) => (result[name].length > 0 ? [`  ${name}: ${result[name].join(', ')}`] : []);
  const lines = [...text.trimEnd().split('\n'), ...['failed', 'notBegun', 'belowWanted'].flatMap(told)];
  keep('rows', { ...result, seconds }, lines);
}

const nameOf = (gpus) => gpus.join(' and ') || 'no GPU';

/** Parts that an earlier command has seen pass; rows are merged one by one. */
function earlier() {
  for (const folder of options.merge) {
    const found = readJson(path.join(folder, 'check.json'));
    if (found === undefined) throw new Error(`--merge ${folder}: there is no check.json`);
    if (String(found.gpu) !== String(record.gpu))
      throw new Error(`--merge ${folder}: of ${nameOf(found.gpu)}, and here is ${nameOf(record.gpu)}`);
    for (const [part, result] of Object.entries(found.parts))
      if (result.isOk && part !== 'build' && part !== 'rows')
        record.parts[part] = { ...result, from: found.date };
  }
}

async function main() {
  if (options.help) return log(HELP);
  const parts = options.part.split(',').filter(Boolean);
  const unknown = parts.find((part) => !PARTS.includes(part));
  if (unknown !== undefined) throw new Error(`--part must be of ${PARTS.join(', ')}, got ${unknown}`);
  fs.mkdirSync(out, { recursive: true });
  fs.mkdirSync(work, { recursive: true });
  const { commit } = await import('../bench/report.mjs');
  record.commit = commit();
  earlier();
  // Nothing of an earlier command may pass for a result of this one; what is merged is read first.
  const merged = new Set(options.merge.map((folder) => path.resolve(folder)));
  const stale = ['install.log', 'tests.log', 'tests.json', 'failed-tests.tap', 'rows.log'];
  if (!merged.has(out)) stale.push('rows.json');
  for (const name of stale) fs.rmSync(path.join(out, name), { force: true });
  const isDone = (part) => record.parts[part]?.isOk === true;
  if (parts.includes('build')) {
    await build();
    if (!isDone('build')) return;
  }
  const together = [];
  if (parts.includes('tests') && !isDone('tests')) together.push(tests());
  if (parts.includes('demo'))
    for (const dtype of DTYPES) if (!isDone(`demo ${dtype}`)) together.push(demo(dtype));
  await Promise.all(together);
  if (parts.includes('rows')) await rows();
  const wanted = parts.flatMap((part) => (part === 'demo' ? DTYPES.map((dtype) => `demo ${dtype}`) : [part]));
  record.isOk = wanted.every(isDone);
  save();
  log(`${record.isOk ? 'all is well' : 'NOT ALL IS WELL'}, ${passed().toFixed(0)} s; written to ${out}`);
}

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => {
    for (const child of running) endWithAll(child);
    save();
    process.exit(130);
  });
}

main()
  .catch((error) => {
    process.stderr.write(`gpu-check: ${error.message}\n`);
  })
  .finally(() => {
    for (const child of running) endWithAll(child);
    fs.rmSync(work, { recursive: true, force: true });
    process.exitCode = record.isOk || options.help ? 0 : 1;
  });
