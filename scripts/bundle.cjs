'use strict';
// npm run bundle: everything that a GPU server without a package registry needs, as one folder and one archive: the
// Node.js of this machine, production dependencies, compiled TypeScript, native sources, tests and benchmarks. There:
// ./install.sh builds the engine against the server's LibTorch, then ./cream, ./test-cuda and ./bench-cuda work.
//
//   node scripts/bundle.cjs [--out DIR]     default: runs/bundle

const { execFileSync, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { pathToFileURL } = require('node:url');
const { parseArgs } = require('node:util');

const ROOT = path.resolve(__dirname, '..');
const LIMIT_BYTES = 60e6;
const PLAIN = ['CMakeLists.txt', 'binding.gyp', 'package.json', 'LICENSE', 'README.md', 'CHANGELOG.md'];
const FOLDERS = ['native', 'scripts', 'recipes', 'docs', 'bench', 'dist'];
/** What no program reads: declarations, source maps, sources of packages that ship them compiled too. */
const SUPERFLUOUS =
  /(\.map|\.d\.[cm]?ts|\.tsbuildinfo|\.md\.txt)$|\/zod\/src\/|\/(docs?|examples?)\/.*\.(html|png|gif)$/;

const log = (message) => process.stderr.write(`bundle: ${message}\n`);
const version = require('../package.json').version;

function copy(from, to, isWanted = () => true) {
  fs.cpSync(path.join(ROOT, from), to, { recursive: true, dereference: true, filter: isWanted });
}

const isUseful = (file) => !SUPERFLUOUS.test(file);

/** Packages that run in production, by the lock file: node_modules/... folders. */
function productionPackages() {
  const { packages } = JSON.parse(fs.readFileSync(path.join(ROOT, 'package-lock.json'), 'utf8'));
  return Object.entries(packages)
    .filter(([folder, { dev, devOptional }]) => folder !== '' && !dev && !devOptional)
    .map(([folder]) => folder)
    .filter((folder) => fs.existsSync(path.join(ROOT, folder)));
}

/**
 * The packages of the test runner that a test file really loads: the rest of it (coverage, watching, a React terminal) is
 * ten times as large. Seen by running a test that passes and one that fails.
 */
function testPackages(work) {
  const trace = path.join(work, 'loaded.txt');
  const hooks = `import fs from 'node:fs';
    export async function load(url, context, next) { fs.appendFileSync(${JSON.stringify(trace)}, url + '\\n'); return next(url, context); }`;
  // Hooks see what is imported, the patch what is required.
  const register = `import fs from 'node:fs'; import Module, { register } from 'node:module';
    register('data:text/javascript,' + ${JSON.stringify(encodeURIComponent(hooks))});
    const resolve = Module._resolveFilename;
    Module._resolveFilename = function (...parameters) {
      const file = resolve.apply(this, parameters);
      if (file.startsWith('/')) fs.appendFileSync(${JSON.stringify(trace)}, 'file://' + file + '\\n');
      return file;
    };`;
  const probe = path.join(ROOT, 'node_modules', '.cream-bundle-probe.mjs');
  fs.writeFileSync(
    probe,
    "import t from 'tap';\nt.test('passes', async (t) => { t.testdir({ a: 'b' }); t.match({ a: 1 }, { a: Number }); });\n" +
      "t.test('fails', async (t) => { t.strictSame([1, { a: 2 }], [1, { a: 3 }]); await t.rejects(Promise.resolve(1)); });\n",
  );
  try {
    spawnSync(process.execPath, ['--import', `data:text/javascript,${encodeURIComponent(register)}`, probe], {
      cwd: work,
      encoding: 'utf8',
    });
  } finally {
    fs.rmSync(probe);
  }
  const prefix = pathToFileURL(path.join(ROOT, 'node_modules')).href;
  const loaded = fs
    .readFileSync(trace, 'utf8')
    .split('\n')
    .filter((url) => url.startsWith(prefix));
  const folders = loaded
    .map((url) => url.match(/^.*\/node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/)?.[0])
    .filter(Boolean);
  const root = pathToFileURL(ROOT).href;
  const found = [...new Set(folders)].map((url) => url.slice(root.length + 1));
  if (!found.includes('node_modules/tap')) throw new Error('the test runner could not be traced');
  return found;
}

function compileTests(work, out) {
  const config = path.join(ROOT, 'tsconfig.bundle.tmp.json');
  const compiled = path.join(work, 'tests');
  fs.writeFileSync(
    config,
    JSON.stringify({
      extends: './tsconfig.json',
      compilerOptions: { noEmit: false, outDir: compiled },
      include: ['test'],
      exclude: ['lib/report/page', 'test/report'],
    }),
  );
  try {
    execFileSync(path.join(ROOT, 'node_modules', '.bin', 'tsc'), ['-p', config], { stdio: ['ignore', 2, 2] });
  } finally {
    fs.rmSync(config);
  }
  fs.cpSync(path.join(compiled, 'test'), path.join(out, 'test'), { recursive: true });
  copy('test', path.join(out, 'test'), (file) => !file.endsWith('.ts') && !file.endsWith('.py'));
  // Compiled tests stand where their sources stood, and import ../lib.
  for (const folder of ['lib', 'bin', 'experiment', 'examples'])
    if (fs.existsSync(path.join(out, 'dist', folder)))
      fs.symlinkSync(path.join('dist', folder), path.join(out, folder));
}

function copyNode(out) {
  const folder = path.join(out, 'node', 'bin');
  fs.mkdirSync(folder, { recursive: true });
  const node = path.join(folder, 'node');
  fs.copyFileSync(fs.realpathSync(process.execPath), node);
  fs.chmodSync(node, 0o755);
  spawnSync('strip', [node]); // 12 MB of symbols; without the tool they stay
  execFileSync(node, ['--version']);
  const prefix = path.dirname(path.dirname(fs.realpathSync(process.execPath)));
  const licence = [path.join(prefix, 'LICENSE'), path.join(prefix, 'share', 'doc', 'nodejs', 'LICENSE')].find(
    (file) => fs.existsSync(file),
  );
  if (licence !== undefined) fs.copyFileSync(licence, path.join(out, 'node', 'LICENSE'));
}

async function main() {
  const { values } = parseArgs({
    options: { out: { type: 'string', default: path.join(ROOT, 'runs', 'bundle') } },
  });
  execFileSync(process.execPath, [path.join(__dirname, 'ensure-built.cjs'), '--ts'], {
    stdio: ['ignore', 2, 2],
  });
  const name = `cream-lm-${version}-${process.platform}-${process.arch}`;
  const out = path.resolve(values.out, name);
  const archive = `${out}.tar.gz`;
  fs.rmSync(out, { recursive: true, force: true });
  fs.mkdirSync(out, { recursive: true });
  const work = fs.mkdtempSync(path.join(os.tmpdir(), 'cream-bundle-'));
  try {
    for (const file of PLAIN) copy(file, path.join(out, file));
    const { commit } = await import('../bench/report.mjs');
    fs.writeFileSync(path.join(out, 'COMMIT'), `${commit() ?? 'unknown'}\n`);
    for (const folder of FOLDERS) copy(folder, path.join(out, folder), isUseful);
    // The page of reports, which a package has in lib; here lib is dist/lib.
    copy('lib/report/page', path.join(out, 'dist', 'lib', 'report', 'page'), isUseful);
    const packages = new Set([...productionPackages(), ...testPackages(work)]);
    for (const folder of packages) copy(folder, path.join(out, folder), isUseful);
    log(`${packages.size} packages`);
    compileTests(work, out);
    copyNode(out);
    for (const script of fs.readdirSync(path.join(__dirname, 'bundle'))) {
      fs.copyFileSync(path.join(__dirname, 'bundle', script), path.join(out, script));
      fs.chmodSync(path.join(out, script), 0o755);
    }
  } finally {
    fs.rmSync(work, { recursive: true, force: true });
  }
  execFileSync(
    'tar',
    ['--sort=name', '--owner=0', '--group=0', '-czf', archive, '-C', path.dirname(out), name],
    {
      stdio: ['ignore', 2, 2],
    },
  );
  const { size } = fs.statSync(archive);
  log(`${archive}: ${(size / 1e6).toFixed(1)} MB`);
  if (size > LIMIT_BYTES) {
    log(`more than ${LIMIT_BYTES / 1e6} MB`);
    process.exit(1);
  }
}

main().catch((error) => {
  log(error.message);
  process.exitCode = 1;
});
