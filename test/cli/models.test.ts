import { spawn } from 'node:child_process';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { close } from '../helpers/close.js';
import { cream, jsonLines, plainEnvironment, PROGRAM, writeLlama } from '../helpers/cream.js';
import { type GoldenArray, readGolden, toFloats } from '../helpers/golden.js';

// The commands that load a model, on a Llama of 30,816 random parameters whose answers transformers computed.

interface Golden {
  score: { groups: { promptIds: number[]; responses: number[][] }[]; tokenLogprobs: GoldenArray[][] };
  greedy: { promptIds: number[]; ids: number[]; logprobs: GoldenArray };
}
const golden = readGolden<Golden>('model-llama');
const sums = golden.score.tokenLogprobs.map((group) =>
  group.map((tokens) => toFloats(tokens).reduce((sum, logprob) => sum + logprob, 0)),
);

const cwd = t.testdir();
const model = join(cwd, 'model');
const file = (name: string) => join(cwd, name);
const write = (name: string, rows: readonly object[]) =>
  writeFile(file(name), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
const read = async <T>(name: string) => jsonLines<T>(await readFile(file(name), 'utf8'));

interface Generated {
  promptId: string;
  sample: number;
  text: string;
  ids: number[];
  logprobs: number[];
  finishReason: string;
}
interface Scored {
  id: string;
  note?: string;
  promptIds: number[];
  logprobs: number[];
  numTokens: number[];
  tokenLogprobs?: number[][];
  baseLogprobs?: number[];
  rewards?: number[];
  previousLogprobs?: number[];
  previousRewards?: number[];
}

t.before(async () => {
  await writeLlama(model);
  // Another model of the same shape, for base and previous policy.
  await write('sft.jsonl', [
    { prompt: 'abc', completion: 'def' },
    {
      messages: [
        { role: 'user', content: 'hi' },
        { role: 'assistant', content: 'there' },
      ],
    },
  ]);
  const options = [
    '--epochs',
    '2',
    '--learning-rate',
    '0.01',
    '--batch-size',
    '2',
    '--metrics',
    'metrics.jsonl',
  ];
  const made = await cream(['sft', '-m', 'model', '-i', 'sft.jsonl', '-o', 'other', ...options], { cwd });
  if (made.code !== 0) throw new Error(made.stderr);
  await write(
    'groups.jsonl',
    golden.score.groups.map(({ promptIds, responses }, i) => ({
      id: `g${i}`,
      note: 'kept',
      promptIds,
      responses: responses.map((ids) => ({ ids })),
    })),
  );
});

t.test('generate continues greedily as transformers does', async (t) => {
  await write('prompt.jsonl', [{ id: 'golden', promptIds: golden.greedy.promptIds }]);
  const length = String(golden.greedy.ids.length);
  const line = [
    'generate',
    '-m',
    'model',
    '-i',
    'prompt.jsonl',
    '--temperature',
    '0',
    '--max-new-tokens',
    length,
  ];
  const { code, stdout, stderr } = await cream([...line, '--json'], { cwd });
  t.equal(code, 0, stderr);
  const [response, ...others] = jsonLines<Generated>(stdout);
  t.equal(others.length, 0);
  t.strictSame(Object.keys(response!), ['promptId', 'sample', 'text', 'ids', 'logprobs', 'finishReason']);
  t.equal(response!.promptId, 'golden');
  t.strictSame(response!.ids, golden.greedy.ids);
  close(t, response!.logprobs, toFloats(golden.greedy.logprobs), { atol: 1e-4 });
  t.equal(response!.finishReason, 'length');
  const text = await cream(line, { cwd });
  t.equal(text.stdout, `${response!.text}\n`, 'the text alone without --json');
});

t.test('generate gives every sample of every prompt in order, and a seed gives the same bits', async (t) => {
  await write('prompts.jsonl', [
    { id: 'a', prompt: 'abc' },
    { id: 'b', messages: [{ role: 'user', content: 'hi' }] },
  ]);
  const line = ['generate', '-m', 'model', '-n', '3', '--max-new-tokens', '6', '--json', '-q'];
  const [one, two, otherSeed, alone] = await Promise.all([
    cream([...line, '-i', 'prompts.jsonl', '--seed', '18446744073709551615'], { cwd }),
    cream([...line, '-i', '-', '--seed', '18446744073709551615', '-o', 'responses.jsonl'], {
      cwd,
      stdin: await readFile(file('prompts.jsonl'), 'utf8'),
    }),
    cream([...line, '-i', 'prompts.jsonl', '--seed', '1'], { cwd }),
    cream([...line, '-p', 'abc', '--seed', '1'], { cwd }),
  ]);
  t.equal(one.code, 0, one.stderr);
  t.equal(one.stderr, '');
  t.strictSame(
    jsonLines<Generated>(one.stdout).map(({ promptId, sample }) => `${promptId}${sample}`),
    ['a0', 'a1', 'a2', 'b0', 'b1', 'b2'],
  );
  t.equal(two.stdout, '');
  t.equal(await readFile(file('responses.jsonl'), 'utf8'), one.stdout, 'a file holds what the pipe gets');
  t.not(otherSeed.stdout, one.stdout);
  t.equal(jsonLines(alone.stdout).length, 3);
});

t.test(
  'generate: an empty prompt is BOS alone, --chat is the template, sampling settings come from the model',
  async (t) => {
    const greedy = ['--temperature', '0', '--max-new-tokens', '5', '--json'];
    await write('ids.jsonl', [
      { id: 'bos', promptIds: [1] },
      { id: 'turn', messages: [{ role: 'user', content: 'abc' }] },
    ]);
    const [empty, chat, given] = await Promise.all([
      cream(['generate', '-m', 'model', '-p', '', ...greedy], { cwd }),
      cream(['generate', '-m', 'model', '-p', 'abc', '--chat', ...greedy], { cwd }),
      cream(['generate', '-m', 'model', '-i', 'ids.jsonl', ...greedy], { cwd }),
    ]);
    const ids = (outcome: { stdout: string }) =>
      jsonLines<Generated>(outcome.stdout).map((response) => response.ids);
    t.strictSame([...ids(empty), ...ids(chat)], ids(given));

    const tuned = await writeLlama(file('tuned'));
    await writeFile(
      join(tuned, 'generation_config.json'),
      '{"do_sample": false, "max_new_tokens": 4, "eos_token_id": 2}',
    );
    const byConfig = await cream(['generate', '-m', 'tuned', '-p', 'abc', '--json'], { cwd });
    const byFlags = await cream(
      ['generate', '-m', 'model', '-p', 'abc', '--json', '--temperature', '0', '--max-new-tokens', '4'],
      { cwd },
    );
    t.equal(byConfig.stdout, byFlags.stdout);
  },
);

t.test('generate ends quietly when its reader goes away', async (t) => {
  const child = spawn(
    process.execPath,
    [PROGRAM, 'generate', '-m', model, '-p', 'a', '-n', '3000', '--max-new-tokens', '30', '-q', '--json'],
    { env: plainEnvironment(), stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  child.stdout.once('data', () => child.stdout.destroy());
  const code = await new Promise((resolve) => child.once('close', resolve));
  t.equal(code, 0);
  t.equal(stderr, '');
});

t.test('score gives the log-probs of transformers and keeps the rows', async (t) => {
  const { code, stdout, stderr } = await cream(
    ['score', '-m', 'model', '-i', 'groups.jsonl', '--per-token', '-q'],
    { cwd },
  );
  t.equal(code, 0, stderr);
  const rows = jsonLines<Scored>(stdout);
  t.strictSame(
    rows.map(({ id, note }) => [id, note]),
    golden.score.groups.map((_, i) => [`g${i}`, 'kept']),
  );
  for (const [i, row] of rows.entries()) {
    close(t, row.logprobs, sums[i]!, { rtol: 1e-5, atol: 1e-3 }, `g${i}`);
    t.strictSame(
      row.numTokens,
      golden.score.groups[i]!.responses.map(({ length }) => length),
    );
    for (const [r, tokens] of row.tokenLogprobs!.entries()) {
      close(t, tokens, toFloats(golden.score.tokenLogprobs[i]![r]!), { atol: 1e-4 }, `g${i}, response ${r}`);
    }
    t.equal(row.rewards, undefined, 'no rewards without a base');
  }
});

t.test(
  'score: text is its own tokens; the stop token comes on request; ids are used as they are',
  async (t) => {
    // One token a character: space is 3, "a" is 3 + 97 - 32.
    const a = 3 + 97 - 32;
    await write('texts.jsonl', [
      { id: 'text', prompt: 'abc', responses: ['ab', { text: 'b' }, ''] },
      { id: 'ids', promptIds: [1, a, a + 1, a + 2], responses: [{ ids: [a, a + 1] }, [a + 1], { ids: [] }] },
      {
        id: 'inside',
        prompt: { promptIds: [1, a, a + 1, a + 2] },
        responses: [{ ids: [a, a + 1, 2] }, { ids: [a + 1, 2] }, { ids: [2] }],
      },
    ]);
    const [plain, stopped] = await Promise.all([
      cream(['score', '-m', 'model', '-i', 'texts.jsonl', '-q'], { cwd }),
      cream(['score', '-m', 'model', '-i', 'texts.jsonl', '-q', '--append-stop'], { cwd }),
    ]);
    t.equal(plain.code, 0, plain.stderr);
    const [text, ids, inside] = jsonLines<Scored>(plain.stdout);
    t.strictSame(text!.logprobs, ids!.logprobs);
    t.strictSame(text!.promptIds, ids!.promptIds);
    t.strictSame(text!.numTokens, [2, 1, 0]);
    t.equal(text!.logprobs[2], 0, 'a response without tokens');
    t.strictSame(jsonLines<Scored>(stopped.stdout)[0]!.logprobs, inside!.logprobs);
  },
);

t.test('score: rewards against a base, and what the previous policy ranks by', async (t) => {
  const line = ['score', '-m', 'other', '-i', 'groups.jsonl', '-q'];
  const run = async (...options: string[]) => {
    const { code, stdout, stderr } = await cream([...line, ...options], { cwd });
    t.equal(code, 0, stderr);
    return jsonLines<Scored>(stdout);
  };
  const [base, first, likelihood, anchor] = await Promise.all([
    run('--base', 'model', '--beta', '0.5'),
    run('--base', 'model', '--previous', 'model'),
    run('--previous', 'model'),
    run('--base', 'model', '--previous', 'other', '--previous-reward', 'anchor', '--length-normalize'),
  ]);
  for (const [i, row] of base.entries()) {
    close(t, row.baseLogprobs!, sums[i]!, { rtol: 1e-5, atol: 1e-3 });
    close(
      t,
      row.rewards!,
      row.logprobs.map((sum, r) => 0.5 * (sum - row.baseLogprobs![r]!)),
      { atol: 1e-12 },
    );
    t.equal(row.previousRewards, undefined);

    const perToken = row.baseLogprobs!.map((sum, r) => sum / row.numTokens[r]!);
    close(
      t,
      first[i]!.rewards!,
      row.rewards!.map((reward) => reward / 5),
      { atol: 1e-12 },
      'beta 0.1 is the default',
    );
    close(t, first[i]!.previousRewards!, perToken, { atol: 1e-12 }, 'M0 ranks by likelihood per token');
    close(t, likelihood[i]!.previousRewards!, perToken, { atol: 1e-12 });
    t.equal(likelihood[i]!.rewards, undefined);
    close(t, anchor[i]!.previousRewards!, perToken, { atol: 1e-12 });
    close(
      t,
      anchor[i]!.rewards!,
      first[i]!.rewards!.map((reward, r) => reward / row.numTokens[r]!),
      { atol: 1e-12 },
    );
  }
  const withoutBase = await cream([...line, '--beta', '0.5'], { cwd });
  t.equal(withoutBase.code, 2);
  t.match(withoutBase.stderr, '--beta has no effect without --base');
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
  const scores = await read<Scored>('scores.jsonl');
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

t.test('what cannot be used is refused by name, with its exit code, and leaves nothing behind', async (t) => {
  await write('one.jsonl', [{ prompt: 'abc', responses: ['x'] }]);
  await write('unknown-id.jsonl', [{ promptIds: [1, 131], responses: [{ ids: [4] }] }]);
  await write('long.jsonl', [{ prompt: 'a'.repeat(200) }]);
  await mkdir(file('empty-model'));
  const cases: readonly (readonly [line: string, code: number, said: RegExp])[] = [
    ['generate -m nowhere -p x', 4, /nowhere.*\[INVALID_CHECKPOINT\]/],
    ['generate -m empty-model -p x', 4, /empty-model.*\[INVALID_CHECKPOINT\]/],
    ['generate -m model', 2, /use --prompt TEXT or --input FILE/],
    ['generate -m model -p x -i one.jsonl', 2, /--prompt and --input are both given/],
    ['generate -m model -p x --device tpu', 2, /tpu/],
    ['generate -m model -p x --max-new-tokens 1000', 2, /1000|128/],
    ['generate -m model -i long.jsonl', 4, /201 tokens; the model's context of 128/],
    ['score -m model -i unknown-id.jsonl', 4, /131 is not a token id/],
    ['score -m model -i nothing.jsonl', 4, /nothing\.jsonl: no such file/],
    ['score -m model --base nowhere -i one.jsonl -o scored.jsonl', 4, /nowhere/],
    ['score -m model -i long.jsonl', 4, /long\.jsonl:1: responses must be a list/],
    ['train -m model -i one.jsonl -o new', 4, /one\.jsonl:1: .*chosen, rejected/],
  ];
  const outcomes = await Promise.all(cases.map(([line]) => cream(line.split(' '), { cwd })));
  for (const [i, [line, code, said]] of cases.entries()) {
    const outcome = outcomes[i]!;
    t.equal(outcome.code, code, `${line}: ${outcome.stderr}`);
    t.match(outcome.stderr, said, line);
    t.match(outcome.stderr, /^error: [^\n]*\n$/, `one line: ${line}`);
    t.equal(outcome.stdout, '', line);
  }
  const left = await readdir(cwd);
  t.notOk(
    left.some((name) => name === 'new' || name === 'scored.jsonl' || name.startsWith('.tmp')),
    left.join(' '),
  );
});

t.test('--dtype and --threads are taken by every command that loads a model', async (t) => {
  const line = ['score', '-m', 'model', '-i', 'groups.jsonl', '-q'];
  const [float32, bfloat16] = await Promise.all([
    cream([...line, '--threads', '1', '--device', 'cpu', '--dtype', 'float32'], { cwd }),
    cream([...line, '--threads', '1', '--dtype', 'bfloat16'], { cwd }),
  ]);
  const [exact, rounded] = [float32, bfloat16].map(({ stdout }) => jsonLines<Scored>(stdout)[0]!.logprobs);
  t.notSame(exact, rounded);
  // 8 bits of precision and a dozen tokens of about 6 nats.
  close(t, rounded!, exact!, { rtol: 0.05, atol: 0.5 });
});

t.test('inspect tells about a model and a data file without loading weights', async (t) => {
  const [folder, data, wrong] = await Promise.all([
    cream(['inspect', 'model', 'model', '--json'], { cwd }),
    cream(['inspect', 'data', 'sft.jsonl', '--json'], { cwd }),
    cream(['inspect', 'gpu', 'x'], { cwd }),
  ]);
  t.match(JSON.parse(folder.stdout), {
    model_type: 'llama',
    vocab_size: 131,
    bos_id: 1,
    stop_ids: [2],
    chat_template: true,
  });
  t.match(JSON.parse(data.stdout), { rows: 2, usableAs: ['prompts', 'sft'] });
  t.equal(wrong.code, 2);
});

t.test('doctor finds the engine and its self-check passes', async (t) => {
  const { code, stdout, stderr } = await cream(['doctor', '--json'], { cwd });
  t.equal(code, 0, stderr);
  const { usable, findings } = JSON.parse(stdout) as {
    usable: boolean;
    findings: { name: string; status: string }[];
  };
  t.ok(usable);
  t.match(
    findings.find(({ name }) => name === 'self-check'),
    { status: 'ok' },
  );
});
