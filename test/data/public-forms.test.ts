import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { loadPrompts, loadTask } from '../../lib/data/datasets.js';

// Rows of the paper's five test sets as their publishers write them.

const folder = t.testdir({});
let files = 0;
function file(...rows: object[]): string {
  files += 1;
  const path = join(folder, `rows-${files}.jsonl`);
  writeFileSync(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  return path;
}
const one = async (row: object) => (await loadTask(file(row))).records[0];

const SIQA = {
  context: 'Sam lent Kim a book.',
  question: 'What will Kim do next?',
  answerA: 'read it',
  answerB: 'burn it',
  answerC: 'eat it',
  label: '1',
};

t.test('ARC, by letters and by numbers', async (t) => {
  const choices = { text: ['iron', 'wood'], label: ['A', 'B'] };
  t.match(await one({ id: 'Mercury_1', question: 'Magnetic?', choices, answerKey: 'A' }), {
    id: 'Mercury_1',
    question: 'Magnetic?',
    choices: { A: 'iron', B: 'wood' },
    label: 'A',
  });
  const numbered = { ...choices, label: ['1', '2'] };
  t.match(await one({ id: 'x', question: 'Magnetic?', choices: numbered, answerKey: '2' }), {
    choices: { 1: 'iron', 2: 'wood' },
    label: '2',
  });
});

t.test('OpenBookQA: question_stem', async (t) => {
  const choices = { text: ['a star', 'a planet'], label: ['A', 'B'] };
  t.match(await one({ id: '7-980', question_stem: 'The sun is', choices, answerKey: 'A' }), {
    question: 'The sun is',
    label: 'A',
  });
});

t.test('ARC and OpenBookQA as AI2 first published them', async (t) => {
  const choices = [
    { text: 'iron', label: 'A' },
    { text: 'wood', label: 'B' },
  ];
  const question = { stem: 'Magnetic?', choices };
  t.match(await one({ id: 'Mercury_1', question, answerKey: 'A' }), {
    id: 'Mercury_1',
    question: 'Magnetic?',
    choices: { A: 'iron', B: 'wood' },
    label: 'A',
  });
  const twice = [choices[0], { ...choices[1], label: 'A' }];
  for (const faulty of [
    { stem: 'Magnetic?' },
    { choices },
    { ...question, choices: twice },
    { ...question, choices: [7, null] },
  ]) {
    await t.rejects(
      one({ question: faulty, answerKey: 'A' }),
      { code: 'INVALID_DATA' },
      JSON.stringify(faulty),
    );
  }
});

t.test('SIQA: context before the question, the label counts the answers', async (t) => {
  const problem = await one(SIQA);
  t.match(problem, {
    question: 'Sam lent Kim a book. What will Kim do next?',
    choices: { A: 'read it', B: 'burn it', C: 'eat it' },
    label: 'A',
  });
  t.match(await one({ ...SIQA, label: '3\n' }), { label: 'C' });
  for (const label of ['0', '4', 'A', '']) {
    await t.rejects(one({ ...SIQA, label }), {
      code: 'INVALID_DATA',
      message: /rows-\d+\.jsonl:1: label must be/,
    });
  }
  const { records } = await loadPrompts(file({ ...SIQA, label: undefined }));
  t.match(
    records[0]?.prompt,
    /Sam lent Kim a book\. What will Kim do next\?\n\nA\) read it/,
    'also as a prompt',
  );
});

t.test('GSM8K: the number after ####', async (t) => {
  t.match(await one({ question: 'How many?', answer: '3 + 4 = <<3+4=7>>7\n#### 7' }), { label: '7' });
});

t.test('a label of this project wins over answerKey', async (t) => {
  const row = { question: 'Q?', choices: { A: 'x', B: 'y' }, label: 'B', answerKey: 'A' };
  t.match(await one(row), { label: 'B' });
});
