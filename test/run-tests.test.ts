import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

// What ./test-cuda of a bundle says, seen on a server by its last lines and by what it writes.

const SCRIPT = fileURLToPath(new URL('../scripts/run-tests.cjs', import.meta.url));
const CASES = `
  test('passes (as it should)', async (t) => { t.ok(true); });
  test('fails', async (t) => { t.ok(false, 'far', { error: 0.5, tolerance: 0.1 }); t.ok(true); });
  test('loses the GPU', async () => {
    throw Object.assign(new Error('an illegal address; the GPU can do nothing more'), { code: 'ENGINE_LOST' });
  });
  test('needs the GPU', async (t) => { t.ok(process.env.TAP_GREP, 'in a process of its own'); });
  test('crashes', async () => { process.kill(process.pid, 'SIGSEGV'); await new Promise(() => setTimeout(() => 0, 9e3)); });
  test('hangs', async () => { await new Promise(() => setInterval(() => 0, 1e3)); });
  test('is skipped', { skip: 'no reason' }, async () => {});
  test('passes after all', async (t) => { t.ok(true); });
`;

t.test('files that run at once are told of one after another, and share the processors', async (t) => {
  const meet = (mine: string, other: string) => `import tap from 'tap'; import fs from 'node:fs';
    tap.test('meets ${other}', async (t) => {
      fs.writeFileSync(new URL('./${mine}', import.meta.url), process.env.OMP_NUM_THREADS ?? '');
      const there = new URL('./${other}', import.meta.url);
      for (let i = 0; i < 200 && !fs.existsSync(there); i++) await new Promise((resolve) => setTimeout(resolve, 50));
      t.ok(fs.existsSync(there), 'the other file runs now');
    });\n`;
  const folder = t.testdir({ a: { 'b.test.js': meet('b', 'c'), 'c.test.js': meet('c', 'b') } });
  const { TAP_CHILD_ID: _, TAP: __, OMP_NUM_THREADS: ___, ...env } = process.env;
  const run = (jobs: string) => {
    const parameters = [SCRIPT, '--jobs', jobs, '--out', join(folder, 'out'), join(folder, 'a')];
    return spawnSync(process.execPath, parameters, { encoding: 'utf8', env });
  };
  const { status, stdout } = run('2');
  t.equal(status, 0, stdout);
  t.match(stdout, /2 tests passed, 0 failed/);
  t.equal(Number(readFileSync(join(folder, 'a/b'), 'utf8')), Math.max(1, availableParallelism() >> 1));
  const { results } = JSON.parse(readFileSync(join(folder, 'out/tests.json'), 'utf8')) as {
    results: { file: string }[];
  };
  t.strictSame(
    results.map(({ file }) => basename(file)),
    ['b.test.js', 'c.test.js'],
  );
  t.match(run('0').stderr, /--jobs must be a whole number of at least 1, got 0/);
});

t.test('a failed, crashed, hung or poisoned test has its name and hides no other', async (t) => {
  const folder = t.testdir({
    a: {
      'cases.test.js': `import tap from 'tap';\nconst test = tap.test.bind(tap);\n${CASES}`,
      'load.test.js': "throw new TypeError('no such thing');\n",
    },
  });
  const out = join(folder, 'out');
  const { TAP_CHILD_ID: _, TAP: __, ...env } = process.env;
  const parameters = [SCRIPT, '--stall', '4', '--out', out, join(folder, 'a')];
  const { status, stdout } = spawnSync(process.execPath, parameters, { encoding: 'utf8', env });
  t.equal(status, 1);
  const said = stdout.replaceAll(/[^ ]*\/(\w+)\.test\.js/g, '$1').replaceAll(/\d+\.\d s$/gm, 'TIME');
  t.strictSame(said.trimEnd().split('\n'), [
    'FAILED  cases  3 of 8 tests passed  TIME',
    '    skipped: no reason',
    '    fails',
    '        far: error: 0.5, tolerance: 0.1',
    '    loses the GPU',
    '        an illegal address; the GPU can do nothing more',
    '    crashes',
    '        ended by SIGSEGV',
    '    hangs',
    '        nothing happened for 4 s: ended',
    'FAILED  load  0 of 1 tests passed  TIME',
    '    the file itself',
    '        ended with 1 TypeError: no such thing',
    '',
    '3 tests passed, 5 failed, 1 skipped',
    '  failed: cases: fails',
    '  failed: cases: loses the GPU',
    '  failed: cases: crashes',
    '  failed: cases: hangs',
    '  failed: load: the file itself',
  ]);
  const { results } = JSON.parse(readFileSync(join(out, 'tests.json'), 'utf8')) as {
    results: { tests: { name: string; status: string }[] }[];
  };
  t.match(results[0]!.tests[0], { name: 'passes (as it should)', status: 'ok' });
  t.equal(results[0]!.tests.length, 8);
  t.match(readFileSync(join(out, 'cases.tap'), 'utf8'), /not ok 1 - far/);
});
