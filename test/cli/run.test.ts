import { spawn } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import type { RunEvent } from '../../lib/run/events.js';
import type { RunSummary } from '../../lib/run/summary.js';
import { cream, jsonLines, type Outcome, plainEnvironment, PROGRAM, writeLlama } from '../helpers/cream.js';

const cwd = t.testdir();
const rows = (list: readonly object[]) => list.map((row) => `${JSON.stringify(row)}\n`).join('');

t.before(async () => {
  await writeLlama(join(cwd, 'model'));
  await mkdir(join(cwd, 'data'));
  const words = ['abc', 'hello', 'x', 'zz', 'one two', 'night', 'day', '?'];
  await writeFile(join(cwd, 'data', 'prompts.jsonl'), rows(words.map((prompt) => ({ prompt }))));
  await writeFile(
    join(cwd, 'data', 'sft.jsonl'),
    rows(words.map((prompt) => ({ prompt, completion: `${prompt}!` }))),
  );
  await writeFile(join(cwd, 'data', 'task.jsonl'), rows([{ question: 'Two?', label: '2' }]));
  await writeFile(
    join(cwd, 'run.yaml'),
    `model: model
iterations: 2
threads: 1
data:
  prompts: data/prompts.jsonl
  sft: data/sft.jsonl
  chat: false
  evaluation: [{ name: task, path: data/task.jsonl }]
sft: { epochs: 1, learningRate: 1.0e-3, batchSize: 4 }
sampling: { n: 3, maxNewTokens: 6, temperature: 1, chunkSize: 2 }
train: { learningRate: 1.0e-3, batchSize: 2, checkpointEverySteps: 1 }
evaluation: { maxNewTokens: 4 }
`,
  );
});

const weights = (folder: string) => readFile(join(cwd, folder, 'iteration-2', 'policy', 'model.safetensors'));

t.test('run goes from M0 to M3 and ends with a table and the next command, which works', async (t) => {
  const { code, stdout, stderr } = await cream(['run', 'run.yaml', '--output', 'first'], { cwd });
  t.equal(code, 0, stderr);
  t.notMatch(stderr, '\u001B', 'no control codes in a pipe');
  t.match(stderr, /^✓ sample 1 M1 /m);
  for (const model of ['M0', 'M1', 'M2', 'M3'])
    t.match(stdout, new RegExp(`^${model} +0\\.000 \\[0\\.00, 0\\.79\\] `, 'm'));
  t.match(stdout, /^model .* C +random C +tau +noise +pairs +margin$/m);
  const next = /^next: cream (.*)$/m.exec(stdout)?.[1];
  t.equal(next, 'generate --model first/iteration-2/policy --input data/prompts.jsonl');
  const generated = await cream([...next!.split(' '), '--max-new-tokens', '2', '-q'], { cwd });
  t.equal(generated.code, 0, generated.stderr);
  const summary = JSON.parse(await readFile(join(cwd, 'first', 'summary.json'), 'utf8')) as RunSummary;
  t.equal(summary.iterations.length, 2);
  const inspected = await cream(['inspect', 'run', 'first'], { cwd });
  t.match(inspected.stdout, /^M3 /m);
});

t.test(
  'run on a finished folder does nothing again; changed settings are refused with their names',
  async (t) => {
    const again = await cream(['run', 'run.yaml', '--output', 'first'], { cwd });
    t.equal(again.code, 0, again.stderr);
    t.match(again.stderr, /^- train 2 M3 +already done/m);
    t.notMatch(again.stderr, '✓');
    const changed = await cream(['run', 'run.yaml', '--output', 'first', 'beta=0.2'], { cwd });
    t.equal(changed.code, 2);
    t.match(changed.stderr, /beta: was 0\.1, is 0\.2/);
    const never = await cream(['run', 'run.yaml', '--output', 'first', '--resume', 'never'], { cwd });
    t.equal(never.code, 2);
    t.match(never.stderr, 'already holds a run');
  },
);

t.test('run --json prints every event as a JSON line and nothing else on standard output', async (t) => {
  const { code, stdout, stderr } = await cream(
    ['run', 'run.yaml', '-o', 'events', 'iterations=1', '--json', '-q'],
    { cwd },
  );
  t.equal(code, 0, stderr);
  const events = jsonLines<RunEvent>(stdout);
  t.match(events[0], { type: 'run', status: 'started' });
  t.match(events.at(-1), { type: 'run', status: 'finished' });
  t.strictSame(
    events.flatMap((event) => (event.type === 'stage' && event.status === 'finished' ? [event.stage] : [])),
    ['evaluate', 'sft', 'evaluate', 'sample', 'score', 'rank', 'pair', 'train', 'evaluate'],
  );
  const summary = events.find((event) => event.type === 'summary');
  t.match(summary, { summary: { iterations: [{ iteration: 1 }] } });
});

/** Starts a run and interrupts it as soon as it prints an event that matches. */
function interrupted(args: readonly string[], when: RegExp): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [PROGRAM, 'run', 'run.yaml', '--json', ...args], {
      cwd,
      env: plainEnvironment(),
    });
    let stdout = '';
    let stderr = '';
    let isSent = false;
    child.stdout.on('data', (chunk: Buffer) => {
      stdout += chunk.toString();
      if (isSent || !when.test(stdout)) return;
      isSent = true;
      child.kill('SIGINT');
    });
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, stdout, stderr }));
  });
}

t.test('Ctrl-C saves and exits with 130; the same command continues to the same bits', async (t) => {
  const expected = await weights('first');
  const moments = [/"stage":"sample"[^\n]*"status":"started"/, /"type":"metrics","stage":"train"/];
  for (const [i, when] of moments.entries()) {
    const output = `stopped-${i}`;
    const stopped = await interrupted(['--output', output], when);
    t.equal(stopped.code, 130, stopped.stderr);
    t.match(stopped.stderr, 'give the same command again');
    t.match(stopped.stderr, /^interrupted/m);
    const continued = await cream(['run', 'run.yaml', '--output', output], { cwd });
    t.equal(continued.code, 0, continued.stderr);
    t.match(continued.stderr, /^continuing in /m);
    t.ok((await weights(output)).equals(expected), String(when));
  }
});

t.test('run refuses what it cannot read, before it makes a folder', async (t) => {
  const cases: readonly (readonly [args: string[], code: number, said: string])[] = [
    [['none.yaml'], 2, 'cannot read none.yaml'],
    [['run.yaml', 'model=nowhere'], 2, 'model: there is no'],
    [['run.yaml', 'samplin.n=3'], 2, 'did you mean sampling?'],
    [['run.yaml', 'sampling.n=1'], 2, 'sampling.n'],
    [['run.yaml', 'sampling.n'], 2, 'an override must be name=value'],
  ];
  for (const [args, code, said] of cases) {
    const outcome = await cream(['run', ...args, '--output', 'refused'], { cwd });
    t.equal(outcome.code, code, `${args.join(' ')}: ${outcome.stderr}`);
    t.ok(outcome.stderr.includes(said), outcome.stderr);
  }
  await t.rejects(readFile(join(cwd, 'refused', 'run.json')));
});
