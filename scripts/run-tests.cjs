'use strict';
// Runs compiled test files one after another, for a bundle, which has no test runner:
//   node scripts/run-tests.cjs FILE-OR-FOLDER ...

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const testFiles = (place) =>
  fs.statSync(place).isDirectory()
    ? fs
        .readdirSync(place, { recursive: true })
        .filter((name) => name.endsWith('.test.js'))
        .map((name) => path.join(place, name))
        .sort()
    : [place];

let failed = 0;
const files = process.argv.slice(2).flatMap(testFiles);
for (const file of files) {
  const start = Date.now();
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [file], {
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, TAP_TIMEOUT: '1200' }, // seconds for a file; 30 without it
  });
  const seconds = ((Date.now() - start) / 1000).toFixed(1);
  const counts = stdout.match(/^# (\{ total: .*\})$/m)?.[1] ?? '{ nothing ran }';
  const isGood = status === 0 && counts !== '{ nothing ran }';
  console.log(`${isGood ? 'ok' : 'FAILED'}  ${file}  ${counts}  ${seconds} s`);
  for (const [reason] of new Map([...stdout.matchAll(/# SKIP (.*)$/gm)].map((match) => [match[1]])))
    console.log(`    skipped: ${reason}`);
  if (isGood) continue;
  failed++;
  console.log(stdout.replaceAll(/^/gm, '    '));
  console.log(`${stderr}${signal === null ? '' : `ended by ${signal}\n`}`.replaceAll(/^/gm, '    '));
}
console.log(`${files.length - failed} of ${files.length} files passed`);
process.exit(failed === 0 && files.length > 0 ? 0 : 1);
