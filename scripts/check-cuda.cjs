'use strict';
// Compiles what a build without CUDA never sees, for machines without a GPU: every .cu file by nvcc, and every .cpp file
// with a CUDA branch against the headers of CUDA and LibTorch. Says what it cannot compile and why.
//   node scripts/check-cuda.cjs

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { includeFolders, inspectNvcc, nvccPath } = require('./cuda.cjs');
const { discover } = require('./libtorch.cjs');

const ROOT = path.resolve(__dirname, '..');
const NATIVE = path.join(ROOT, 'native');
const ARCHS = ['80', '90'];

function run(command, args) {
  const { status, error } = spawnSync(command, args, { stdio: ['ignore', 2, 2] });
  if (status === 0) return;
  process.stderr.write(`${error ? error.message : `${command} ended with ${status}`}\n`);
  process.exit(1);
}

const sources = fs
  .readdirSync(NATIVE, { recursive: true })
  .filter((name) => /\.(cu|cpp)$/.test(name))
  .map((name) => path.join(NATIVE, name))
  .sort();
const nvcc = nvccPath();
if (nvcc === undefined) {
  console.log('no nvcc on PATH, in CUDA_HOME or in /usr/local/cuda: the CUDA sources are not compiled by it');
  process.exit(0);
}
const { version } = inspectNvcc(nvcc);
const work = fs.mkdtempSync(path.join(os.tmpdir(), 'cream-cuda-'));
try {
  const codes = ARCHS.flatMap((arch) => ['-gencode', `arch=compute_${arch},code=sm_${arch}`]);
  for (const source of sources.filter((file) => file.endsWith('.cu'))) {
    console.log(`nvcc ${version} ${path.relative(ROOT, source)} (sm_${ARCHS.join(', sm_')})`);
    run(nvcc, ['-std=c++20', '-O3', ...codes, '-I', NATIVE, '-c', source, '-o', path.join(work, 'kernel.o')]);
  }
} finally {
  fs.rmSync(work, { recursive: true, force: true });
}

// What a CUDA build compiles otherwise: CREAM_CUDA in the file itself or in a header of ours that it includes.
const { libtorch } = discover();
const marker = libtorch && path.join(libtorch.include, 'c10', 'cuda', 'impl', 'cuda_cmake_macros.h');
const folders = includeFolders(nvcc, libtorch?.cuda?.cudart);
if (!marker || !fs.existsSync(marker) || folders.length === 0) {
  const why = folders.length === 0 ? 'there are no CUDA headers' : 'there is no LibTorch with CUDA';
  console.log(`${why}: the CUDA branches of the C++ sources are not compiled`);
  process.exit(0);
}
const usesCuda = (file) => fs.existsSync(file) && /\bCREAM_CUDA\b/.test(fs.readFileSync(file, 'utf8'));
const headersOf = (file) =>
  [...fs.readFileSync(file, 'utf8').matchAll(/^#include "(.*)"$/gm)].map(([, name]) =>
    path.join(NATIVE, name),
  );
for (const source of sources.filter((file) => file.endsWith('.cpp'))) {
  if (![source, ...headersOf(source)].some(usesCuda)) continue;
  console.log(`c++ -DCREAM_CUDA ${path.relative(ROOT, source)}`);
  const packages = ['node-addon-api', 'node-api-headers/include'].map((name) =>
    path.join(ROOT, 'node_modules', ...name.split('/')),
  );
  const system = [
    libtorch.include,
    path.join(libtorch.include, 'torch', 'csrc', 'api', 'include'),
    ...folders,
    ...packages,
  ].flatMap((folder) => ['-isystem', folder]);
  const defined = [
    '-DCREAM_CUDA',
    '-DCREAM_CUDA_ARCHS="80 90"',
    '-DCREAM_BUILD_FLAGS=""',
    '-DNAPI_VERSION=9',
    '-DNAPI_CPP_EXCEPTIONS',
  ];
  const flags = ['-std=c++20', '-fsyntax-only', '-fopenmp', '-Wall', '-Wextra', '-I', NATIVE];
  run(process.env.CXX || 'c++', [...flags, ...defined, ...system, source]);
}
