import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { close } from '../helpers/close.js';
import { cream, jsonLines, trainOther, writeLlama } from '../helpers/cream.js';

// The stages of an iteration as commands, on a Llama of 30,816 random parameters.

const cwd = t.testdir();
const model = join(cwd, 'model');
const file = (name: string) => join(cwd, name);
const write = (name: string, rows: readonly object[]) =>
  writeFile(file(name), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
const read = async <T>(name: string) => jsonLines<T>(await readFile(file(name), 'utf8'));

t.before(async () => {
  await writeLlama(model);
  await trainOther(cwd);
});

t.test('sample, score, rank, pair and train make an iteration, through files and pipes', async (t) => {
  await write(
    'prompts4.jsonl',
    ['abc', 'hello', 'x', 'zz'].map((prompt, i) => ({ id: `p${i}`, prompt, label: 'l' })),
  );
  const options = ['-n', '4', '--max-new-tokens', '8', '--temperature', '1', '--seed', '5'];
  const sampled = await cream(
    ['sample', '-m', 'other', '-i', 'prompts4.jsonl', '-o', 'samples.jsonl', ...options],
    { cwd },
  );
  t.equal(sampled.code, 0, sampled.stderr);
  const groups = await read<{
    id: string;
    label: string;
    promptIds: number[];
    responses: { ids: number[]; samplerLogprob: number }[];
  }>('samples.jsonl');
  t.strictSame(
    groups.map(({ id, label, responses }) => [id, label, responses.length]),
    [0, 1, 2, 3].map((i) => [`p${i}`, 'l', 4]),
  );

  const scored = await cream(
    [
      'score',
      '-m',
      'other',
      '--base',
      'model',
      '--previous',
      'model',
      '-i',
      'samples.jsonl',
      '-o',
      'scores.jsonl',
    ],
    { cwd },
  );
  t.equal(scored.code, 0, scored.stderr);
  const scores = await read<{ logprobs: number[] }>('scores.jsonl');
  for (const [i, { logprobs }] of scores.entries()) {
    close(
      t,
      logprobs,
      groups[i]!.responses.map(({ samplerLogprob }) => samplerLogprob),
      { rtol: 1e-5, atol: 1e-3 },
      'as sampled',
    );
  }
  const ranked = await cream(['rank', '-i', 'scores.jsonl'], { cwd });
  const paired = await cream(['pair', '-i', '-', '-o', 'pairs.jsonl'], { cwd, stdin: ranked.stdout });
  t.equal(paired.code, 0, paired.stderr);

  const trained = await cream(
    [
      'train',
      '-m',
      'other',
      '-i',
      'pairs.jsonl',
      '-o',
      'trained',
      '--json',
      '--learning-rate',
      '1e-3',
      '--batch-size',
      '4',
      '--epochs',
      '2',
      '--metrics',
      'train.jsonl',
    ],
    { cwd },
  );
  t.equal(trained.code, 0, trained.stderr);
  const result = JSON.parse(trained.stdout) as { output: string; steps: number; examples: number };
  t.strictSame([result.output, result.steps], ['trained', 2]);
  const steps = await read<{ loss: number; 'rewards/margins': number }>('train.jsonl');
  t.ok(Math.abs(steps[0]!.loss - Math.LN2) < 1e-5, `the first loss is log 2, got ${steps[0]!.loss}`);
  t.ok(steps[1]!['rewards/margins'] !== 0, 'the second step sees a changed policy');
  t.strictSame(
    (await readdir(file('trained'))).sort(),
    (await readdir(model)).sort(),
    'a complete model folder',
  );
  const generated = await cream(['generate', '-m', 'trained', '-p', 'abc', '--max-new-tokens', '3'], { cwd });
  t.equal(generated.code, 0, generated.stderr);
});

t.test('sft trains on the response tokens, says what it did and does not replace a folder', async (t) => {
  const steps = await read<{ step: number; loss: number; 'cream/tokens': number }>('metrics.jsonl');
  t.strictSame(
    steps.map(({ step }) => step),
    [1, 2],
  );
  // "def" and "there" with their stop tokens; messages go through the chat template.
  t.equal(steps[0]!['cream/tokens'], 4 + 6);
  t.ok(steps[1]!.loss < steps[0]!.loss);
  const again = await cream(['sft', '-m', 'model', '-i', 'sft.jsonl', '-o', 'other'], { cwd });
  t.equal(again.code, 2);
  t.match(again.stderr, 'other has content already');
  const self = await cream(['sft', '-m', 'model', '-i', 'sft.jsonl', '-o', './model/', '--force'], { cwd });
  t.equal(self.code, 2);
  t.match(self.stderr, 'is the model to start from');
  await mkdir(file('empty'));
  const forced = await cream(
    ['sft', '-m', 'model', '-i', 'sft.jsonl', '-o', 'empty', '-q', '--epochs', '1'],
    { cwd },
  );
  t.equal(forced.code, 0, forced.stderr);
  t.equal(forced.stderr, '');
});

t.test("train takes TRL's rows: references from the starting model, weight 1 with a note", async (t) => {
  await write('trl.jsonl', [
    { prompt: 'abc', chosen: 'def', rejected: 'xyz' },
    {
      prompt: [{ role: 'user', content: 'hi' }],
      chosen: [{ role: 'assistant', content: 'yes' }],
      rejected: [{ role: 'assistant', content: 'no' }],
    },
  ]);
  const { code, stderr } = await cream(
    ['train', '-m', 'model', '-i', 'trl.jsonl', '-o', 'dpo', '--metrics', 'dpo.jsonl'],
    { cwd },
  );
  t.equal(code, 0, stderr);
  t.match(stderr, '2 of 2 pairs have no weight or consistency: 1 is taken (plain DPO)');
  const [first] = await read<{ loss: number }>('dpo.jsonl');
  t.ok(Math.abs(first!.loss - Math.LN2) < 1e-5);
  // References that are not those of the model: the run must stop, and nothing is written.
  await write('stale.jsonl', [
    {
      prompt: 'abc',
      chosen: 'def',
      rejected: 'xyz',
      referenceChosenLogprob: -500,
      referenceRejectedLogprob: -1,
    },
  ]);
  const stale = await cream(['train', '-m', 'model', '-i', 'stale.jsonl', '-o', 'never'], { cwd });
  t.equal(stale.code, 5, stale.stderr);
  t.match(stale.stderr, '[DIVERGED]');
  await t.rejects(readdir(file('never')));
});

t.test('train starts where the length term and the agreement term say', async (t) => {
  const pair = { prompt: 'abc', chosen: 'defgh', rejected: 'xyz' };
  const judged = { ...pair, judgeMargin: 2, baseChosenLogprob: -30, baseRejectedLogprob: -20 };
  await write('judged.jsonl', [judged]);
  await write('unjudged.jsonl', [pair]);
  const terms = ['--agreement-coefficient', '0.5', '--agreement-entropy', '0.1'];
  const run = (input: string, output: string, ...options: string[]) =>
    cream(['train', '-m', 'model', '-i', input, '-o', output, '--metrics', `${output}.jsonl`, ...options], {
      cwd,
    });
  // The first step is checked against the pairs' own numbers: a wrong margin or length would end in DIVERGED.
  const [both, longer, missing, hinge] = await Promise.all([
    run('judged.jsonl', 'agreed', '--length-term', '0.2', ...terms),
    run('unjudged.jsonl', 'longer', '--length-term', '0.2'),
    run('unjudged.jsonl', 'none', ...terms),
    run('unjudged.jsonl', 'none', '--length-term', '0.2', '--loss', 'hinge'),
  ]);
  t.equal(both.code, 0, both.stderr);
  t.equal(longer.code, 0, longer.stderr);
  const loss = async (name: string) => (await read<{ loss: number }>(`${name}.jsonl`))[0]!.loss;
  t.ok((await loss('longer')) < Math.LN2, 'C = 1 and a longer chosen response: below log 2');
  t.ok((await loss('agreed')) > (await loss('longer')));
  t.match(missing.stderr, 'has no judgeMargin');
  t.equal(hinge.code, 2, hinge.stderr);
});

t.test('evaluate measures accuracy with its interval', async (t) => {
  await write('task.jsonl', [
    { id: 'q1', question: 'One?', choices: { A: 'x', B: 'y' }, label: 'A' },
    { id: 'q2', question: 'Two?', label: '2' },
  ]);
  const line = ['evaluate', '-m', 'model', '--task', 'task.jsonl', '--max-new-tokens', '4', '--chat'];
  const json = await cream(
    [...line.slice(0, -1), '--json', '-o', 'answers.jsonl', '--limit', '1', '--max-new-tokens', '2'],
    { cwd },
  );
  t.equal(json.code, 2, 'an option given twice is refused');
  const limited = await cream(
    [
      'evaluate',
      '-m',
      'model',
      '--task',
      'task.jsonl',
      '--max-new-tokens',
      '2',
      '--json',
      '-o',
      'answers.jsonl',
      '--limit',
      '1',
      '--extract',
      'exact',
    ],
    { cwd },
  );
  t.equal(limited.code, 0, limited.stderr);
  const result = JSON.parse(limited.stdout) as { accuracy: number; total: number; interval: number[] };
  t.equal(result.total, 1);
  close(t, result.interval, [0, 0.7934506856227626], { atol: 1e-12 }, "Wilson's interval of 0 of 1");
  const [answer] = await read<{ id: string; greedy: { correct: boolean } }>('answers.jsonl');
  t.match(answer, { id: 'q1', greedy: { correct: false } });
});
