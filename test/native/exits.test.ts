import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { addonPath } from '../../lib/native/binding.js';

// However a process or a worker ends while the engine works: the exit code that Node would give, and no abort.

const CHILD = join(dirname(fileURLToPath(import.meta.url)), '..', 'helpers', 'engine-child.cjs');

interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
  seconds: number;
}

function end(work: string, ending: string, delayMs: number, dtype = 'float32'): Promise<Ended> {
  const started = performance.now();
  const child = spawn(process.execPath, [CHILD, addonPath(), work, ending, String(delayMs), dtype], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const timer = setTimeout(() => child.kill('SIGKILL'), 60_000);
  return new Promise((resolve) => {
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, stdout, stderr, seconds: (performance.now() - started) / 1000 });
    });
  });
}

const DELAYS = [0, 3, 20, 90];
const EXPECTED: Record<string, { code: number | null; signal: NodeJS.Signals | null; stderr: RegExp }> = {
  exit: { code: 7, signal: null, stderr: /^$/ },
  reallyExit: { code: 7, signal: null, stderr: /^$/ },
  'exit-in-exit': { code: 7, signal: null, stderr: /^$/ },
  throw: { code: 1, signal: null, stderr: /Error: uncaught/ },
  reject: { code: 1, signal: null, stderr: /Error: unhandled/ },
  kill: { code: null, signal: 'SIGTERM', stderr: /^$/ },
  terminate: { code: 7, signal: null, stderr: /^$/ },
  'worker-exit': { code: 7, signal: null, stderr: /^$/ },
};

const WORKS = ['generate', 'score', 'train', 'queue'];

for (const [index, [ending, { code, signal, stderr }]] of Object.entries(EXPECTED).entries()) {
  t.test(`${ending} during native work ends as Node says`, async (t) => {
    // Every way to end with two of the works; every work with half of the ways.
    for (const place of [index % 4, (index + 2) % 4]) {
      const work = WORKS[place]!;
      const delay = DELAYS[(place + (index >> 2)) % 4]!;
      const ended = await end(work, ending, delay);
      t.match(ended, { code, signal, stdout: '' }, `${work} after ${delay} ms`, { stderr: ended.stderr });
      t.match(ended.stderr, stderr);
    }
  });
}

// Libraries make things at their first use (oneDNN its primitives, ATen its operators), later than the addon could
// register a handler, so a process destroys them before it asks that handler.
t.test('exit() during the first work in each dtype, unannounced', async (t) => {
  for (const dtype of ['float32', 'bfloat16']) {
    for (const work of WORKS) {
      for (const delay of [3, 20, 60]) {
        const ended = await end(work, 'original-exit', delay, dtype);
        t.match(
          ended,
          { code: 7, signal: null, stdout: '', stderr: '' },
          `${work} in ${dtype} after ${delay} ms`,
        );
      }
    }
  }
});

t.test('dieWithParent: the process ends when its parent is killed', async (t) => {
  const inner = `const b = require(${JSON.stringify(addonPath())}); b.dieWithParent(); console.log(process.pid); setInterval(() => {}, 1000);`;
  const outer = `require('node:child_process').spawn(process.execPath, ['-e', ${JSON.stringify(inner)}], { stdio: 'inherit' }); setInterval(() => {}, 1000);`;
  const parent = spawn(process.execPath, ['-e', outer], { stdio: ['ignore', 'pipe', 'inherit'] });
  const pid = await new Promise<number>((resolve) => {
    parent.stdout.once('data', (chunk: Buffer) => resolve(Number(chunk.toString())));
  });
  t.ok(isAlive(pid));
  parent.kill('SIGKILL');
  const deadline = performance.now() + 10_000;
  while (isAlive(pid) && performance.now() < deadline)
    await new Promise((resolve) => setTimeout(resolve, 20));
  t.notOk(isAlive(pid));
});

/** A zombie that nobody has waited for yet is dead. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
