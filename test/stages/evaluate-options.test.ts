import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { loadTask, type TaskProblem } from '../../lib/data/datasets.js';
import { definitionOf, type TASK_NAMES } from '../../lib/data/task-definitions.js';
import { Tokenizer } from '../../lib/data/tokenizer.js';
import { Model } from '../../lib/native/model.js';
import type { OptionScorer, OptionTokenizer } from '../../lib/option-verdict.js';
import { evaluateOptions } from '../../lib/stages/evaluate-options.js';
import { built } from '../helpers/built.js';
import { close } from '../helpers/close.js';
import { cream } from '../helpers/cream.js';
import { checkpoint, readGolden } from '../helpers/golden.js';

interface GoldenTask {
  rows: object[];
  acc: number;
  acc_norm: number;
  loglikelihoods: number[][];
  each: [number, number][];
}

t.setTimeout(240_000);

const { tasks } = readGolden<{ tasks: Record<string, GoldenTask> }>('options');
const NAMES = { arc_easy: 'arc-easy', openbookqa: 'openbookqa', social_iqa: 'siqa' } as const;

t.test('equals lm-evaluation-harness, with merges across the border of question and option', async (t) => {
  await using model = await Model.load(checkpoint('options'), { threads: 1 });
  const tokenizer = await Tokenizer.load(checkpoint('options'));
  const folder = t.testdir({});
  for (const [golden, name] of Object.entries(NAMES)) {
    const { rows, acc, acc_norm, loglikelihoods, each } = tasks[golden]!;
    const path = join(folder, `${name}.jsonl`);
    writeFileSync(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
    const { records: problems } = await loadTask(path);
    for (const maxTokensPerBatch of [8192, 64]) {
      const found = await evaluateOptions(problems, model, tokenizer, {
        name,
        task: definitionOf(name),
        maxTokensPerBatch,
      });
      for (const [i, { logprobs }] of found.records.entries()) {
        close(t, Object.values(logprobs), loglikelihoods[i]!, { atol: 1e-4 }, `${name} ${i}`);
      }
      t.strictSame(
        found.records.map((record) => [Number(record.acc.correct), Number(record.acc_norm!.correct)]),
        each,
        name,
      );
      t.ok(Math.abs(found.acc.accuracy - acc) < 1e-12);
      t.ok(Math.abs(found.acc_norm.accuracy - acc_norm) < 1e-12);
    }
  }
});

// Characters are tokens; a response's log-prob is what the test says of its text.
const tokenizer: OptionTokenizer = {
  encodeAll: async (texts) => texts.map((text) => Array.from(text, (character) => character.codePointAt(0)!)),
};
const textOf = (ids: readonly number[]) => ids.map((id) => String.fromCodePoint(id)).join('');
const scorer = (logprob: (option: string, context: string) => number, seen: string[] = []): OptionScorer => ({
  score: async (groups) =>
    groups.map(({ promptIds, responses }) => {
      seen.push(textOf(promptIds));
      return { logprobs: responses.map((ids) => logprob(textOf(ids), textOf(promptIds))) };
    }),
});
const problem = (choices: Record<string, string>, label: string, question = 'Q?'): TaskProblem => ({
  id: 'p',
  question,
  choices,
  label,
});
const request = { name: 'mine', maxTokensPerBatch: 64 };

t.test('acc_norm divides by characters, as Python counts them; ties go to the first', async (t) => {
  const choices = { A: 'ab', B: '🫎🫎🫎🫎' };
  const { records } = await evaluateOptions(
    [problem(choices, 'B')],
    scorer((option) => (option === ' ab' ? -6 : -8)),
    tokenizer,
    request,
  );
  // -6 > -8; -6/2 < -8/4, but -6/2 > -8/2 would be -3 > -4 if only one unit of each pair counted.
  t.match(records[0], { acc: { answer: 'A', correct: false }, acc_norm: { answer: 'B', correct: true } });
  const tied = await evaluateOptions(
    [problem({ A: 'x', B: 'y' }, 'B')],
    scorer(() => -1),
    tokenizer,
    request,
  );
  t.match(tied.records[0], { acc: { answer: 'A' }, acc_norm: { answer: 'A' } });
});

t.test('the wording of each task; spaces at its end go to the option', async (t) => {
  const wording = async (name: (typeof TASK_NAMES)[number] | undefined, question: string) => {
    const seen: string[] = [];
    const options: string[] = [];
    const model = scorer((option) => -options.push(option), seen);
    const task = definitionOf(name);
    await evaluateOptions([problem({ A: 'x', B: 'y' }, 'A', question)], model, tokenizer, {
      ...request,
      task,
    });
    return [seen[0], options[0]];
  };
  t.strictSame(await wording('arc-challenge', 'Why?'), ['Question: Why?\nAnswer:', ' x']);
  t.strictSame(await wording('siqa', 'Ada won. Why?'), ['Q: Ada won. Why?\nA:', ' x']);
  t.strictSame(await wording('openbookqa', 'Fog is  '), ['Fog is', '   x']);
  t.strictSame(await wording(undefined, 'Why?'), ['Question: Why?\nAnswer:', ' x']);
});

t.test('what cannot be scored is refused with its id', async (t) => {
  const run = (one: TaskProblem, more = {}) =>
    evaluateOptions(
      [one],
      scorer(() => -1),
      tokenizer,
      { ...request, ...more },
    );
  const long = problem({ A: 'x'.repeat(50), B: 'y' }, 'A');
  await t.rejects(run(long, { maxLength: 40 }), {
    code: 'INVALID_DATA',
    message: /problem p: question and option A are \d+ tokens, more than 40/,
  });
  await t.rejects(run({ id: 'p', question: 'Why?', label: '42' }), { message: /problem p has no choices/ });
  await t.rejects(run({ ...long, question: '', prompt: 'Why?' }), { message: /problem p has no question/ });
  await t.rejects(
    evaluateOptions(
      [],
      scorer(() => -1),
      tokenizer,
      request,
    ),
    { message: /has no problems/ },
  );
  const merging: OptionTokenizer = { encodeAll: async (texts) => texts.map(() => [1, 2]) };
  await t.rejects(
    evaluateOptions(
      [problem({ A: 'x', B: 'y' }, 'A')],
      scorer(() => -1),
      merging,
      request,
    ),
    { message: /option A adds no token to the question/ },
  );
});

t.test('a run measures by name, both ways, and says so in its summary and its table', async (t) => {
  const folder = t.testdir({});
  const { rows, acc, acc_norm } = tasks['arc_easy']!;
  const path = join(folder, 'arc.jsonl');
  writeFileSync(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  const config = {
    model: checkpoint('options'),
    output: join(folder, 'run'),
    device: 'cpu',
    threads: 1,
    iterations: 0,
    data: { evaluation: [{ task: 'arc-easy' as const, path, scoring: 'both' as const }] },
    evaluation: { maxNewTokens: 4 },
  };
  const { models } = await built.runCream(config).result;
  t.match(models[0]!.tasks, [
    { name: 'arc-easy', greedy: { total: 6 }, acc: { accuracy: acc }, acc_norm: { accuracy: acc_norm } },
  ]);
  const lines = readFileSync(join(config.output, 'evaluation', 'M0.jsonl'), 'utf8')
    .trim()
    .split('\n');
  t.equal(lines.length, 12);
  const shown = await cream(['inspect', 'run', config.output], { cwd: folder });
  t.match(shown.stdout, /arc-easy greedy +arc-easy acc +arc-easy acc_norm/);
});

t.test('settings of tasks', async (t) => {
  const config = (...evaluation: object[]) => ({ model: 'm', iterations: 0, data: { evaluation } });
  const named = built.validateConfig(
    config({ task: 'siqa', path: 'p' }, { task: 'siqa', name: 'other', path: 'p' }),
  );
  t.strictSame(
    named.data.evaluation.map(({ name, scoring }) => [name, scoring]),
    [
      ['siqa', 'generate'],
      ['other', 'generate'],
    ],
  );
  const refused = (one: object, message: RegExp, more = {}) =>
    t.throws(() => built.validateConfig({ ...config(one), ...more }), { code: 'INVALID_CONFIG', message });
  refused({ path: 'p' }, /data\.evaluation\.0\.name is missing/);
  refused({ task: 'gsm8k', path: 'p', scoring: 'options' }, /scoring must be generate or harness for gsm8k/);
  refused({ task: 'gsm9k', path: 'p' }, /data\.evaluation\.0\.task must be one of arc-easy/);
  refused({ task: 'siqa', path: 'p', scoring: 'options' }, /evaluation\.samples has no effect/, {
    evaluation: { samples: 2 },
  });
});

t.test('cream evaluate: by name, options alone, and a file of another task', async (t) => {
  const folder = t.testdir({});
  const { rows, acc } = tasks['social_iqa']!;
  writeFileSync(join(folder, 'siqa.jsonl'), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  const run = (task: string, ...more: string[]) =>
    cream(['evaluate', '-m', checkpoint('options'), '--task', task, '--threads', '1', ...more], {
      cwd: folder,
    });
  const found = await run('siqa=siqa.jsonl', '--scoring', 'options', '--json', '--output', 'out.jsonl');
  const result = JSON.parse(found.stdout) as { task: string; acc: { accuracy: number }; greedy?: object };
  t.equal(result.task, 'siqa');
  t.equal(result.acc.accuracy, acc);
  t.notOk('greedy' in result);
  t.equal(readFileSync(join(folder, 'out.jsonl'), 'utf8').trim().split('\n').length, rows.length);
  const other = await run('gsm8k=siqa.jsonl');
  t.equal(other.code, 4);
  t.match(other.stderr, /siqa-1 has choices; GSM8K asks for a number/);
  const idle = await run('siqa=siqa.jsonl', '--scoring', 'options', '--samples', '3');
  t.equal(idle.code, 2);
  t.match(idle.stderr, /--samples has no effect with --scoring options/);
});
