'use strict';
// Formats the native sources, or with --check says which are not formatted.
// clang-format is optional: the file list goes to whichever one is on PATH, and none is needed to build or test.

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const ROOT = path.resolve(__dirname, '..');
const isCheck = process.argv.includes('--check');

if (spawnSync('clang-format', ['--version'], { stdio: 'ignore' }).status !== 0) {
  console.error(`clang-format is not installed: native sources not ${isCheck ? 'checked' : 'formatted'}`);
  process.exit(0);
}
const files = fs
  .readdirSync(path.join(ROOT, 'native'), { recursive: true })
  .filter((name) => /\.(cpp|h|cu|cuh)$/.test(name))
  .map((name) => path.join(ROOT, 'native', name));
const args = isCheck ? ['--dry-run', '--Werror'] : ['-i'];
process.exit(spawnSync('clang-format', [...args, ...files], { stdio: 'inherit' }).status ?? 1);
