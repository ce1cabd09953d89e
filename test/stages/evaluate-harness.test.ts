import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { loadTask } from '../../lib/data/datasets.js';
import { type HarnessDefinition, harnessContexts } from '../../lib/data/harness.js';
import { definitionOf } from '../../lib/data/task-definitions.js';
import { Tokenizer } from '../../lib/data/tokenizer.js';
import { Model } from '../../lib/native/model.js';
import { evaluateHarness, type FilteredAnswer, summarizeHarness } from '../../lib/stages/evaluate-harness.js';
import type { ScoredOptions } from '../../lib/option-verdict.js';
import { built } from '../helpers/built.js';
import { close } from '../helpers/close.js';
import { cream } from '../helpers/cream.js';
import { checkpoint, readGolden } from '../helpers/golden.js';

// The paper's tasks as lm-evaluation-harness measures them: test/golden/harness_numbers.py ran its own task files.

t.setTimeout(240_000);

interface Item {
  context: string;
  logprobs?: number[];
  acc?: number;
  acc_norm?: number;
  text?: string;
  'strict-match'?: [string, number];
  'flexible-extract'?: [string, number];
}
interface Run {
  task: string;
  shots?: number;
  seed?: number;
  sampler?: string;
  maxNewTokens?: number;
  scores: Record<string, number>;
  items: Item[];
}
const { rows, runs } = readGolden<{ rows: Record<string, Record<'test' | 'train', object[]>>; runs: Run[] }>(
  'harness',
);
const NAMES = {
  arc_easy: 'arc-easy',
  openbookqa: 'openbookqa',
  social_iqa: 'siqa',
  gsm8k: 'gsm8k',
} as const;

const folder = t.testdir({});
const file = (task: string, kind: 'test' | 'train') => join(folder, `${task}.${kind}.jsonl`);
for (const [task, kinds] of Object.entries(rows)) {
  for (const kind of ['test', 'train'] as const)
    writeFileSync(file(task, kind), kinds[kind].map((row) => `${JSON.stringify(row)}\n`).join(''));
}

const checkChoice = (t: Test, line: ScoredOptions, item: Item, name: string) => {
  close(t, Object.values(line.logprobs), item.logprobs!, { atol: 1e-4, rtol: 1e-4 }, name);
  t.equal(Number(line.acc.correct), item.acc, name);
  t.equal(line.acc_norm && Number(line.acc_norm.correct), item.acc_norm, name);
};
const checkAnswer = (t: Test, line: FilteredAnswer, item: Item, name: string) => {
  t.equal(line.text, item.text, name);
  t.strictSame([line.strict_match.answer, Number(line.strict_match.correct)], item['strict-match'], name);
  const { answer, correct } = line.flexible_extract;
  t.strictSame([answer, Number(correct)], item['flexible-extract'], name);
};

t.test('equals lm-evaluation-harness item by item, with examples and cuts to the context', async (t) => {
  await using model = await Model.load(checkpoint('harness'), { threads: 1 });
  const tokenizer = await Tokenizer.load(checkpoint('harness'));
  const contextLength = model.config.maxPositionEmbeddings;
  let cuts = 0;
  for (const { task: golden, scores, items, sampler, ...given } of runs) {
    const name = NAMES[golden as keyof typeof NAMES];
    const task = definitionOf(name) as HarnessDefinition;
    t.equal(task.harness.task, golden);
    const { records: problems } = await loadTask(file(golden, 'test'));
    const { records: examples } = await loadTask(file(golden, 'train'));
    const contexts = harnessContexts(problems, task, {
      ...given,
      examples,
      sampler: sampler === 'first_n' ? 'first' : undefined,
    });
    const posed = problems.map((problem, i) => ({ problem, context: contexts[i]! }));
    const request = { name, task, contextLength, maxTokensPerBatch: 512, maxNewTokens: given.maxNewTokens };
    const lines = await evaluateHarness(posed, model, tokenizer, request);
    t.equal(lines.length, items.length);
    for (const [i, line] of lines.entries()) {
      const item = items[i]!;
      const where = `${golden} ${JSON.stringify(given)} ${i}`;
      t.equal(line.context, item.context, where);
      const room = contextLength - (given.maxNewTokens ?? 0);
      if (tokenizer.encode(line.context).length >= room) cuts += 1;
      if ('acc' in line) checkChoice(t, line, item, where);
      else checkAnswer(t, line, item, where);
    }
    for (const [kind, { accuracy }] of Object.entries(summarizeHarness(lines))) {
      const key = kind.startsWith('acc') ? `${kind},none` : `exact_match,${kind.replace('_', '-')}`;
      t.ok(Math.abs(accuracy - scores[key]!) < 1e-12, `${golden} ${key}`);
    }
    t.equal(Object.keys(summarizeHarness(lines)).length, Object.keys(scores).length);
  }
  t.ok(cuts >= 10, `${cuts} contexts were longer than the model's`);
});

t.test('what has no room or no problems is refused', async (t) => {
  await using model = await Model.load(checkpoint('harness'), { threads: 1 });
  const tokenizer = await Tokenizer.load(checkpoint('harness'));
  const task = definitionOf('gsm8k') as HarnessDefinition;
  const request = { name: 'g', task, contextLength: 160, maxTokensPerBatch: 512 };
  await t.rejects(evaluateHarness([], model, tokenizer, request), { message: /no problems/ });
  const posed = [{ problem: { id: 'a', question: 'Q', label: '1' }, context: 'Q' }];
  await t.rejects(evaluateHarness(posed, model, tokenizer, request), {
    code: 'INVALID_ARGUMENT',
    message: /256 tokens leaves no room in the model's context of 160; lower maxNewTokens/,
  });
  const choices = { A: 'x'.repeat(400), B: 'y' };
  await t.rejects(
    evaluateHarness(
      [{ problem: { id: 'b', question: 'Q', label: 'A', choices }, context: 'Q' }],
      model,
      tokenizer,
      { ...request, task: definitionOf('siqa') as HarnessDefinition },
    ),
    { code: 'INVALID_DATA', message: /problem b: option A has \d+ tokens, more than the context of 160/ },
  );
});

t.test('cream evaluate --scoring harness', async (t) => {
  const run = (task: string, ...more: string[]) =>
    cream(['evaluate', '-m', checkpoint('harness'), '--task', task, '--scoring', 'harness', ...more], {
      cwd: folder,
    });
  const arc = runs.find(({ task, shots, seed }) => task === 'arc_easy' && shots === 5 && seed === 3)!;
  const found = await run(
    'arc-easy=arc_easy.test.jsonl',
    '--shots',
    '5',
    '--examples',
    'arc_easy.train.jsonl',
    '--examples-seed=3',
    '--json',
    '--output',
    'arc.jsonl',
    '--threads=1',
  );
  const result = JSON.parse(found.stdout) as Record<string, { accuracy: number }>;
  t.equal(result['harness'], '0.4.13');
  t.equal(result['acc']!.accuracy, arc.scores['acc,none']);
  t.equal(result['acc_norm']!.accuracy, arc.scores['acc_norm,none']);
  const lines = readFileSync(join(folder, 'arc.jsonl'), 'utf8').trim().split('\n');
  t.equal((JSON.parse(lines[2]!) as ScoredOptions).context, arc.items[2]!.context);

  const gsm = await run('gsm8k=gsm8k.test.jsonl', '--shots', '0', '--max-new-tokens', '24', '--threads', '1');
  t.match(
    gsm.stdout,
    /gsm8k: strict_match accuracy .*\n.*flexible_extract .*\nas lm-evaluation-harness 0.4.13/,
  );

  const refused = async (message: RegExp, code: number, task: string, ...more: string[]) => {
    const { stderr, code: ended } = await run(task, ...more);
    t.equal(ended, code);
    t.match(stderr, message);
  };
  await refused(/GSM8K as the harness asks it has 5 examples/, 4, 'gsm8k=gsm8k.test.jsonl');
  await refused(/needs a task by name/, 2, 'gsm8k.test.jsonl');
  await refused(/--examples has no effect without --shots/, 2, 'siqa=x.jsonl', '--examples', 'y.jsonl');
  await refused(/--extract has no effect with --scoring harness/, 2, 'siqa=x.jsonl', '--extract', 'choice');
  await refused(/--max-new-tokens has no effect/, 2, 'siqa=x.jsonl', '--max-new-tokens', '3');
});

t.test('a run: every model by the harness, in summary, metrics and table', async (t) => {
  const output = join(folder, 'run');
  const evaluation = [
    {
      task: 'gsm8k' as const,
      path: file('gsm8k', 'test'),
      scoring: 'harness' as const,
      maxNewTokens: 80,
      fewShot: { path: file('gsm8k', 'train') },
    },
    { task: 'siqa' as const, path: file('social_iqa', 'test'), scoring: 'harness' as const },
  ];
  const config = { model: checkpoint('harness'), output, iterations: 0, threads: 1, data: { evaluation } };
  const run = built.runCream(config);
  const metrics: Record<string, number> = {};
  for await (const event of run)
    if (event.type === 'stage' && event.metrics !== undefined) Object.assign(metrics, event.metrics);
  const { models } = await run.result;
  const siqa = runs.find(({ task, shots }) => task === 'social_iqa' && shots === undefined)!;
  t.equal(metrics['acc/siqa'], siqa.scores['acc,none']);
  t.strictSame(Object.keys(metrics).sort(), ['acc/siqa', 'flexible_extract/gsm8k', 'strict_match/gsm8k']);
  t.match(models[0]!.tasks, [
    { name: 'gsm8k', strict_match: { total: 4 }, flexible_extract: { total: 4 } },
    { name: 'siqa', acc: { total: 3 } },
  ]);
  t.notOk('acc_norm' in models[0]!.tasks[1]!, 'the harness does not report it for this task');
  const [first] = readFileSync(join(output, 'evaluation', 'M0.jsonl'), 'utf8').split('\n');
  const gsm8k = runs.find(({ task, shots }) => task === 'gsm8k' && shots === undefined)!;
  t.equal((JSON.parse(first!) as FilteredAnswer).text, gsm8k.items[0]!.text);
  const shown = await cream(['inspect', 'run', output], { cwd: folder });
  t.match(shown.stdout, /gsm8k strict_match +gsm8k flexible_extract +siqa acc/);
  t.match(readFileSync(join(output, 'report.html'), 'utf8'), /"strict_match":\{"correct":/);
});

t.test('settings that cannot work or have no effect', async (t) => {
  const refused = (one: object, message: RegExp) =>
    t.throws(
      () =>
        built.validateConfig({ model: 'm', iterations: 0, data: { evaluation: [{ path: 'p', ...one }] } }),
      { code: 'INVALID_CONFIG', message },
    );
  const harness = { scoring: 'harness' };
  refused({ ...harness, name: 'mine' }, /data\.evaluation\.0\.task is missing: scoring: harness/);
  refused({ ...harness, task: 'gsm8k' }, /fewShot\.path is missing: the harness asks GSM8K with 5 examples/);
  refused(
    { ...harness, task: 'siqa', fewShot: { path: 'x' } },
    /fewShot\.path has no effect without examples/,
  );
  refused({ ...harness, task: 'siqa', maxNewTokens: 4 }, /maxNewTokens has no effect where no answer/);
  refused({ ...harness, task: 'siqa', extract: 'choice' }, /extract has no effect with scoring: harness/);
  refused({ task: 'siqa', fewShot: { n: 2, path: 'x' } }, /fewShot has no effect without scoring: harness/);
  refused({ task: 'gsm8k', scoring: 'both' }, /scoring must be generate or harness for gsm8k/);
});
