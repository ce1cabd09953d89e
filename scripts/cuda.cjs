'use strict';
// Decides whether the addon is built for NVIDIA GPUs, and finds what that needs: nvcc, its headers, the CUDA runtime
// that LibTorch itself uses.

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

/** The first release of nvcc that compiles the kernels' C++20 and that LibTorch's headers are tested with. */
const OLDEST_NVCC = 13;
const DEFAULT_ARCHS = '80;90';

class CudaError extends Error {}

/** Device files of NVIDIA's driver, on Linux and in WSL; where a sandbox shows none, what its own program says. */
function hasDevice() {
  try {
    if (fs.readdirSync('/dev').some((name) => /^nvidia\d+$/.test(name) || name === 'dxg')) return true;
  } catch {
    // no /dev to look into
  }
  const { status, stdout } = spawnSync('nvidia-smi', ['-L'], { encoding: 'utf8', timeout: 30_000 });
  return status === 0 && /^GPU \d+:/m.test(stdout);
}

/** true or false where somebody says so (--cuda, --no-cuda, CREAM_CUDA), undefined where nobody does. */
function wish(option, environment = process.env.CREAM_CUDA) {
  if (option !== undefined) return option;
  if (environment === undefined || environment === '' || environment === 'auto') return undefined;
  if (/^(1|on|yes|true)$/i.test(environment)) return true;
  if (/^(0|off|no|false)$/i.test(environment)) return false;
  throw new CudaError(`CREAM_CUDA must be 1, 0 or auto, got ${JSON.stringify(environment)}`);
}

/** "80;90" as a list; the highest is also kept as PTX, which later GPUs compile when they load it. */
function architectures(text = process.env.CREAM_CUDA_ARCHS || DEFAULT_ARCHS) {
  const list = text.split(/[;, ]+/).filter(Boolean);
  const wrong = list.find((arch) => !/^[1-9]\d{1,2}[af]?$/.test(arch));
  if (wrong !== undefined || list.length === 0) {
    throw new CudaError(
      `CREAM_CUDA_ARCHS must be compute capabilities such as ${DEFAULT_ARCHS}, got ${JSON.stringify(text)}`,
    );
  }
  return [...new Set(list)].sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10));
}

function nvccCandidates() {
  const { CUDA_HOME, CUDA_PATH, CUDACXX } = process.env;
  const folders = [CUDA_HOME, CUDA_PATH].filter(Boolean).map((root) => path.join(root, 'bin'));
  const onPath = (process.env.PATH ?? '').split(path.delimiter).filter(Boolean);
  return [
    ...(CUDACXX ? [CUDACXX] : []),
    ...[...folders, '/usr/local/cuda/bin', ...onPath].map((folder) => path.join(folder, 'nvcc')),
  ];
}

/** The first nvcc there is, without running it. */
function nvccPath(extra = []) {
  return [...nvccCandidates(), ...extra].find((file) => fs.existsSync(file));
}

/** {path, version: "13.0", include: folders with the CUDA headers}. */
function inspectNvcc(file) {
  const { stdout, status, error } = spawnSync(file, ['--version'], { encoding: 'utf8' });
  const version = stdout?.match(/release (\d+\.\d+)/)?.[1];
  if (version === undefined) {
    const why = error?.message ?? `\`${file} --version\` ended with ${status} and named no release`;
    throw new CudaError(`${file} is not a usable nvcc: ${why}`);
  }
  return { path: file, version };
}

/** Folders of CUDA headers: the toolkit's own and those of NVIDIA's Python packages. */
function includeFolders(nvcc, cudart) {
  const roots = [path.dirname(path.dirname(fs.realpathSync(nvcc))), path.dirname(path.dirname(nvcc))];
  const toolkit = roots.flatMap((root) => [
    path.join(root, 'include'),
    path.join(root, 'targets', `${process.arch === 'arm64' ? 'sbsa' : 'x86_64'}-linux`, 'include'),
  ]);
  const beside = cudart === undefined ? [] : [path.join(path.dirname(path.dirname(cudart)), 'include')];
  const found = [...toolkit, ...beside].filter((folder) =>
    fs.existsSync(path.join(folder, 'cuda_runtime_api.h')),
  );
  return [...new Set(found.map((folder) => fs.realpathSync(folder)))];
}

/** nvcc of NVIDIA's Python package, which lies beside LibTorch's other CUDA packages. */
function packagedNvcc(libtorch) {
  const { cudart } = libtorch.cuda ?? {};
  return cudart === undefined ? [] : [path.join(path.dirname(path.dirname(cudart)), 'bin', 'nvcc')];
}

/**
 * What to build: {cuda: undefined, why} for the CPU alone, or {cuda: {nvcc, version, include, cudart, archs}, why}.
 * Throws CudaError where a GPU build is wanted, or there is a GPU, and the parts do not fit together.
 */
function chooseCuda(libtorch, option) {
  const wanted = wish(option);
  const cpu = (why) => ({ cuda: undefined, why });
  if (wanted === false) return cpu(option === false ? '--no-cuda' : 'CREAM_CUDA=0');
  const refuse = (reason) => {
    if (wanted) throw new CudaError(`a build with CUDA is wanted, but ${reason}`);
    return cpu(reason);
  };
  if (libtorch.cuda === undefined) return refuse(`LibTorch in ${libtorch.root} is built for the CPU alone`);
  const { version, cudart, missing } = libtorch.cuda;
  if (missing.length > 0)
    return refuse(`LibTorch's CUDA libraries are not all installed: ${missing.join(', ')}`);
  if (!wanted && !hasDevice())
    return cpu('there is no NVIDIA device (CREAM_CUDA=1 builds for one all the same)');

  const file = nvccPath(packagedNvcc(libtorch));
  if (file === undefined) {
    return refuse(
      'there is no nvcc (looked in CUDA_HOME, /usr/local/cuda and PATH); install CUDA 13 or set CUDA_HOME',
    );
  }
  const nvcc = inspectNvcc(file);
  const [major] = nvcc.version.split('.').map(Number);
  const advice = `; put the nvcc of CUDA ${Math.max(version, OLDEST_NVCC)} in CUDA_HOME, take another LibTorch, or build for the CPU with --no-cuda`;
  if (version < OLDEST_NVCC || major < OLDEST_NVCC) {
    throw new CudaError(
      `CUDA ${OLDEST_NVCC} is needed, but LibTorch in ${libtorch.root} is built for CUDA ${version} and ${file} is of ${nvcc.version}${advice}`,
    );
  }
  if (major !== version) {
    throw new CudaError(
      `LibTorch in ${libtorch.root} is built for CUDA ${version}, but ${file} is of ${nvcc.version}${advice}`,
    );
  }
  const include = includeFolders(file, cudart);
  if (include.length === 0) return refuse(`no cuda_runtime_api.h lies beside ${file}`);
  return {
    cuda: { nvcc: file, version: nvcc.version, include, cudart, archs: architectures() },
    why: wanted ? (option ? '--cuda' : 'CREAM_CUDA=1') : 'there is an NVIDIA device',
  };
}

module.exports = {
  CudaError,
  architectures,
  chooseCuda,
  hasDevice,
  inspectNvcc,
  includeFolders,
  nvccPath,
  wish,
};
