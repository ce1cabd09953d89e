import { spawn } from 'node:child_process';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { close } from '../helpers/close.js';
import { cream, jsonLines, plainEnvironment, PROGRAM, trainOther, writeLlama } from '../helpers/cream.js';
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
  await trainOther(cwd);
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
    [PROGRAM, 'generate', '-m', model, '-p', 'a', '-n', '600', '--max-new-tokens', '8', '-q', '--json'],
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
    ['generate -m model -i long.jsonl', 4, /201 tokens\): no room .* context of 128/],
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
