'use strict';
// The only place that knows how the native addon is built.
//
//   node scripts/native.cjs build [--libtorch DIR] [--[no-]cuda] [--arch ARCH] [--sanitize LIST] [--jobs N]
//                                  CREAM_CUDA=1|0 and CREAM_CUDA_ARCHS="80;90" serve where no options can be given
//   node scripts/native.cjs ensure [the same]   builds only when something changed
//   node scripts/native.cjs info [--json]       what was built, from which LibTorch, and why not from the others
//   node scripts/native.cjs clean               removes build/; --cache: the installed LibTorch too

const { spawnSync } = require('node:child_process');
const crypto = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { CudaError, architectures, chooseCuda, hasDevice, wish } = require('./cuda.cjs');
const { cacheDirectory, discover, inspect } = require('./libtorch.cjs');
const { InstallError, install, isAlive } = require('./install-libtorch.cjs');

const ROOT = path.resolve(__dirname, '..');
const BUILD = path.join(ROOT, 'build');
const ADDON = path.join(BUILD, 'Release', 'cream.node');
const STAMP = path.join(BUILD, 'stamp.json');
const RECORD = path.join(BUILD, 'libtorch.json');
const LOCK = path.join(BUILD, 'lock');

const log = (message) => process.stderr.write(`native: ${message}\n`);
const readJson = (file) => (fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, 'utf8')) : undefined);

class BuildError extends Error {}

function filesUnder(directory) {
  return fs
    .readdirSync(directory, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath ?? entry.path, entry.name))
    .sort();
}

/** What changes when a file is replaced. */
function fileStamp(file) {
  if (!fs.existsSync(file)) return 'missing';
  const { size, mtimeMs } = fs.statSync(file);
  return `${fs.realpathSync(file)} ${size} ${mtimeMs}`;
}

/** The same for a command on PATH. */
function commandStamp(command) {
  for (const folder of (process.env.PATH ?? '').split(path.delimiter)) {
    const file = path.join(folder, command);
    if (fs.existsSync(file)) return fileStamp(file);
  }
  return 'missing';
}

/** The instruction sets of this CPU: an addon built for another machine may not run here. */
function cpuFlags() {
  try {
    const text = fs.readFileSync('/proc/cpuinfo', 'utf8');
    return text.match(/^(?:flags|Features)\s*:\s*(.*)$/m)?.[1] ?? '';
  } catch {
    return '';
  }
}

/** Changes exactly when the addon has to be built again. */
function fingerprint(libtorch, options, cuda) {
  const hash = crypto.createHash('sha256');
  const sources = [...filesUnder(path.join(ROOT, 'native')), path.join(ROOT, 'CMakeLists.txt'), __filename];
  for (const file of sources)
    hash
      .update(`${path.relative(ROOT, file)}\0`)
      .update(fs.readFileSync(file))
      .update('\0');
  const library = fs.statSync(path.join(libtorch.lib, 'libtorch_cpu.so'));
  const headers = ['node-addon-api', 'node-api-headers'].map(
    (name) => require(`${name}/package.json`).version,
  );
  const compiler = commandStamp(process.env.CXX || 'c++');
  const facts = {
    root: ROOT,
    libtorch,
    size: library.size,
    mtime: library.mtimeMs,
    headers,
    compiler,
    options,
    ...(cuda && { cuda, nvcc: fileStamp(cuda.nvcc) }),
  };
  hash.update(
    JSON.stringify({ ...facts, cpu: cpuFlags(), napi: require('../package.json').binary.napi_versions }),
  );
  return hash.digest('hex');
}

/** One build at a time: a second process waits for the first. */
function withLock(action) {
  fs.mkdirSync(BUILD, { recursive: true });
  let isWaiting = false;
  for (;;) {
    const mine = `${LOCK}.${process.pid}`;
    fs.writeFileSync(mine, String(process.pid));
    try {
      fs.linkSync(mine, LOCK); // atomic, and never seen without its content
      break;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    } finally {
      fs.rmSync(mine, { force: true });
    }
    let owner = 0;
    try {
      owner = Number(fs.readFileSync(LOCK, 'utf8'));
    } catch {
      continue; // released meanwhile
    }
    if (owner && !isAlive(owner)) {
      fs.rmSync(LOCK, { force: true });
      continue;
    }
    if (!isWaiting) log(`another build (process ${owner}) is running; waiting for it`);
    isWaiting = true;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
  }
  const release = () => fs.rmSync(LOCK, { force: true });
  const stop = (signal) => {
    release();
    process.exit(128 + os.constants.signals[signal]);
  };
  process.once('SIGINT', stop).once('SIGTERM', stop);
  try {
    return action();
  } finally {
    release();
    process.removeListener('SIGINT', stop).removeListener('SIGTERM', stop);
  }
}

/** The LibTorch to build with; installs one when none is found. */
function chooseLibtorch(options) {
  const remembered = readJson(RECORD)?.libtorch?.root;
  let found = discover({ libtorch: options.libtorch, remembered });
  if (found.stopped) {
    const { source, directory, reason } = found.rejected.at(-1);
    throw new BuildError(`${source} names ${directory}, which cannot be used: ${reason}`);
  }
  if (found.libtorch === undefined) {
    for (const { source, directory, reason } of found.rejected) {
      log(`no LibTorch from ${source}${directory ? ` (${directory})` : ''}: ${reason}`);
    }
    const rejected = found.rejected.filter(({ source }) => source !== 'cache');
    found = { libtorch: inspect(install(log)).libtorch, source: 'cache', rejected };
  }
  return found;
}

/** Two compilations need up to 2 GB each; more jobs than processors or memory help nobody. */
function defaultJobs() {
  const byMemory = Math.floor(os.totalmem() / 2 ** 31);
  return Math.max(1, Math.min(os.availableParallelism(), byMemory));
}

function cmakeJs(command, options, definitions) {
  const cli = path.join(path.dirname(require.resolve('cmake-js/package.json')), 'bin', 'cmake-js');
  const args = [cli, command, '--directory', ROOT, '--out', BUILD, '--log-level', 'warn'];
  if (command === 'build') args.push('--parallel', String(options.jobs ?? defaultJobs()));
  for (const [name, value] of Object.entries(definitions)) args.push(`--CD${name}=${value}`);
  // Compilers' temporary files, 20 MB for each nvcc: /tmp may be small.
  const scratch = path.join(BUILD, 'tmp');
  fs.mkdirSync(scratch, { recursive: true });
  const env = { ...process.env, TMPDIR: scratch };
  return spawnSync(process.execPath, args, { stdio: ['ignore', 2, 2], cwd: ROOT, env }).status === 0;
}

function compile(libtorch, options, cuda) {
  if (commandStamp('cmake') === 'missing') {
    throw new BuildError('cmake was not found; install it (Debian: apt-get install cmake g++ ninja-build)');
  }
  const definitions = {
    CREAM_LIBTORCH: libtorch.root,
    CREAM_OPENMP: libtorch.openmp ?? '',
    CREAM_CUDA: cuda ? 'ON' : 'OFF',
    CREAM_NVCC: cuda?.nvcc ?? '',
    CREAM_CUDART: cuda?.cudart ?? '',
    CREAM_CUDA_INCLUDE: cuda?.include.join(',') ?? '',
    CREAM_CUDA_ARCHS: cuda?.archs.join(',') ?? '',
    CREAM_CPU_ARCH: options.arch ?? 'native',
    CREAM_SANITIZE: options.sanitize ?? '',
  };
  const cache = path.join(BUILD, 'CMakeCache.txt');
  const isFirst = !fs.existsSync(cache);
  if (!cmakeJs('configure', options, definitions)) {
    // A cache made by another generator or compiler, or for a folder that was moved, cannot be reused.
    fs.rmSync(cache, { force: true });
    fs.rmSync(path.join(BUILD, 'CMakeFiles'), { recursive: true, force: true });
    if (isFirst || !cmakeJs('configure', options, definitions))
      throw new BuildError('cmake could not configure the build');
  }
  if (!cmakeJs('build', options, definitions))
    throw new BuildError('the native build failed; the messages are above');
}

/** The linker does not see that a CUDA runtime lacks what newer objects call; the loader does. */
function checkLoading() {
  const { status, stderr } = spawnSync(process.execPath, ['-e', `require(${JSON.stringify(ADDON)})`], {
    encoding: 'utf8',
  });
  if (status === 0) return;
  const reason = stderr.match(/^Error: (.*)$/m)?.[1] ?? stderr.trim();
  throw new BuildError(`the addon was built with CUDA, but does not load: ${reason}`);
}

function write(file, value) {
  fs.writeFileSync(`${file}.tmp`, `${JSON.stringify(value, null, 2)}\n`);
  fs.renameSync(`${file}.tmp`, file);
}

/** True when the addon that is there was built from what is there now. Spawns nothing. */
function isCurrent(options) {
  const record = readJson(RECORD);
  const wanted = options.libtorch ?? process.env.LIBTORCH;
  if (
    record === undefined ||
    !fs.existsSync(ADDON) ||
    !fs.existsSync(path.join(record.libtorch.lib, 'libc10.so'))
  )
    return false;
  if (wanted && inspect(wanted).libtorch?.root !== record.libtorch.root) return false;
  return (
    readJson(STAMP)?.fingerprint === fingerprint(record.libtorch, record.options, record.cuda) &&
    isSameBuild(options, record.options) &&
    isSameCuda(options, record)
  );
}

/** Whether what was built is what is wished now. A GPU that comes or goes changes nothing by itself. */
function isSameCuda(options, { cuda, options: last }) {
  const wished = wish(options.cuda ?? last.cuda);
  if (wished !== undefined && wished !== (cuda !== undefined)) return false;
  return cuda === undefined || architectures().join() === cuda.archs.join();
}

/** Options that are not given are those of the last build. */
function isSameBuild(given, last) {
  return ['cuda', 'arch', 'sanitize'].every(
    (name) => given[name] === undefined || given[name] === last[name],
  );
}

function build(options, isNeeded = () => true) {
  withLock(() => {
    if (!isNeeded()) return; // another process built it meanwhile
    const start = Date.now();
    const { jobs: _, libtorch: __, ...kept } = { ...readJson(RECORD)?.options, ...options };
    const { libtorch, source, rejected } = chooseLibtorch(options);
    log(`LibTorch ${libtorch.version} from ${source}: ${libtorch.root}`);
    const { cuda, why } = chooseCuda(libtorch, kept.cuda);
    log(
      cuda
        ? `with CUDA (${why}): nvcc ${cuda.version} in ${cuda.nvcc}, for compute capabilities ${cuda.archs.join(', ')}`
        : `for the CPU alone: ${why}`,
    );
    fs.rmSync(STAMP, { force: true });
    const before = fingerprint(libtorch, kept, cuda); // an edit during the build must not be missed
    compile(libtorch, { ...kept, jobs: options.jobs }, cuda);
    fs.rmSync(path.join(BUILD, 'tmp'), { recursive: true, force: true });
    if (cuda) checkLoading();
    write(RECORD, { libtorch, source, rejected, options: kept, cuda, whyCuda: why, cpuFlags: cpuFlags() });
    write(STAMP, { fingerprint: before });
    log(`built ${path.relative(process.cwd(), ADDON)} in ${((Date.now() - start) / 1000).toFixed(0)} s`);
  });
}

function ensure(options) {
  if (!isCurrent(options)) build(options, () => !isCurrent(options));
}

function info({ json: isJson }) {
  const record = readJson(RECORD);
  const isBuilt = record !== undefined && fs.existsSync(ADDON);
  const found = record ?? discover();
  const report = {
    addon: isBuilt ? ADDON : null,
    isCurrent: isBuilt && isCurrent({}),
    libtorch: found.libtorch ?? null,
    source: found.source ?? null,
    cuda: record?.cuda ?? null,
    whyCuda: record?.whyCuda ?? null,
    hasDevice: hasDevice(),
    rejected: found.rejected,
    cache: cacheDirectory(),
  };
  if (isJson) return console.log(JSON.stringify(report, null, 2));
  console.log(
    `addon     ${report.addon ?? 'not built; run: npm run build'}${isBuilt && !report.isCurrent ? ' (out of date)' : ''}`,
  );
  console.log(
    `LibTorch  ${found.libtorch ? `${found.libtorch.version} from ${found.source}: ${found.libtorch.root}` : 'none found; the build installs one'}`,
  );
  if (record !== undefined) {
    const { cuda, whyCuda } = record;
    const what = cuda ? `nvcc ${cuda.version}, compute capabilities ${cuda.archs.join(', ')}` : 'none';
    console.log(`CUDA      ${what} (${whyCuda})`);
  }
  for (const { source, directory, reason } of found.rejected) {
    console.log(`  not from ${source}${directory ? ` (${directory})` : ''}: ${reason}`);
  }
}

function clean({ cache: withCache }) {
  fs.rmSync(BUILD, { recursive: true, force: true });
  if (withCache) fs.rmSync(cacheDirectory(), { recursive: true, force: true });
}

function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      libtorch: { type: 'string' },
      cuda: { type: 'boolean' },
      arch: { type: 'string' },
      sanitize: { type: 'string' },
      jobs: { type: 'string' },
      json: { type: 'boolean' },
      cache: { type: 'boolean' },
    },
    allowNegative: true,
  });
  const { json, cache, ...options } = values;
  const commands = {
    build: () => build(options),
    ensure: () => ensure(options),
    info: () => info({ json }),
    clean: () => clean({ cache }),
  };
  const command = commands[positionals[0]];
  if (command === undefined) throw new BuildError('usage: native.cjs build|ensure|info|clean');
  command();
}

module.exports = { ADDON, RECORD, build, discover, ensure, isCurrent };

if (require.main === module) {
  try {
    main();
  } catch (error) {
    const isExpected =
      error instanceof BuildError ||
      error instanceof InstallError ||
      error instanceof CudaError ||
      error.code?.startsWith('ERR_PARSE_ARGS');
    process.stderr.write(`native: ${isExpected ? error.message : error.stack}\n`);
    process.exit(1);
  }
}
