import { spawn } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { stringify } from 'yaml';
import { executeCompare, narrowed, parseSeeds } from '../../lib/cli/compare.js';
import { Terminal } from '../../lib/cli/terminal.js';
import type { CompareEvent } from '../../lib/compare/compare.js';
import type { Comparison } from '../../lib/compare/results.js';
import { cream, jsonLines, type Outcome, plainEnvironment, PROGRAM } from '../helpers/cream.js';
import { digests, writeTinyRun } from '../helpers/tiny-run.js';

t.setTimeout(240_000);

const cwd = t.testdir({ elsewhere: {} });
const base = await writeTinyRun(cwd);
const settings = { ...base, evaluation: { maxNewTokens: 8 } };
for (const method of ['cream', 'srlm'])
  writeFileSync(join(cwd, `${method}.yaml`), stringify({ ...settings, method }));
writeFileSync(join(cwd, 'elsewhere', 'cream.yaml'), stringify({ ...settings, method: 'srlm' }));

const LINE = ['compare', 'cream.yaml', 'srlm.yaml', '--seeds', '1-2'];
const whole = await cream([...LINE, '--output', 'whole'], { cwd });

/** The runs' files and the tables, without what depends on the clock. */
function findings(output: string) {
  const comparison = JSON.parse(readFileSync(join(cwd, output, 'compare.json'), 'utf8')) as Comparison;
  const { directory: _, runs, ...rest } = comparison;
  return {
    ...rest,
    runs: runs.map(({ name, seed, status, shared }) => ({ name, seed, status, shared })),
    files: Object.entries(digests(join(cwd, output))).filter(([name]) => !name.endsWith('events.jsonl')),
  };
}

t.test('compare prints the tables on standard output and the progress on standard error', async (t) => {
  t.equal(whole.code, 0, whole.stderr);
  t.notMatch(whole.stdout + whole.stderr, '\u001B', 'no control codes in a pipe');
  t.match(whole.stdout, /^Accuracy$/m);
  t.match(whole.stdout, /^\(all\) +M1 +0\.000 ±0\.000$/m);
  t.match(whole.stdout, /^srlm +M3 +0\.000 ±0\.000$/m);
  t.match(whole.stdout, /^method +models +tau +Spearman +topOrder +C$/m);
  for (const models of ['M2, M1', 'M3, M2'])
    t.match(whole.stdout, new RegExp(`^srlm +${models}( +-?\\d\\.\\d{3} ±\\d+\\.\\d{3}){4}$`, 'm'));
  t.match(whole.stdout, /^4 runs, .* 13 stages taken from another run; folder: whole /m);
  t.match(whole.stderr, /^\[4\/4\] srlm, seed 2, 6 stages from cream\/seed-1 and cream\/seed-2$/m);
});

t.test('compare --json prints every event with its run, and the comparison last', async (t) => {
  const { code, stdout, stderr } = await cream([...LINE, '-o', 'whole', '--json', '-q'], { cwd });
  t.equal(code, 0, stderr);
  const events = jsonLines<CompareEvent>(stdout);
  t.strictSame(
    events.map((event) =>
      event.type === 'member' ? `${event.name} ${event.seed} ${event.status}` : event.type,
    ),
    ['cream 1 skipped', 'srlm 1 skipped', 'cream 2 skipped', 'srlm 2 skipped', 'comparison'],
  );
  t.match(events.at(-1), { comparison: { isComplete: true, seeds: [1, 2] } });
  const fresh = await cream([...LINE.slice(0, 3), '--seeds', '3', '-o', 'fresh', '--json', '-q'], { cwd });
  const stages = jsonLines<CompareEvent>(fresh.stdout).filter(({ type }) => type === 'stage');
  t.ok(stages.length > 20);
  t.ok(stages.every((event) => 'name' in event && event.seed === 3));
});

/** A stream that remembers what was written to it. */
class Recorder extends EventEmitter {
  text = '';
  readonly isTTY = true;
  readonly columns = 80;
  write(text: string): boolean {
    this.text += text;
    return true;
  }
}

t.test('in a terminal headings are bold and the cursor comes back', async (t) => {
  const [out, err] = [new Recorder(), new Recorder()];
  const environment = { LANG: 'C.UTF-8', TERM: 'xterm' };
  const terminal = new Terminal(out as never, err as never, environment, () => undefined);
  const values = { seeds: '1,2', output: join(cwd, 'whole'), allowDifferent: false, json: false };
  const words = ['cream.yaml', 'srlm.yaml'].map((name) => join(cwd, name));
  const { signal } = new AbortController();
  t.equal(await executeCompare(values, { terminal, words, isQuiet: false, signal }), 0);
  t.match(out.text, '\u001B[1mAccuracy\u001B[0m');
  t.match(err.text, '\u001B[1m[1/4] cream, seed 1\u001B[0m, already done');
  t.ok(err.text.endsWith('\u001B[?25h'));
});

t.test('a table that is wider than the terminal continues below, its rows named again', async (t) => {
  const header = ['method', 'model', ...Array.from({ length: 6 }, (_, i) => `task-${i}`)];
  const rows = [['cream', 'M3', ...Array.from({ length: 6 }, (_, i) => `0.${i} ±0.1`)]];
  const parts = narrowed({ title: 'Accuracy', header, rows }, 43);
  t.strictSame(
    parts.map((part) => part.header.slice(2)),
    [
      ['task-0', 'task-1', 'task-2'],
      ['task-3', 'task-4', 'task-5'],
    ],
  );
  t.strictSame(parts[1]!.rows, [['cream', 'M3', '0.3 ±0.1', '0.4 ±0.1', '0.5 ±0.1']]);
  t.equal(parts[1]!.title, 'Accuracy, continued');
  t.strictSame(narrowed({ title: 'Accuracy', header, rows }, 200), [{ title: 'Accuracy', header, rows }]);
  t.equal(narrowed({ title: 'Accuracy', header, rows }, 10).length, 6, 'one column at least');
});

/** Starts the comparison and sends it a signal: when standard output matches, or after some time. */
function stopped(output: string, signal: NodeJS.Signals, when: RegExp | number): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const args = [PROGRAM, ...LINE, '--output', output, '--json'];
    const child = spawn(process.execPath, args, { cwd, env: plainEnvironment() });
    let [stdout, stderr, isSent] = ['', '', false];
    const timer = typeof when === 'number' ? setTimeout(() => child.kill(signal), when) : undefined;
    child.stdout.on('data', (chunk: Buffer) => {
      stdout += chunk.toString();
      if (typeof when === 'number' || isSent || !when.test(stdout)) return;
      isSent = true;
      child.kill(signal);
    });
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    child.once('error', reject);
    child.once('close', (code) => {
      clearTimeout(timer);
      resolve({ code, stdout, stderr });
    });
  });
}

t.test('Ctrl-C saves and exits with 130; the same command ends with the same bits', async (t) => {
  const interrupted = await stopped('interrupted', 'SIGINT', /"stage":"train"[^\n]*"name":"srlm"/);
  t.equal(interrupted.code, 130, interrupted.stderr);
  t.match(interrupted.stderr, 'can be continued from interrupted: give the same command again');
  const partial = JSON.parse(readFileSync(join(cwd, 'interrupted', 'compare.json'), 'utf8')) as Comparison;
  t.strictSame(
    partial.runs.map(({ status }) => status),
    ['finished', 'missing', 'missing', 'missing'],
  );
  t.equal((await cream([...LINE, '--output', 'interrupted'], { cwd })).code, 0);
  t.strictSame(findings('interrupted'), findings('whole'));
});

t.test('killed at random moments, a comparison ends with the same bits and the same table', async (t) => {
  const moments: RegExp[] = [
    /"type":"member"[^\n]*"name":"srlm"/, // just begun, from shared stages
    /"type":"summary"/, // between two runs
    /"stage":"train"[^\n]*"name":"cream","seed":2/,
    /"stage":"score"[^\n]*"name":"srlm","seed":2/,
  ];
  for (const when of moments) t.equal((await stopped('killed', 'SIGKILL', when)).code, null, String(when));
  let [kills, random] = [0, 4711];
  for (; kills < 12; kills++) {
    random = (random * 1103515245 + 12345) % 2 ** 31;
    const { code } = await stopped('killed', 'SIGKILL', 300 + (random / 2 ** 31) * 1500);
    if (code === null) continue;
    t.equal(code, 0);
    t.strictSame(findings('killed'), findings('whole'), `after ${kills} kills`);
    rmSync(join(cwd, 'killed'), { recursive: true });
  }
  t.equal((await cream([...LINE, '--output', 'killed'], { cwd })).code, 0);
  t.strictSame(findings('killed'), findings('whole'));
});

t.test('compare refuses what it cannot compare, before it makes a folder', async (t) => {
  mkdirSync(join(cwd, 'strange'));
  writeFileSync(join(cwd, 'strange', 'x'), '');
  const cases: readonly (readonly [args: string, code: number, said: string])[] = [
    ['cream.yaml srlm.yaml', 2, '--seeds is missing'],
    ['cream.yaml srlm.yaml --seeds 1,x', 2, '--seeds must be whole numbers such as 1,2,3 or 1-5, got "1,x"'],
    ['cream.yaml srlm.yaml --seeds 1,1-2', 2, '--seeds names 1 twice'],
    ['--seeds 1', 2, 'cream compare needs <files..>'],
    ['beta=1 --seeds 1', 2, 'needs config files, got settings alone'],
    [
      'cream.yaml elsewhere/cream.yaml --seeds 1',
      2,
      'cream.yaml and elsewhere/cream.yaml would both be called cream',
    ],
    ['cream.yaml none.yaml --seeds 1', 2, 'cannot read none.yaml'],
    ['cream.yaml srlm.yaml --seeds 1 model=nowhere', 2, 'model: there is no'],
    ['cream.yaml srlm.yaml --seeds 1 method=srlm', 2, 'cream and srlm have the same settings and data'],
    ['cream.yaml srlm.yaml --seeds 1 --output strange', 2, 'holds files that are no comparison (x)'],
  ];
  for (const [line, code, said] of cases) {
    const output = line.includes('--output') ? [] : ['--output', 'refused'];
    const outcome = await cream(['compare', ...output, ...line.split(' ')], { cwd });
    t.equal(outcome.code, code, `${line}: ${outcome.stderr}`);
    t.ok(outcome.stderr.includes(said), outcome.stderr);
  }
  t.notOk(existsSync(join(cwd, 'refused')));
});

t.test('seeds are lists and ranges', async (t) => {
  t.strictSame(parseSeeds('3'), [3]);
  t.strictSame(parseSeeds('1,2, 5-7'), [1, 2, 5, 6, 7]);
  for (const text of ['', '1,', '5-1', '-1', '1.5', '1e3', '0-1000000'])
    t.throws(() => parseSeeds(text), { code: 'USAGE' }, text);
});
