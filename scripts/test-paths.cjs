'use strict';
// Runs the tests of the ops, of the goldens and a tiny run on every path that this build can take on this CPU
// (native/ops/cpu_features.h), each in processes that are forced to it.
//   node scripts/test-paths.cjs [--only LEVEL:MAKER]   such as avx2:other; without it all, one after another
//   node scripts/test-paths.cjs --list                 those that can run here; the others are told on stderr
// What the compiler vectorises follows -march, not the path: for a CPU with AVX2 alone the addon is built with
// `npm run build:native -- --arch x86-64-v3` first.

const { spawnSync } = require('node:child_process');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { ADDON } = require('./native.cjs');

const ROOT = path.resolve(__dirname, '..');
const LEVELS = ['baseline', 'avx2', 'avx512', 'avx512_bf16', 'amx_bf16'];
const PATHS = ['avx2:other', 'avx512:intel', 'avx512_bf16:other', 'avx512_bf16:intel', 'amx_bf16:intel'];
const FILES = [
  'test/ops/*.test.ts',
  'test/generate/{batches,decode-ops,sampler}.test.ts',
  'test/model/{golden,score}.test.ts',
  'test/train/gradients.test.ts',
];

const environment = (name) => {
  const [level, maker] = name.split(':');
  return { ...process.env, CREAM_CPU: level, CREAM_CPU_VENDOR: maker };
};

/** The paths that can be taken, and for the others why not. */
function choose() {
  const script = `process.stdout.write(require(${JSON.stringify(ADDON)}).info().cpuPath)`;
  const { stdout, stderr, status } = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`the addon does not load: ${stderr}`);
  const highest = LEVELS.indexOf(stdout.split(' ')[0]);
  const isPossible = (name) => LEVELS.indexOf(name.split(':')[0]) <= highest;
  for (const name of PATHS.filter((other) => !isPossible(other)))
    process.stderr.write(`skipped: ${name} (this build on this CPU goes to ${LEVELS[highest]})\n`);
  return PATHS.filter(isPossible);
}

/** True when all passed. */
function run(name) {
  console.log(`path ${name}`);
  const options = { cwd: ROOT, env: environment(name), stdio: 'inherit' };
  const cli = [path.join(ROOT, 'dist', 'bin', 'cream.js'), 'doctor'];
  const hasRun = spawnSync(process.execPath, cli, options).status === 0;
  if (!hasRun) console.error(`path ${name}: the tiny run of cream doctor failed`);
  return spawnSync('npx', ['tap', ...FILES], options).status === 0 && hasRun;
}

const { values } = parseArgs({ options: { list: { type: 'boolean' }, only: { type: 'string' } } });
if (values.list) {
  console.log(choose().join('\n'));
} else {
  const failed = (values.only === undefined ? choose() : [values.only]).filter((name) => !run(name));
  if (failed.length > 0) console.error(`failed: ${failed.join(', ')}`);
  process.exitCode = failed.length > 0 ? 1 : 0;
}
