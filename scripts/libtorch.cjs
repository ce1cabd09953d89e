'use strict';
// Finds a usable LibTorch, or installs one into the project's own cache.
// "Usable" means: right version and machine, headers present, and every library it needs is there.

const { execFileSync, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { readElf } = require('./elf.cjs');

const INSTALLED_VERSION = '2.13.0';
// The versions that the addon was built with and tested; nothing else knows them (test/native/libtorch.test.ts holds the
// documents to them).
const OLDEST = [2, 11];
const NEWEST = [2, 15];
const VERSIONS = `${OLDEST.join('.')} to ${NEWEST.join('.')}`;
const MARKER = 'complete.json';

function cacheDirectory() {
  if (process.env.CREAM_CACHE) return path.resolve(process.env.CREAM_CACHE);
  return path.join(process.env.XDG_CACHE_HOME || path.join(os.homedir(), '.cache'), 'cream-lm');
}

const installDirectory = () =>
  path.join(cacheDirectory(), `libtorch-${INSTALLED_VERSION}-${process.platform}-${process.arch}`);

/** The folder that holds lib/ and include/, given that folder or one that people give in its place. */
function normalise(directory) {
  const resolved = path.resolve(directory);
  const guesses = ['.', 'torch', 'libtorch', '..', '../..', '../../..'];
  const found = guesses
    .map((guess) => path.resolve(resolved, guess))
    .find((root) => fs.existsSync(path.join(root, 'lib', 'libtorch_cpu.so')));
  return found ?? resolved;
}

let systemLibraries;
/** name -> path of the libraries that the dynamic loader finds by itself. */
function loaderLibraries() {
  if (systemLibraries !== undefined) return systemLibraries;
  systemLibraries = new Map();
  for (const command of ['ldconfig', '/sbin/ldconfig', '/usr/sbin/ldconfig']) {
    const { status, stdout } = spawnSync(command, ['-p'], { encoding: 'utf8' });
    if (status !== 0) continue;
    for (const [, name, file] of stdout.matchAll(/^\s*(\S+) \(.*\) => (\S+)$/gm)) {
      if (!systemLibraries.has(name)) systemLibraries.set(name, file);
    }
    break;
  }
  return systemLibraries;
}

function findLibrary(name, directories) {
  const folders = [...directories, ...(process.env.LD_LIBRARY_PATH ?? '').split(':').filter(Boolean)];
  for (const folder of folders) {
    const file = path.join(folder, name);
    if (fs.existsSync(file)) return fs.realpathSync(file);
  }
  const system = loaderLibraries();
  if (system.has(name)) return system.get(name);
  // Without ldconfig (musl, minimal images) only the C runtime can be taken for granted.
  const runtime = /^(ld-linux|libc\.|libm\.|libdl\.|librt\.|libpthread\.|libutil\.|libgcc_s\.|libstdc\+\+\.)/;
  return system.size === 0 && runtime.test(name) ? name : undefined;
}

/** Follows NEEDED from one library. Run paths of a library serve what it needs itself (and, as the loader does, its parents'). */
function resolveNeeded(library, inherited = [], seen = new Map()) {
  const { needed, runPaths } = readElf(library);
  const origin = path.dirname(library);
  const folders = runPaths.map((folder) => folder.replace(/\$\{?ORIGIN\}?/g, origin));
  const missing = [];
  for (const name of needed) {
    if (seen.has(name)) continue;
    const file = findLibrary(name, [...folders, ...inherited]);
    seen.set(name, file);
    if (file === undefined) missing.push({ name, by: path.basename(library) });
    else if (path.isAbsolute(file))
      missing.push(...resolveNeeded(file, [...folders, ...inherited], seen).missing);
  }
  return { missing, files: seen };
}

function readVersion(root) {
  const headers = ['include/torch/headeronly/version.h', 'include/torch/csrc/api/include/torch/version.h'];
  for (const header of headers) {
    const file = path.join(root, header);
    if (!fs.existsSync(file)) continue;
    const text = fs.readFileSync(file, 'utf8');
    const part = (name) => text.match(new RegExp(`#define TORCH_VERSION_${name} (\\d+)`))?.[1];
    if (part('MAJOR')) return `${part('MAJOR')}.${part('MINOR')}.${part('PATCH')}`;
  }
  return undefined;
}

/**
 * The CUDA half of a LibTorch: {version: 13, cudart: the runtime that it uses, missing: names of what it needs and is
 * not installed}. Undefined where it has none.
 */
function inspectCuda(root) {
  const libraries = ['libtorch_cuda.so', 'libc10_cuda.so'].map((name) => path.join(root, 'lib', name));
  if (!libraries.every((file) => fs.existsSync(file))) return undefined;
  const name = readElf(libraries[1]).needed.find((needed) => needed.startsWith('libcudart'));
  const version = Number(name?.match(/\.so\.(\d+)/)?.[1]);
  if (!version) return undefined; // built for another maker's GPUs
  const { files, missing } = resolveNeeded(libraries[0]);
  const cudart = files.get(name);
  return { version, ...(cudart && { cudart }), missing: [...new Set(missing.map((item) => item.name))] };
}

const compare = (a, b) => a[0] - b[0] || a[1] - b[1];

/** Looks at one candidate: either `reason` says why it cannot be used, or `libtorch` describes it. */
function inspect(directory) {
  const root = normalise(directory);
  const library = path.join(root, 'lib', 'libtorch_cpu.so');
  if (!fs.existsSync(root)) return { reason: 'the folder does not exist' };
  if (!fs.existsSync(library)) return { reason: 'lib/libtorch_cpu.so is not in it' };
  if (!fs.existsSync(path.join(root, 'include', 'ATen', 'ATen.h')))
    return { reason: 'include/ATen/ATen.h is not in it' };
  const version = readVersion(root);
  if (version === undefined) return { reason: 'its version cannot be read from include/torch' };
  const numbers = version.split('.').map(Number);
  if (compare(numbers, OLDEST) < 0 || compare(numbers, NEWEST) > 0) {
    return { version, reason: `version ${version} is not within ${VERSIONS}` };
  }
  try {
    const { arch } = readElf(library);
    if (arch !== process.arch)
      return { version, reason: `it is built for ${arch}, this machine is ${process.arch}` };
    const { missing, files } = resolveNeeded(library);
    if (missing.length > 0) {
      const names = missing.map(({ name, by }) => `${name} (needed by ${by})`).join(', ');
      return { version, missing, reason: `not installed: ${names}` };
    }
    const openmpName = readElf(library).needed.find((name) => /^lib(gomp|iomp5|omp)\b/.test(name));
    const libtorch = {
      root,
      version,
      include: path.join(root, 'include'),
      lib: path.join(root, 'lib'),
      openmp: openmpName === undefined ? undefined : files.get(openmpName),
      cuda: inspectCuda(root),
    };
    return { version, libtorch };
  } catch (error) {
    return { version, reason: error.message };
  }
}

function pythonTorch() {
  const code =
    'import importlib.util as u; s = u.find_spec("torch"); print(s.submodule_search_locations[0] if s else "")';
  const options = { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'], timeout: 20_000 };
  for (const python of ['python3', 'python']) {
    try {
      const found = execFileSync(python, ['-c', code], options).trim();
      if (found) return found;
    } catch {
      // not there, or not Python 3
    }
  }
  return undefined;
}

/** Where LibTorch may be, in the order of preference. `remembered` is what the last build used. */
function* candidates({ libtorch, remembered }) {
  const { LIBTORCH, Torch_DIR, CMAKE_PREFIX_PATH } = process.env;
  if (libtorch) yield { source: '--libtorch', directory: libtorch, isExplicit: true };
  if (LIBTORCH) yield { source: 'LIBTORCH', directory: LIBTORCH, isExplicit: true };
  if (remembered) yield { source: 'the last build', directory: remembered };
  if (Torch_DIR) yield { source: 'Torch_DIR', directory: Torch_DIR };
  for (const directory of (CMAKE_PREFIX_PATH ?? '').split(/[:;]/).filter(Boolean)) {
    yield { source: 'CMAKE_PREFIX_PATH', directory };
  }
  const python = pythonTorch();
  yield python
    ? { source: 'python3', directory: python }
    : { source: 'python3', directory: undefined, reason: 'python3 is missing or has no torch package' };
  yield { source: 'system', directory: '/opt/libtorch' };
  yield { source: 'system', directory: '/usr/local/libtorch' };
  const cached = installDirectory();
  yield fs.existsSync(path.join(cached, MARKER))
    ? { source: 'cache', directory: path.join(cached, 'torch') }
    : { source: 'cache', directory: cached, reason: 'not installed' };
}

/**
 * The first usable LibTorch and everything that was looked at before it.
 * An explicit choice (--libtorch, LIBTORCH) that is unusable is not replaced by another in silence.
 * @returns {{libtorch: object | undefined, source: string | undefined, rejected: {source, directory, reason}[], stopped: boolean}}
 */
function discover(options = {}) {
  const rejected = [];
  for (const { source, directory, reason: known, isExplicit } of candidates(options)) {
    const { libtorch, reason } = known ? { reason: known } : inspect(directory);
    if (libtorch !== undefined) return { libtorch, source, rejected, stopped: false };
    rejected.push({ source, directory, reason });
    if (isExplicit) return { libtorch: undefined, source: undefined, rejected, stopped: true };
  }
  return { libtorch: undefined, source: undefined, rejected, stopped: false };
}

module.exports = { INSTALLED_VERSION, MARKER, VERSIONS, cacheDirectory, discover, inspect, installDirectory };
