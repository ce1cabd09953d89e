'use strict';
// Brings the addon and dist/ up to date. In an installed package, which has dist/ and no compiler, only the addon.
//   node scripts/ensure-built.cjs [--ts]     --ts: only dist/

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const ROOT = path.resolve(__dirname, '..');
const DIST = path.join(ROOT, 'dist');

function run(command, args) {
  const { status, error } = spawnSync(command, args, { stdio: ['ignore', 2, 2], cwd: ROOT });
  if (error) process.stderr.write(`${error.message}\n`);
  if (status !== 0) process.exit(status ?? 1);
}

/** Removes what was compiled from sources that are gone. */
function removeStale() {
  if (!fs.existsSync(DIST)) return;
  for (const name of fs.readdirSync(DIST, { recursive: true })) {
    const source = path.join(ROOT, name.replace(/(\.d)?\.(js|ts)(\.map)?$/, '.ts'));
    if (/\.(js|ts|map)$/.test(name) && !fs.existsSync(source)) fs.rmSync(path.join(DIST, name));
  }
}

function buildTypeScript() {
  const tsc = path.join(ROOT, 'node_modules', '.bin', 'tsc');
  if (!fs.existsSync(path.join(ROOT, 'tsconfig.build.json')) || !fs.existsSync(tsc)) {
    if (fs.existsSync(path.join(DIST, 'lib', 'index.js'))) return;
    process.stderr.write('dist/ is missing and so is the TypeScript compiler; run: npm ci\n');
    process.exit(1);
  }
  removeStale();
  run(tsc, ['-p', 'tsconfig.build.json']);
  const command = path.join(DIST, 'bin', 'cream.js');
  if (fs.existsSync(command)) fs.chmodSync(command, 0o755);
}

if (!process.argv.includes('--ts')) run(process.execPath, [path.join(__dirname, 'native.cjs'), 'ensure']);
buildTypeScript();
