import { spawn } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { openSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { Interrupt, STOP_SIGNALS } from '../../lib/cli/interrupt.js';
import { cream, type Outcome, plainEnvironment, PROGRAM, writeLlama } from '../helpers/cream.js';

// What ends a command early, and what is kept of its work.

const cwd = t.testdir();
const rows = (list: readonly object[]) => list.map((row) => `${JSON.stringify(row)}\n`).join('');
/** More than a pipe holds. */
const many = (row: object) => `${JSON.stringify(row)}\n`.repeat(20_000);

t.before(async () => {
  await writeLlama(join(cwd, 'model'));
  await mkdir(join(cwd, 'data'));
  const words = ['abc', 'hello', 'x', 'zz'];
  await writeFile(join(cwd, 'data', 'prompts.jsonl'), rows(words.map((prompt) => ({ prompt }))));
  await writeFile(join(cwd, 'sft.jsonl'), rows(words.map((prompt) => ({ prompt, completion: 'ok' }))));
  await writeFile(
    join(cwd, 'run.yaml'),
    `model: model
iterations: 1
threads: 1
data: { prompts: data/prompts.jsonl, sft: sft.jsonl, chat: false }
sft: { epochs: 20000, batchSize: 4, checkpointEverySteps: 100000 }
sampling: { n: 3, maxNewTokens: 6, temperature: 1 }
`,
  );
});

interface Started {
  kill: (signal: NodeJS.Signals) => void;
  /** Resolves when standard output or standard error holds this. */
  says: (what: RegExp) => Promise<void>;
  /** Writes to its standard input and resolves when it has read most of it: by then it handles signals. */
  reads: (text: string) => Promise<void>;
  ended: Promise<Outcome>;
}

function start(args: readonly string[], stdin: 'pipe' | number = 'pipe'): Started {
  const child = spawn(process.execPath, [PROGRAM, ...args], {
    cwd,
    env: plainEnvironment(),
    stdio: [stdin, 'pipe', 'pipe'],
  });
  const outcome: Outcome = { code: null, stdout: '', stderr: '' };
  child.stdout!.on('data', (chunk: Buffer) => (outcome.stdout += chunk.toString()));
  child.stderr!.on('data', (chunk: Buffer) => (outcome.stderr += chunk.toString()));
  const ended = new Promise<Outcome>((resolve) =>
    child.once('close', (code) => resolve({ ...outcome, code })),
  );
  return {
    kill: (signal) => child.kill(signal),
    says: async (what) => {
      while (!what.test(outcome.stdout) && !what.test(outcome.stderr) && child.exitCode === null)
        await sleep(10);
    },
    reads: (text) => new Promise((resolve) => child.stdin!.write(text, () => resolve())),
    ended,
  };
}

const STEP = /"type":"metrics","stage":"sft"/;
const run = (output: string) => ['run', 'run.yaml', '--json', '--output', output];
const checkpoints = async (output: string) =>
  (await readdir(join(cwd, output, 'sft.partial')).catch(() => [])).filter((name) =>
    name.startsWith('step-'),
  );

async function isSaved(t: Test, output: string, { code, stderr }: Outcome): Promise<void> {
  t.equal(code, 130, `${output}: ${stderr}`);
  t.equal((await checkpoints(output)).length, 1, `${output} can be continued from a step`);
  t.match(stderr, /^interrupted: the run was interrupted after step \d+ of 20000$/m);
}

t.test('a stop request is one, however often and by whatever signal it is sent', async (t) => {
  const sent: [name: string, signals: [gapMs: number, signal: NodeJS.Signals][]][] = [
    [
      'twice',
      [
        [0, 'SIGTERM'],
        [20, 'SIGTERM'],
        [100, 'SIGTERM'],
      ],
    ],
    // Each of these ends a process that does not handle it.
    ['each', [...STOP_SIGNALS, 'SIGINT' as const, 'SIGINT' as const].map((signal) => [5, signal])],
  ];
  for (const [name, signals] of sent) {
    const started = start(run(name));
    await started.says(STEP);
    for (const [gapMs, signal] of signals) {
      await sleep(gapMs);
      started.kill(signal);
    }
    await isSaved(t, name, await started.ended);
  }
});

t.test('nohup keeps its word: a hang-up does not stop the run', async (t) => {
  // What nohup makes of an input that is a terminal.
  const started = start(run('nohup'), openSync('/dev/null', 'w'));
  await started.says(STEP);
  started.kill('SIGHUP');
  await sleep(200);
  t.equal((await checkpoints('nohup')).length, 0);
  started.kill('SIGTERM');
  await isSaved(t, 'nohup', await started.ended);
});

t.test('only a second Ctrl-C of a person leaves at once, and says that nothing was saved', async (t) => {
  let [stops, leaves] = [0, 0];
  const source = new EventEmitter();
  const interrupt = new Interrupt({ onStop: () => (stops += 1), onLeave: () => (leaves += 1) }, source);
  const press = () => source.emit('SIGINT');
  for (const name of STOP_SIGNALS) source.emit(name);
  t.strictSame([stops, leaves, interrupt.signal.aborted, interrupt.isByReader], [1, 0, true, false]);
  press();
  press(); // the launcher's copy of the same press
  t.strictSame([stops, leaves], [2, 0]);
  await sleep(600);
  source.emit('SIGTERM');
  t.equal(leaves, 0, 'batch systems do not press keys');
  press();
  t.equal(leaves, 1);

  // Nothing to read and nobody who writes: the first press ends it, and it says what was kept.
  const reading = start(['rank', '-i', '-', '-o', 'ranks.jsonl']);
  await reading.reads(many({ rewards: [1, 2], previousRewards: [1, 2] }));
  reading.kill('SIGINT');
  const outcome = await reading.ended;
  t.equal(outcome.code, 1, 'not 130: there is nothing to go on from');
  t.match(outcome.stderr, /^stopping; Ctrl-C again stops at once\ninterrupted: nothing was saved\n$/);
  const trained = start(['sft', '-m', 'model', '-i', '-', '-o', 'new', '--threads', '1']);
  await trained.reads(many({ prompt: 'a', completion: 'b'.repeat(40) }));
  trained.kill('SIGTERM');
  const lost = await trained.ended;
  t.equal(lost.code, 1, lost.stderr);
  t.match(lost.stderr, /^interrupted: nothing was saved$/m);
  await t.rejects(readdir(join(cwd, 'new')));
});

t.test(
  'a run goes on when the reader of its events has gone, and exits with 0 once it is finished',
  async (t) => {
    await writeFile(
      join(cwd, 'short.yaml'),
      (await readFile(join(cwd, 'run.yaml'), 'utf8')).replace('epochs: 20000', 'epochs: 30'),
    );
    for (const events of [0, 2]) {
      const output = `reader-${events}`;
      const child = spawn(process.execPath, [PROGRAM, 'run', 'short.yaml', '--json', '-o', output], {
        cwd,
        env: plainEnvironment(),
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      let [stderr, seen] = ['', 0];
      child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
      if (events === 0) child.stdout.destroy();
      child.stdout.on('data', () => {
        seen += 1;
        if (seen === events) child.stdout.destroy();
      });
      if (events === 2) child.stderr.once('data', () => child.stderr.destroy()); // both have gone
      const code = await new Promise((resolve) => child.once('exit', resolve));
      t.equal(code, 0, stderr);
      t.match(JSON.parse(await readFile(join(cwd, output, 'summary.json'), 'utf8')), {
        iterations: [{ iteration: 1 }],
      });
    }
    // The same for a folder that is trained; a failure stays one.
    const bash = (line: string) =>
      new Promise((resolve) => {
        const env = plainEnvironment({ CREAM: `${process.execPath} ${PROGRAM}` });
        spawn('bash', ['-c', line], { cwd, env, stdio: 'ignore' }).once('exit', resolve);
      });
    const sft = '$CREAM sft -m model -i sft.jsonl --epochs 2 --threads 1 --json -q -o';
    t.equal(await bash(`${sft} made | true; exit \${PIPESTATUS[0]}`), 0);
    t.ok((await readdir(join(cwd, 'made'))).includes('model.safetensors'));
    t.equal(await bash(`${sft} made | true; exit \${PIPESTATUS[0]}`), 2);
    const sample = '$CREAM sample -m model -i data/prompts.jsonl -n 500 --max-new-tokens 8 -q';
    t.equal(
      await bash(`${sample} | head -c 1 > one; exit \${PIPESTATUS[0]}`),
      0,
      'a result that nobody reads',
    );
    const { code } = await cream(['rank', '-i', 'none.jsonl'], { cwd });
    t.equal(code, 4);
  },
);
