'use strict';
// Compiles, without linking, the sources that know of the CPU for 64-bit ARM, against LibTorch's headers: kernels fall
// back to the compiler's vectors and LibTorch's products there. Nothing is run.
//   node scripts/check-arm64.cjs     Debian's compiler: apt-get install g++-aarch64-linux-gnu

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { RECORD } = require('./native.cjs');

const ROOT = path.resolve(__dirname, '..');
const COMPILER = 'aarch64-linux-gnu-g++';
const KNOWS = /ops\/(cpu_features|simd|small_gemm|bfloat16_tiles)\.h"|immintrin|ucontext/;

if (spawnSync(COMPILER, ['--version'], { stdio: 'ignore' }).status !== 0) {
  console.error(`${COMPILER} is not installed: nothing was compiled for 64-bit ARM`);
  process.exit(0);
}
if (!fs.existsSync(RECORD)) {
  console.error('the addon is not built, so there are no headers of LibTorch; run: npm run build');
  process.exit(1);
}
const headers = path.join(JSON.parse(fs.readFileSync(RECORD, 'utf8')).libtorch.root, 'include');
const sources = ['native/ops', 'native/generate', 'native/cuda/emulate']
  .flatMap((folder) => fs.readdirSync(path.join(ROOT, folder)).map((name) => path.join(ROOT, folder, name)))
  .filter((file) => file.endsWith('.cpp') && KNOWS.test(fs.readFileSync(file, 'utf8')));
const failed = sources.filter((file) => {
  const flags = ['-std=c++20', '-fsyntax-only', '-fopenmp', '-Wall', '-Wextra', '-Werror'];
  const folders = ['-I', path.join(ROOT, 'native'), '-isystem', headers];
  return spawnSync(COMPILER, [...flags, ...folders, file], { stdio: 'inherit' }).status !== 0;
});
console.log(`${sources.length - failed.length} of ${sources.length} sources compile for 64-bit ARM`);
process.exit(failed.length > 0 || sources.length === 0 ? 1 : 0);
