import { cpSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { cutResponse } from '../../lib/data/stop-strings.js';
import { cream } from '../helpers/cream.js';

// What decides the length and the tokens of responses: each prompt's own room, the model's generation_config.json,
// penalties on request, stop strings.

const MODEL = join(import.meta.dirname, '..', 'golden', 'checkpoints', 'options');
const CONTEXT = 256;
t.setTimeout(120_000);

interface Line {
  ids: number[];
  finishReason: string;
  text: string;
}
const lines = (text: string) =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Line & { id: string; promptIds: number[]; responses: Line[] });

const FOLDER = t.testdir({});
let files = 0;

/** The lines of one response or more. */
const parsed = (text: string) => lines(text) as unknown as [Line];

function rows(...records: object[]): string {
  files += 1;
  const path = join(FOLDER, `prompts-${files}.jsonl`);
  writeFileSync(path, records.map((record) => `${JSON.stringify(record)}\n`).join(''));
  return path;
}

/** The model with another generation_config.json. */
function modelWith(config: object): string {
  files += 1;
  const folder = join(FOLDER, `model-${files}`);
  cpSync(MODEL, folder, { recursive: true });
  writeFileSync(join(folder, 'generation_config.json'), JSON.stringify(config));
  return folder;
}

const base = ['-m', MODEL, '--threads', '1'];

t.test('a long prompt does not shorten the responses to others', async (t) => {
  const short = { id: 'short', prompt: 'x' };
  const both = rows(short, { id: 'long', promptIds: Array.from({ length: CONTEXT - 6 }, () => 7) });
  const together = lines((await cream(['sample', ...base, '-i', both, '-n', '2'])).stdout);
  const alone = lines((await cream(['sample', ...base, '-i', rows(short), '-n', '2'])).stdout);
  // Log-probs are equal up to the rounding of another batch.
  const ids = (line: (typeof together)[0]) => line.responses.map((response) => response.ids);
  t.strictSame(ids(together[0]!), ids(alone[0]!));
  t.ok(together[0]!.responses.some(({ ids }) => ids.length > 6));
  t.strictSame(
    together[1]!.responses.map(({ ids }) => ids.length),
    [6, 6],
  );
  const generated = lines((await cream(['generate', ...base, '-i', both, '--json'])).stdout);
  t.equal(generated[1]!.ids.length, 6);
});

t.test('a prompt that fills the context is left out, counted and named; none left is an error', async (t) => {
  const long = { id: 'too-long', promptIds: Array.from({ length: CONTEXT }, () => 7) };
  const input = rows({ id: 'fits', prompt: 'x' }, long);
  for (const command of ['sample', 'generate']) {
    const one = ['-n', '1', '--max-new-tokens', '1'];
    const { code, stdout, stderr } = await cream([command, ...base, '-i', input, ...one, '-q']);
    t.equal(code, 0);
    t.equal(stdout.trim().split('\n').length, 1);
    t.match(stderr, /1 of 2 prompts left out: too-long \(256 tokens\): no room .* context of 256/);
    const none = await cream([command, ...base, '-i', rows(long), ...one]);
    t.match(none, { code: 4, stderr: /too-long \(256 tokens\): no room/ });
  }
});

t.test('a problem without room is left out of an evaluation, counted and named', async (t) => {
  const choices = ['left', 'right'];
  const fits = { id: 'fits', question: 'two and', choices, answer: 'A' };
  const long = { id: 'too-long', question: 'cat '.repeat(CONTEXT), choices, answer: 'A' };
  const task = rows(fits, long);
  const args = ['evaluate', ...base, '--max-new-tokens', '1', '--scoring', 'both', '--json'];
  const { code, stdout, stderr } = await cream([...args, '--task', task]);
  t.equal(code, 0);
  t.match(
    stderr,
    /1 of 2 problems left out: too-long \(\d+ tokens\): no room for an answer .* context of 256/,
  );
  t.match(stderr, /1 of 2 problems left out: too-long \(\d+ tokens\): question and option are longer/);
  t.match(JSON.parse(stdout), { greedy: { total: 1 }, acc: { total: 1 }, leftOut: 1 });
  const none = await cream([...args, '--task', rows(long)]);
  t.match(none, { code: 4, stderr: /too-long \(\d+ tokens\): no room for an answer/ });
});

t.test('generation_config.json: penalties are honoured, what is not is named', async (t) => {
  const run = async (config: object, ...options: string[]) => {
    const model = modelWith(config);
    const args = [
      'generate',
      '-m',
      model,
      '--threads',
      '1',
      '-p',
      'two and',
      '--max-new-tokens',
      '40',
      '--json',
    ];
    const { stdout, stderr } = await cream([...args, ...options]);
    const [{ ids, text }] = parsed(stdout);
    return { ids, text, stderr };
  };
  const greedy = { do_sample: false, bos_token_id: 1, transformers_version: '5.24.0', num_beams: 1 };
  const free = await run(greedy);
  t.notMatch(free.stderr, /not honoured/);
  t.ok(new Set(free.ids).size < free.ids.length, 'left alone it repeats tokens');
  const single = await run({ ...greedy, no_repeat_ngram_size: 1 });
  t.equal(new Set(single.ids).size, single.ids.length);
  const suppressed = await run({ ...greedy, suppress_tokens: free.ids.slice(0, 3) });
  t.notOk(suppressed.ids.some((id) => free.ids.slice(0, 3).includes(id)));
  t.match(
    (await run({ ...greedy, repetition_penalty: 1.5 })).ids,
    (await run(greedy, '--repetition-penalty', '1.5')).ids,
  );
  const ignored = await run({ ...greedy, num_beams: 4, typical_p: 0.9, guidance_scale: null });
  t.match(ignored.stderr, /generation_config\.json: not honoured: num_beams: 4, typical_p: 0\.9$/m);
  t.strictSame(ignored.ids, free.ids);
  // One id is forced at the limit; of several transformers draws any, which is not done, and said.
  t.equal((await run({ ...greedy, forced_eos_token_id: [3] })).ids.at(-1), 3);
  const several = await run({ ...greedy, forced_eos_token_id: [3, 5] });
  t.match(several.stderr, /generation_config\.json: not honoured: forced_eos_token_id: \[3,5\]$/m);
  t.strictSame(several.ids, free.ids);
  // min_p cuts what --temperature draws, also where the file itself draws nothing.
  const cut = await run({ ...greedy, min_p: 0.3 }, '--temperature', '2');
  t.strictSame(cut.ids, (await run(greedy, '--temperature', '2', '--min-p', '0.3')).ids);
  t.not(cut.ids.join(), (await run(greedy, '--temperature', '2')).ids.join());
  t.strictSame((await run({ ...greedy, min_p: 0.3 })).ids, free.ids);
  // A response ends before the file's stop strings as before --stop, which takes their place.
  const piece = free.text.trim().slice(3, 7);
  const stopped = await run({ ...greedy, stop_strings: piece });
  t.notMatch(stopped.stderr, /not honoured/);
  t.strictSame(stopped.ids, (await run(greedy, '--stop', piece)).ids);
  t.ok(stopped.ids.length < free.ids.length, `${stopped.ids.length} of ${free.ids.length}`);
  const chosen = await run({ ...greedy, stop_strings: [piece] }, '--stop', 'no such text');
  t.strictSame(chosen.ids, free.ids);
  const wrong = await cream(['generate', '-m', modelWith({ repetition_penalty: -1 }), '-p', 'x']);
  t.match(wrong, { code: 4, stderr: /repetition_penalty is -1; correct it or remove it/ });
});

t.test('penalties on request: generate and sample', async (t) => {
  const input = rows({ id: 'a', prompt: 'two and' });
  const options = ['--no-repeat-ngram-size', '1', '--min-p', '0.01', '--min-new-tokens', '5'];
  const length = ['--max-new-tokens', '30'];
  const [sampled] = lines(
    (await cream(['sample', ...base, '-i', input, '-n', '4', ...length, ...options])).stdout,
  );
  for (const { ids } of sampled!.responses) {
    t.equal(new Set([...ids, ...sampled!.promptIds]).size, ids.length + sampled!.promptIds.length);
    t.ok(ids.length > 5);
  }
  const generated = await cream(['generate', ...base, '-i', input, '--json', ...length, ...options]);
  const [{ ids }] = parsed(generated.stdout);
  t.equal(new Set(ids).size, ids.length);
});

t.test('a response ends with the token that completes a stop string', async (t) => {
  const args = [
    'generate',
    ...base,
    '-p',
    'two and',
    '--temperature',
    '0',
    '--max-new-tokens',
    '30',
    '--json',
  ];
  const [free] = parsed((await cream(args)).stdout);
  const stop = free.text.slice(10, 13);
  const [cut] = parsed((await cream([...args, '--stop', JSON.stringify(['never', stop])])).stdout);
  t.equal(cut.finishReason, 'stop');
  t.equal(cut.text, free.text.slice(0, free.text.indexOf(stop)));
  t.strictSame(cut.ids, free.ids.slice(0, cut.ids.length));
  t.ok(cut.ids.length < free.ids.length);
});

t.test('stop strings across tokens: no token too many, none too few', async (t) => {
  const words = ['Qu', 'estion', ': a', ' b', ' Question', ':', ' c'];
  const decode = (ids: Int32Array) => [...ids].map((id) => words[id]).join('');
  const response = (...ids: number[]) => ({
    ids: Int32Array.from(ids),
    logprobs: Float32Array.from(ids, (id) => -id),
    finishReason: 'length' as const,
  });
  const cases: [number[], string[], number, string, string][] = [
    [[3, 0, 1, 2, 3], ['Question:'], 4, ' b', 'stop'],
    [[0, 1, 2], ['Question:'], 3, '', 'stop'],
    [[3, 4, 5, 6], ['Question:', ' Q'], 2, ' b', 'stop'],
    [[3, 0, 1], ['Question:'], 3, ' bQuestion', 'length'],
    [[3, 6], [], 2, ' b c', 'length'],
  ];
  for (const [ids, stops, length, text, finishReason] of cases) {
    const cut = cutResponse(response(...ids), decode, stops);
    t.strictSame([...cut.ids], ids.slice(0, length));
    t.equal(cut.logprobs.length, length);
    t.match({ text: cut.text, finishReason: cut.finishReason }, { text, finishReason });
  }
});
