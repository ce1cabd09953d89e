import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { summaryTable } from '../../lib/cli/summary.js';
import type { TaskSummary } from '../../lib/run/summary.js';
import { meansOf } from '../../lib/run/tasks.js';
import { built } from '../helpers/built.js';
import { checkpoint, readGolden } from '../helpers/golden.js';
import { close } from '../helpers/close.js';

// A run that only measures: the paper's tasks by name, as published, by options and by written answers.

t.setTimeout(240_000);

const { runCream } = built;
const folder = t.testdir({});
const golden = (name: string) => join(import.meta.dirname, '..', 'golden', 'parquet', `${name}.parquet`);
const { tasks: harness } = readGolden<{ tasks: Record<string, { acc: number; acc_norm: number }> }>(
  'options',
);

const scored = (task: string, id: string, acc: boolean, norm: boolean) => ({
  id,
  task,
  context: '',
  label: 'A',
  logprobs: {},
  acc: { answer: 'A', correct: acc },
  acc_norm: { answer: 'A', correct: norm },
});
const written = (task: string, id: string, correct: boolean) => ({
  id,
  task,
  prompt: '',
  label: 'A',
  greedy: { text: '', ids: [], finishReason: 'stop' as const, answer: null, correct },
});

t.test('a mean counts every task alike, of tasks measured in the same way', async (t) => {
  const means = meansOf([
    scored('a', '1', true, false),
    scored('a', '2', false, false),
    scored('b', '1', true, true),
    scored('b', '2', true, true),
    scored('b', '3', true, true),
    written('a', '1', true),
  ]);
  close(t, [means.acc!.mean, means.acc_norm!.mean], [0.75, 0.5], { rtol: 1e-12 });
  t.equal(means.acc!.n, 5);
  t.strictSame(means.acc_norm!.interval, [0.5, 0.5], 'no spread within the tasks');
  t.notOk(means.greedy, 'one task has no mean');
});

t.test("the harness's numbers, a mean over tasks, in summary, events and report", async (t) => {
  const output = join(folder, 'run');
  const run = runCream({
    model: checkpoint('options'),
    output,
    iterations: 0,
    threads: 1,
    data: {
      evaluation: [
        { task: 'arc-easy', path: golden('arc_easy'), scoring: 'both' },
        { task: 'siqa', path: golden('social_iqa'), scoring: 'options' },
        { task: 'openbookqa', path: golden('openbookqa'), scoring: 'options' },
        { task: 'gsm8k', path: golden('gsm8k') },
      ],
    },
    evaluation: { maxNewTokens: 4 },
  });
  const metrics: Record<string, number> = {};
  for await (const event of run)
    if (event.type === 'stage' && event.metrics !== undefined) Object.assign(metrics, event.metrics);
  const summary = await run.result;
  const [base] = summary.models;
  const of = (name: string): TaskSummary => base!.tasks.find((task) => task.name === name)!;
  for (const [name, published] of [
    ['arc-easy', 'arc_easy'],
    ['siqa', 'social_iqa'],
    ['openbookqa', 'openbookqa'],
  ] as const) {
    const { acc, acc_norm } = of(name);
    const expected = harness[published]!;
    close(t, [acc!.accuracy, acc_norm!.accuracy], [expected.acc, expected.acc_norm], { rtol: 1e-12 }, name);
  }
  t.equal(of('gsm8k').acc, undefined);
  t.equal(of('gsm8k').greedy!.total, 2);
  t.equal(of('siqa').greedy, undefined);

  const mean = (key: 'acc' | 'acc_norm') =>
    ['arc_easy', 'social_iqa', 'openbookqa'].reduce((sum, name) => sum + harness[name]![key], 0) / 3;
  close(t, [base!.mean!.acc!.mean, base!.mean!.acc_norm!.mean], [mean('acc'), mean('acc_norm')], {
    rtol: 1e-12,
  });
  t.strictSame(Object.keys(metrics).sort(), [
    'acc/arc-easy',
    'acc/mean',
    'acc/openbookqa',
    'acc/siqa',
    'acc_norm/arc-easy',
    'acc_norm/mean',
    'acc_norm/openbookqa',
    'acc_norm/siqa',
    'accuracy/arc-easy',
    'accuracy/gsm8k',
    'accuracy/mean',
  ]);
  t.equal(metrics['acc/mean'], base!.mean!.acc!.mean);
  t.strictSame(JSON.parse(readFileSync(join(output, 'summary.json'), 'utf8')).models[0].mean, base!.mean);
  t.match(summaryTable(summary), /mean greedy +mean acc +mean acc_norm/);
  t.match(readFileSync(join(output, 'report.html'), 'utf8'), /"mean":\{"greedy":/);
});

t.test(
  'a problem without room is left out, named in a warning, and nobody waits for its answers',
  async (t) => {
    const task = join(folder, 'long.jsonl');
    const choices = ['left', 'right'];
    const problems = [
      { id: 'fits', question: 'two and', choices, answer: 'A' },
      { id: 'too-long', question: 'cat '.repeat(300), choices, answer: 'B' },
    ];
    writeFileSync(task, problems.map((problem) => JSON.stringify(problem)).join('\n'));
    const run = runCream({
      model: checkpoint('options'),
      output: join(folder, 'long-run'),
      iterations: 0,
      threads: 1,
      data: { evaluation: [{ name: 'long', path: task, scoring: 'both' }] },
      evaluation: { maxNewTokens: 2, samples: 2 },
    });
    const warnings: string[] = [];
    let last = { done: 0, total: 0 };
    for await (const event of run) {
      if (event.type === 'warning' && event.code === 'evaluation-too-long') warnings.push(event.message);
      if (event.type === 'progress') last = event;
    }
    t.match(warnings, [
      /^task long: 1 of 2 problems left out: too-long \(\d+ tokens\): no room for an answer within 256 tokens$/,
      /^task long: 1 of 2 problems left out: too-long \(\d+ tokens\): question and option are longer than 256 tokens$/,
    ]);
    t.match(last, { done: 8, total: 8 });
    const { models } = await run.result;
    t.match(models[0]!.tasks[0], { greedy: { total: 1 }, sampled: { total: 2 }, acc: { total: 1 } });
  },
);
