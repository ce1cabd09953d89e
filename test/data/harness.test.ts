import t from 'tap';
import type { TaskProblem } from '../../lib/data/datasets.js';
import {
  type AnswerFilter,
  type HarnessDefinition,
  harnessContexts,
  harnessVerdict,
  trimEndAsPython,
} from '../../lib/data/harness.js';
import { PythonRandom } from '../../lib/data/python-random.js';
import { cutAt } from '../../lib/data/stop-strings.js';
import { definitionOf } from '../../lib/data/task-definitions.js';
import { readGolden } from '../helpers/golden.js';

const { verdicts, draws } = readGolden<{
  verdicts: [string, string, string, string, boolean][];
  draws: { seed: number; length: number; count: number; drawn: number[] }[];
}>('harness');

t.test("the filters read and judge as the harness's own", async (t) => {
  for (const [name, text, reference, answer, correct] of verdicts) {
    const filter = name.replace('-', '_') as AnswerFilter;
    t.strictSame(
      harnessVerdict(filter, text, reference),
      { answer, correct },
      `${name} ${JSON.stringify(text)} ${JSON.stringify(reference)}`,
    );
  }
  t.ok(verdicts.length >= 800);
});

t.test("samples are those of Python's random, one after the other", async (t) => {
  const generators = new Map<number, PythonRandom>();
  for (const { seed, length, count, drawn } of draws) {
    const random = generators.get(seed) ?? new PythonRandom(seed);
    generators.set(seed, random);
    t.strictSame(random.sampleIndices(length, count), drawn, `seed ${seed}: ${count} of ${length}`);
  }
  t.strictSame(new PythonRandom(-5).sampleIndices(100, 3), new PythonRandom(5n).sampleIndices(100, 3));
  t.throws(() => new PythonRandom(0).sampleIndices(2, 3), { message: /cannot draw 3 of 2/ });
});

const task = (name: Parameters<typeof definitionOf>[0]) => definitionOf(name) as HarnessDefinition;
const sum = (i: number): TaskProblem => ({
  id: `sum-${i}`,
  question: `${i} + 1?`,
  label: String(i + 1),
  answer: `#### ${i + 1}`,
});

t.test('examples: the first ones, without the problem itself where the harness leaves it out', async (t) => {
  const examples = [1, 2, 3].map(sum);
  t.strictSame(harnessContexts([sum(1)], task('gsm8k'), { shots: 2, examples, sampler: 'first' }), [
    'Question: 1 + 1?\nAnswer: #### 2\n\nQuestion: 2 + 1?\nAnswer: #### 3\n\nQuestion: 1 + 1?\nAnswer:',
  ]);
  const social = (id: string): TaskProblem => ({
    id,
    question: `${id} won. Why?`,
    choices: { A: 'luck', B: 'work' },
    label: 'B',
  });
  t.strictSame(
    harnessContexts([social('Ada')], task('siqa'), {
      shots: 1,
      examples: [social('Ada'), social('Bo')],
      sampler: 'first',
    }),
    ['Q: Bo won. Why?\nA: work\n\nQ: Ada won. Why?\nA:'],
  );
});

t.test('examples that are missing, too few or of another kind are refused', async (t) => {
  const refused = (given: Parameters<typeof harnessContexts>[2], message: RegExp, name = 'gsm8k' as const) =>
    t.throws(() => harnessContexts([sum(1)], task(name), given), { code: 'INVALID_DATA', message });
  refused({}, /GSM8K as the harness asks it has 5 examples .* no file of examples is given/);
  refused({ examples: [1, 2, 3].map(sum) }, /the file of examples has 3/);
  refused({ shots: 1, examples: [{ id: 'x', question: 'Why?', label: '3' }] }, /x is no example of GSM8K/);
  const two = { A: 'a', B: 'b' };
  const posed = { id: 'p', question: 'Why?', choices: two, label: 'A' };
  t.throws(() => harnessContexts([posed], task('siqa'), { shots: 1, examples: [posed] }), {
    message: /has 1 examples before every question \(it draws one more\).* has 1/,
  });
});

t.test('a text ends before each stop string in turn; white space as Python knows it', async (t) => {
  t.equal(cutAt('18\n\nQuestion: 3', ['Question:', '</s>']), '18\n\n');
  t.equal(cutAt('a</s>b Question:', ['Question:', '</s>']), 'a');
  t.equal(cutAt('none', ['x']), 'none');
  t.throws(() => cutAt('x', ['']), { code: 'INVALID_ARGUMENT' });
  t.equal(trimEndAsPython('a \x1c\x85\u3000'), 'a');
  t.equal(trimEndAsPython('a\ufeff '), 'a\ufeff', 'no white space to Python');
});
