import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { loadPrompts, loadTask } from '../../lib/data/datasets.js';
import { checkLabels } from '../../lib/data/labels.js';
import { checkProblems, definitionOf } from '../../lib/data/task-definitions.js';

const folder = t.testdir({});
const load = async (...rows: object[]) => {
  const path = join(folder, 'rows.jsonl');
  writeFileSync(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  return (await loadTask(path)).records;
};
const choices = { A: 'trout', B: 'bat', C: 'frog' };
const labelOf = async (row: object) => (await load(row))[0]!.label;

t.test('a choice is named by its key in any frame, or by its text', async (t) => {
  const labels = [
    'B',
    'b',
    '(B)',
    'B.',
    'B)',
    '[b]',
    ' B ',
    '**B**',
    '"B"',
    'bat',
    ' bat ',
    'B) bat',
    '(B) bat',
  ];
  for (const label of labels) t.equal(await labelOf({ question: 'Q?', choices, label }), 'B', label);
  for (const label of ['b', '(B)', 'bat'])
    t.equal(await labelOf({ prompt: 'Which?', choices, label }), 'B', `${label} of a worded prompt`);
  const digits = { text: ['trout', 'bat'], label: ['1', '2'] };
  t.equal(await labelOf({ question: 'Q?', choices: digits, answerKey: '2' }), '2');
  t.equal(await labelOf({ question: 'Q?', choices: digits, answerKey: '(2)' }), '2');
  for (const label of ['1', '0', 'D', 'BC', 'a bat', 'A) bat', '?'])
    await t.rejects(load({ question: 'Q?', choices, label: 'A' }, { question: 'Q?', choices, label }), {
      code: 'INVALID_DATA',
      message: /rows\.jsonl:2.*label .* is none of the choices A, B, C/s,
    });
  await t.rejects(load({ question: 'Q?', choices: { A: '0', B: '1' }, label: '1' }), {
    message: /none of the choices/,
  });
  await t.rejects(load({ question: 'Q?', choices: { A: 'same', B: 'same' }, label: 'same' }), {
    message: /none of the choices/,
  });
});

t.test("Social IQa's labels", async (t) => {
  const row = { context: 'Ada won.', question: 'Why?', answerA: 'luck', answerB: 'work', answerC: 'rain' };
  for (const label of ['2', 2, ' 2\n']) t.equal(await labelOf({ ...row, label }), 'B', String(label));
  for (const label of ['0', '4', 'B', 'b?', 1.5])
    await t.rejects(load({ ...row, label }), { message: /rows\.jsonl:1.*label must be 1, 2 or 3/s });
});

t.test('the label of a worked answer', async (t) => {
  const answers: readonly (readonly [string, string])[] = [
    ['2 + 2\n#### 4', '4'],
    ['#### 3\nbetter\n#### 1,234', '1,234'],
    ['So it is \\boxed{\\frac{3}{4}}.', '\\frac{3}{4}'],
    ['\\boxed{3}, no, $\\boxed{4}$', '4'],
    ['42', '42'],
  ];
  for (const [answer, label] of answers) {
    const [problem] = await load({ question: 'Q?', answer });
    t.match(problem, { label, answer });
  }
  t.equal(await labelOf({ question: 'Q?', answer: 42 }), '42');
});

t.test('a label that is no number where one is needed is an error that names its row', async (t) => {
  const gsm8k = definitionOf('gsm8k')!;
  const problems = await load({ question: 'Q?', answer: '#### 4' }, { question: 'Q?', answer: '#### four' });
  t.throws(() => checkProblems(problems, gsm8k, 'x.jsonl'), {
    code: 'INVALID_DATA',
    message: /x\.jsonl: rows-2 has the label "four", which is no number/,
  });
  t.throws(() => checkLabels(problems, 'number', 'x.jsonl'), { message: /rows-2 has the label "four"/ });
  t.throws(() => checkLabels(problems, 'choice', 'x.jsonl'), { message: /rows-1 has no choices/ });
  checkLabels(problems, 'auto', 'x.jsonl');
  const path = join(folder, 'prompts.jsonl');
  writeFileSync(path, '{"prompt": "a", "label": "3"}\n{"prompt": "b", "label": "c"}\n');
  await t.rejects(loadPrompts(path, { extract: 'number' }), {
    message: /prompts\.jsonl:2.*label "c" is no number, which extract: number needs/s,
  });
  t.equal((await loadPrompts(path)).records.length, 2);
});
