'use strict';
// Runs compiled test files for a bundle, which has no test runner. What failed is told in few lines.
//   node scripts/run-tests.cjs [--jobs N] [--out DIR] [--stall SECONDS] [--total SECONDS] [FILE-OR-FOLDER-OR-NAME ...]
// Files are named from the package's folder; a name is one of test/cuda-device, which is run where nothing is named.
// --jobs: so many files at once, 1; the processors are shared among them, a GPU is used by all.
// --out (or CREAM_TEST_OUT): a folder for tests.json and the whole output of each file. --stall: a test that says nothing
// for so long is ended, 180. --total: nothing is started after that.
// A test that takes its process with it, or leaves a GPU that can do nothing more, fails alone: the tests after it run in
// a new process.

const { spawn } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { pathToFileURL } = require('node:url');
const { parseArgs } = require('node:util');

const MOST_LINES = 8; // of one test's failures
const MOST_NAMES = 40; // in the list at the end
const TELLER = pathToFileURL(path.join(__dirname, 'tell-tests.mjs')).href;
const LOST = /ENGINE_LOST|the GPU can do nothing more/;

/** The tests of a file from its TAP: {name, status: ok, failed or skipped, seconds, failures: lines}. */
function readTap(text) {
  const tests = [];
  let lines = [];
  let diagnostic; // lines of the one that is open
  for (const line of text.split('\n')) {
    const ended = line.match(/^(not ok|ok) \d+ - (.*?)(?: # time=([\d.]+)ms| # ([A-Z]+)(.*))?(?: \{)?$/);
    const failed = line.match(/^ +not ok \d+ - (.*?)(?: # time=.*)?$/);
    if (ended) {
      const status = ended[4] ? 'skipped' : ended[1] === 'ok' ? 'ok' : 'failed';
      const skipped = ended[4] && { reason: (ended[5] ?? '').trim() };
      tests.push({
        name: ended[2],
        status,
        seconds: Number(ended[3] ?? 0) / 1e3,
        failures: lines,
        ...skipped,
      });
      [lines, diagnostic] = [[], undefined];
    } else if (failed) {
      lines.push(failed[1]);
      diagnostic = [];
    } else if (diagnostic !== undefined && /^ +\.\.\.$/.test(line)) {
      const said = summary(diagnostic);
      if (said) lines[lines.length - 1] += `: ${said}`;
      diagnostic = undefined;
    } else if (/^ +(at|stack|source|compare): ?/.test(line)) {
      diagnostic?.push('...');
    } else if (diagnostic !== undefined) diagnostic.push(line.trim());
  }
  return { tests, lines };
}

/** The numbers and values of a failed assertion, in one line. */
function summary(diagnostic) {
  const isUseful =
    /^(error|tolerance|index|excess|actual|expected|found|wanted|far|worst|code|message|[-+][^-+])/;
  const end = diagnostic.indexOf('...'); // stacks and sources come last
  const useful = (end < 0 ? diagnostic : diagnostic.slice(0, end)).filter((line) => isUseful.test(line));
  return useful
    .slice(0, 8)
    .map((line) => line.slice(0, 120))
    .join(', ')
    .slice(0, 300);
}

const escaped = (name) => name.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&');

/** One process over a file, without the tests in `done`. */
function runOnce(file, done, { stall, deadline, log, threads }) {
  return new Promise((resolve) => {
    const env = { ...process.env, TAP_TIMEOUT: '86400' };
    if (threads !== undefined) env.OMP_NUM_THREADS ??= String(threads);
    if (done.size > 0) {
      const names = [...done].map(escaped).join('|');
      Object.assign(env, { TAP_GREP: `/^(${names})$/`, TAP_INVERT: '1', TAP_FILTER_QUIETLY: '1' });
    }
    const child = spawn(process.execPath, ['--import', TELLER, file], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env,
    });
    let [out, errors, end, timer] = ['', '', undefined];
    const kill = (why) => {
      end = why;
      child.kill('SIGKILL');
    };
    const wait = () => {
      clearTimeout(timer);
      timer = setTimeout(() => kill(`nothing happened for ${stall} s: ended`), stall * 1e3);
    };
    const late = setTimeout(() => kill('the time of --total is over: ended'), deadline - Date.now());
    wait();
    child.stdout.on('data', (data) => {
      wait();
      out += data;
      log(data);
    });
    child.stderr.on('data', (data) => {
      errors += data;
      log(data);
    });
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      clearTimeout(late);
      resolve({
        out,
        errors: errors.trim(),
        status,
        end: end ?? (signal ? `ended by ${signal}` : undefined),
      });
    });
  });
}

async function runFile(file, options) {
  const start = Date.now();
  const tests = [];
  const done = new Set();
  for (;;) {
    const { out, errors, status, end } = await runOnce(file, done, options);
    const { tests: all, lines } = readTap(out);
    const ran = all.filter(({ name }) => !done.has(name)); // those in `done` are told as passed
    const lost = ran.findIndex(({ failures }) => failures.some((line) => LOST.test(line)));
    const kept = lost < 0 ? ran : ran.slice(0, lost + 1);
    // A process that ended by itself with an error and blames no test: nothing could be loaded.
    const isSilent = status !== 0 && !ran.some((test) => test.status === 'failed');
    if (lost < 0 && (end !== undefined || isSilent)) {
      const begun = [...errors.matchAll(/^# begins: (.*)$/gm)].map(([, name]) => name).at(-1);
      const isKnown = begun === undefined || ran.some(({ name }) => name === begun);
      const told = errors.split('\n').filter((line) => !line.startsWith('# begins: '));
      const why = told.find((line) => /^ *(\w*Error\b|terminate|what\(\))/.test(line)) ?? told.at(-1) ?? '';
      const failures = [...lines, `${end ?? `ended with ${status}`} ${why.trim()}`.trim().slice(0, 300)];
      const name = isKnown ? 'the file itself' : begun;
      kept.push({ name, status: 'failed', seconds: 0, failures });
    }
    tests.push(...kept);
    const before = done.size;
    for (const { name } of kept) done.add(name);
    const isOver = lost < 0 && end === undefined;
    if (isOver || done.size === before || Date.now() > options.deadline) break;
  }
  if (tests.length === 0)
    tests.push({ name: 'the file itself', status: 'failed', seconds: 0, failures: ['nothing ran'] });
  return { file, seconds: (Date.now() - start) / 1e3, tests };
}

function report({ file, seconds, tests }) {
  const failed = tests.filter(({ status }) => status === 'failed');
  const passed = tests.filter(({ status }) => status === 'ok').length;
  const title = failed.length > 0 ? 'FAILED' : passed > 0 ? 'ok' : 'skipped';
  console.log(
    `${title.padEnd(8)}${file}  ${passed} of ${tests.length} tests passed  ${seconds.toFixed(1)} s`,
  );
  for (const reason of new Set(tests.map((test) => test.reason).filter(Boolean)))
    console.log(`    skipped: ${reason}`);
  for (const { name, failures } of failed) {
    console.log(`    ${name}`);
    for (const line of failures.slice(0, MOST_LINES)) console.log(`        ${line}`);
    if (failures.length > MOST_LINES) console.log(`        and ${failures.length - MOST_LINES} more`);
  }
}

function testFiles(place) {
  const named = path.join('test', 'cuda-device', `${place}.test.js`);
  if (!fs.existsSync(place) && fs.existsSync(named)) return [named];
  if (!fs.existsSync(place)) throw new Error(`there is no test ${place}`);
  if (!fs.statSync(place).isDirectory()) return [place];
  return fs
    .readdirSync(place, { recursive: true })
    .filter((name) => name.endsWith('.test.js'))
    .map((name) => path.join(place, name))
    .sort();
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      jobs: { type: 'string', default: '1' },
      out: { type: 'string', default: process.env.CREAM_TEST_OUT },
      stall: { type: 'string', default: '180' },
      total: { type: 'string', default: '1000000' },
    },
  });
  const start = Date.now();
  const deadline = start + Number(values.total) * 1e3;
  const results = [];
  const save = () => {
    if (values.out === undefined) return;
    const seconds = (Date.now() - start) / 1e3;
    fs.writeFileSync(path.join(values.out, 'tests.json'), JSON.stringify({ seconds, results }, null, 1));
  };
  if (values.out !== undefined) {
    values.out = path.resolve(values.out);
    fs.mkdirSync(values.out, { recursive: true });
  }
  process.chdir(path.resolve(__dirname, '..'));
  const places = positionals.length > 0 ? positionals : [path.join('test', 'cuda-device')];
  const waiting = places.flatMap(testFiles);
  if (waiting.length === 0) throw new Error('there are no tests here');
  const jobs = Number(values.jobs);
  if (!Number.isSafeInteger(jobs) || jobs < 1)
    throw new Error(`--jobs must be a whole number of at least 1, got ${values.jobs}`);
  const threads = jobs > 1 ? Math.max(1, Math.floor(os.availableParallelism() / jobs)) : undefined;
  const runNext = async () => {
    while (waiting.length > 0 && Date.now() < deadline) {
      const file = waiting.shift();
      // test/train/golden.test.js: train-golden.tap
      const short = file.startsWith('test/') ? file.slice(5).replaceAll('/', '-') : path.basename(file);
      const raw = values.out && path.join(values.out, short.replace(/\.test\.js$/, '.tap'));
      if (raw) fs.rmSync(raw, { force: true });
      const log = (data) => raw && fs.appendFileSync(raw, data);
      const result = await runFile(file, { stall: Number(values.stall), deadline, log, threads });
      results.push(result);
      report(result);
      save();
    }
  };
  await Promise.all(Array.from({ length: jobs }, runNext));
  results.sort((a, b) => (a.file < b.file ? -1 : 1));
  save();
  const all = results.flatMap(({ file, tests }) => tests.map((test) => ({ ...test, file })));
  const count = (wanted) => all.filter(({ status }) => status === wanted).length;
  const failed = all.filter(({ status }) => status === 'failed');
  console.log(`\n${count('ok')} tests passed, ${failed.length} failed, ${count('skipped')} skipped`);
  if (count('ok') + failed.length === 0) console.log(`  nothing ran: ${all[0]?.reason}`);
  for (const { file, name } of failed.slice(0, MOST_NAMES)) console.log(`  failed: ${file}: ${name}`);
  if (failed.length > MOST_NAMES) console.log(`  and ${failed.length - MOST_NAMES} more`);
  if (waiting.length > 0) console.log(`  not run, for want of time: ${waiting.join(' ')}`);
  process.exitCode = failed.length === 0 && waiting.length === 0 ? 0 : 1;
}

main().catch((error) => {
  console.error(`run-tests: ${error.message}`);
  process.exitCode = 1;
});
