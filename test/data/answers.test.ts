import { existsSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { gradeResponse } from '../../lib/data/answers.js';
import { readJsonl } from '../../lib/data/jsonl.js';
import { resolveExtraction, taskPrompt } from '../../lib/data/tasks.js';
import { processorMs } from '../helpers/linear-time.js';

const animals = { A: 'trout', B: 'bat', C: 'frog', D: 'a garden snake' };

const choice = (
  text: string,
  finishReason: 'stop' | 'length' = 'stop',
  choices: Record<string, string> = animals,
) => gradeResponse({ text, finishReason }, { label: 'B', choices }, 'choice').answer;

const number = (text: string, finishReason: 'stop' | 'length' = 'stop') =>
  gradeResponse({ text, finishReason }, { label: '0' }, 'number').answer;

// [response, option that it decides for]
const CHOICES: readonly (readonly [string, string | null])[] = [
  // The letter alone.
  ['B', 'B'],
  ['b', 'B'],
  ['(B)', 'B'],
  ['B.', 'B'],
  ['B)', 'B'],
  ['**B**', 'B'],
  ['[B]', 'B'],
  ['"B"', 'B'],
  ['Option B', 'B'],
  ['B) bat', 'B'],
  ['B. bat', 'B'],
  ['B: bat', 'B'],
  ['(B) bat', 'B'],
  ['A', 'A'],
  ['A.', 'A'],
  ['A) trout', 'A'],
  ['  C\n', 'C'],
  ['B) bat\n\nA bat is the only mammal among the options.', 'B'],
  // "Answer" and a sign.
  ['Answer: B', 'B'],
  ['Answer: (B)', 'B'],
  ['Answer: (C)', 'C'],
  ['answer: c', 'C'],
  ['Answer:B', 'B'],
  ['Answer:\nB', 'B'],
  ['**Answer:** B', 'B'],
  ['**Answer: B) bat**', 'B'],
  ['Final answer: B', 'B'],
  ['Final Answer: (B).', 'B'],
  ['Answer - B', 'B'],
  ['Answer = B', 'B'],
  ['Ans: B', 'B'],
  ['### Answer\nB', 'B'],
  ['Answer: a', 'A'],
  ['Answer: A', 'A'],
  ['Answer: A) trout', 'A'],
  ['Answer: option B', 'B'],
  ['Answer：B', 'B'],
  ['A: B', 'B'],
  ['A: bat', 'B'],
  ['Correct answer: D) a garden snake', 'D'],
  // "The answer is".
  ['The answer is B', 'B'],
  ['The answer is B.', 'B'],
  ['The answer is (B).', 'B'],
  ['The answer is: B', 'B'],
  ['The answer is "B".', 'B'],
  ['The answer is **B**.', 'B'],
  ['the answer is b.', 'B'],
  ['The answer is option B.', 'B'],
  ['The answer is the letter B.', 'B'],
  ['The answer is A because trout are fish.', 'A'],
  ['The answer is A.', 'A'],
  ['The answer is A, trout.', 'A'],
  ['The answer is (a).', 'A'],
  ['The correct answer is C) frog.', 'C'],
  ['The correct option is C.', 'C'],
  ['The best choice is C.', 'C'],
  ['The right answer would be D.', 'D'],
  ['The answer must be D.', 'D'],
  ['The answer to the question is B.', 'B'],
  ['The answer, therefore, is B.', 'B'],
  ["So the answer's B.", 'B'],
  ['My answer is B.', 'B'],
  ['The answer is most likely C.', 'C'],
  ['The most likely answer is C.', 'C'],
  ['The answer is B since bats nurse their young; A is a fish.', 'B'],
  ['The answer is B (bat).', 'B'],
  ['The answer is \\boxed{B}', 'B'],
  ['$\\boxed{\\text{B}}$', 'B'],
  ['\\boxed{(C) frog}', 'C'],
  ['#### C', 'C'],
  // The article is no option.
  ['The answer is a bat.', 'B'],
  ['The answer is a mammal, as bats nurse their young.', null],
  ['The answer is A bat.', 'B'],
  ['A bat is a mammal. Answer: bat', 'B'],
  ['Answer: A bat is the one.', 'B'],
  ['I think a frog is an amphibian and a bat is a mammal. The answer is B.', 'B'],
  ['A mammal has hair.', null],
  ['It is a question of hair.', null],
  // The option's text.
  ['bat', 'B'],
  ['A bat.', 'B'],
  ['The answer is bat.', 'B'],
  ['Answer: garden snake', 'D'],
  ['The answer is the garden snake.', 'D'],
  ['It has hair and wings, so it must be the bat.', 'B'],
  // Other ways to decide.
  ['I choose B.', 'B'],
  ['I would pick (C).', 'C'],
  ["I'd go with option D.", 'D'],
  ['Bats nurse their young, so I select B', 'B'],
  ['This leaves us with C.', 'C'],
  ['B is correct.', 'B'],
  ['Option B is correct.', 'B'],
  ['(B) is the correct answer.', 'B'],
  ['B is the best answer because bats have hair.', 'B'],
  ['B) bat is the correct answer.', 'B'],
  ['Option B (bat) is the most likely.', 'B'],
  ['Trout are fish. So B.', 'B'],
  ['Trout are fish. Therefore, (B).', 'B'],
  ['Trout are fish, thus the only option left is B.', 'B'],
  ['It must be B.', 'B'],
  ['Among these, B fits best.', 'B'],
  ['We can rule out A, B and D, leaving C as the answer.', 'C'],
  ['Eliminating A, B and D leaves us with C.', 'C'],
  ['<answer>B</answer>', 'B'],
  ['Answer: <B>', 'B'],
  ['Answer: $B$', 'B'],
  ['The answer is $\\text{B}$.', 'B'],
  ['Q: Which is a mammal?\nA: bat', 'B'],
  // Discussion first, decision last.
  ['While A is a good choice, B is the best answer.', 'B'],
  ['At first glance A is correct, but actually C is correct.', 'C'],
  ["I'm not sure but the answer is C", 'C'],
  ['It is not A, because trout have no hair. It is not C. It is B.', 'B'],
  ['Both B and D have four limbs, but B is the best answer.', 'B'],
  ['A) trout is a fish.\nB) bat is a mammal.\nC) frog is an amphibian.\nSo the answer is B.', 'B'],
  ['A is a fish, C is an amphibian, D is a reptile. B is correct.', 'B'],
  ['First I thought the answer is A. But a trout has no hair, so the answer is B.', 'B'],
  ['The answer is A. Wait, trout are fish. The answer is B.', 'B'],
  ['Option A is incorrect because trout are fish. Option B is correct because bats have hair.', 'B'],
  ['The answer is B. A is wrong, C is wrong, and D is wrong.', 'B'],
  ['Answer: B. A trout is a fish.', 'B'],
  ['B is correct and A is wrong.', 'B'],
  ['A is wrong and B is correct.', 'B'],
  // What is denied, supposed or asked is not decided.
  ['The answer is not A.', null],
  ['The answer is not A but B.', 'B'],
  ['The answer is not A, it is B.', 'B'],
  ["The answer isn't A. It's B.", 'B'],
  ["I don't think the answer is A. The answer is B.", 'B'],
  ['The answer is B. It would be wrong to say the answer is not B.', 'B'],
  ['If the answer is A, trout would be mammals. The answer is C.', 'C'],
  ['The answer is C. Suppose the answer is A: then trout would have hair.', 'C'],
  ['Is the answer A? No. The answer is D.', 'D'],
  ['The answer is D. Is the answer A? No.', 'D'],
  ['B is not correct. C is correct.', 'C'],
  ['C is correct. B is not correct.', 'C'],
  ['The answer is B, not A.', 'B'],
  ['The answer is B rather than C.', 'B'],
  // Several or none.
  ['The answer could be A or B.', null],
  ['A lot of factors matter here.', null],
  ['Plan A is good.', null],
  ['The answer depends on A, B and C.', null],
  ['The answer is B or C.', null],
  ['The answer is A or C.', null],
  ['Both A and B are correct.', null],
  ['The answer is B and C.', null],
  ['', null],
  ['I do not know.', null],
  ['Mammals nurse their young.', null],
  ['A) trout\nB) bat\nC) frog\nD) a garden snake', null],
  ['The answer is E.', null],
  ['Vitamin B12 is found in meat.', null],
];

t.test('§6.9 an option is read from what a response decides, not from what it mentions', async (t) => {
  for (const [text, expected] of CHOICES) t.equal(choice(text), expected, JSON.stringify(text));
  t.ok(CHOICES.length >= 80, `${CHOICES.length} phrasings`);
});

t.test('a decision that was cut off does not count, one before the cut does', async (t) => {
  t.equal(choice('The answer is B', 'length'), null);
  t.equal(choice('The answer is B. Bats nurse their', 'length'), 'B');
  t.equal(choice('Trout are fish. So it is the bat', 'length'), null);
});

t.test('options may be digits', async (t) => {
  const digits = { 1: 'three legs', 2: 'four legs', 3: 'six legs' };
  const read = (text: string) =>
    gradeResponse({ text, finishReason: 'stop' }, { label: '3', choices: digits });
  t.strictSame(read('The answer is 3.'), { answer: '3', correct: true });
  t.strictSame(read('Answer: (2)'), { answer: '2', correct: false });
  t.strictSame(read('The answer is 3 legs more than expected.'), { answer: null, correct: false });
  t.strictSame(read('Answer: six legs'), { answer: '3', correct: true });
});

t.test('the longer of two options that begin alike is read', async (t) => {
  const choices = { A: 'warm', B: 'warm water', C: 'cold' };
  t.equal(choice('The answer is warm water.', 'stop', choices), 'B');
  t.equal(choice('The answer is warm.', 'stop', choices), 'A');
});

// [response, number]
const NUMBERS: readonly (readonly [string, string | null])[] = [
  ['The answer is 42.', '42'],
  ['The answer is 42', '42'],
  ['So 6 * 7 = 42.\n#### 42', '42'],
  ['#### 1,234', '1234'],
  ['#### 1,234,567', '1234567'],
  ['The answer is $18.00', '18'],
  ['The answer is $18.', '18'],
  ['The answer is 18 dollars per day.', '18'],
  ['She makes $<<9*2=18>>18 per day.\nA: 18', '18'],
  ['\\boxed{42}', '42'],
  ['The result is \\boxed{\\frac{7}{2}}.', '3.5'],
  ['\\boxed{7/2}', '3.5'],
  ['$\\boxed{1{,}234}$', '1234'],
  ['\\boxed{\\$18}', '18'],
  ['\\boxed{42 \\text{ apples}}', '42'],
  ['The answer is 1/3.', '1/3'],
  ['The answer is -5.', '-5'],
  ['The answer is \u22125 degrees.', '-5'],
  ['The answer is -$3.50.', '-3.5'],
  ['The answer is 10 - 3 = 7.', '7'],
  ['answer: 3 apples and 4 pears = 7', '7'],
  ['Answer: 3 apples and 4 pears, 7 in total', '7'],
  ['Answer: In 3 hours he walks 12 miles.', '12'],
  ['Answer: 12 miles in 3 hours.', '12'],
  ['The answer is x = 5.', '5'],
  ['The answer is 9 * 2 = $18.', '18'],
  ['The answer is 5, since 10/2 = 5 and 3 + 4 = 7.', '5'],
  ['The answer is 18 (9 * 2 = 18, not 16).', '18'],
  ['The answer is about 42.', '42'],
  ['The answer is 50%.', '50'],
  ['The answer is 0.5.', '0.5'],
  ['The answer is .5', '0.5'],
  ['The answer is 3.14159', '3.14159'],
  ['The answer is 3 1/2.', '3.5'],
  ['The answer is 1.5 million.', '1500000'],
  ['**Answer:** 42', '42'],
  ['**Final Answer**\n\n42', '42'],
  ['### Answer:\n\n$42', '42'],
  ['Final answer: 42 eggs', '42'],
  ['The answer is 41. Wait, one more: the answer is 42.', '42'],
  ['The answer is not 41. The answer is 42.', '42'],
  ['The answer is 42. If the answer is 41, one egg would be missing.', '42'],
  ['#### 41\nThat was wrong.\n#### 42', '42'],
  ['The answer to the 3 questions is 42.', '42'],
  // Without a statement, the last sentence with a number.
  ['She has 16 - 7 = 9 eggs.\nShe makes 9 * 2 = $18 every day.', '18'],
  ['In 5 days she makes 90 dollars.', '90'],
  ['So she makes 18. I hope this helps!', '18'],
  ['42', '42'],
  ['-7', '-7'],
  ['16-3', '3'],
  ['', null],
  ['I do not know.', null],
  ['The answer is unknown.', null],
];

t.test(
  '§6.9 a number is read from the last statement, else from the last sentence that has one',
  async (t) => {
    for (const [text, expected] of NUMBERS) t.equal(number(text), expected, JSON.stringify(text));
  },
);

t.test('a number that may have been cut off does not count', async (t) => {
  t.equal(number('The answer is 4', 'length'), null);
  t.equal(number('The answer is 42. She', 'length'), '42');
  t.equal(number('She has 16 eggs and', 'length'), null);
});

t.test('numbers compare by value', async (t) => {
  const correct = (text: string, label: string) =>
    gradeResponse({ text, finishReason: 'stop' }, { label }).correct;
  t.ok(correct('The answer is 1,234.', '1234.0'));
  t.ok(correct('The answer is 1234.', '1,234'));
  t.ok(correct('The answer is 7/2.', '3.5'));
  t.ok(correct('The answer is $18.00.', '18'));
  t.ok(correct('The answer is -0.', '0'));
  t.notOk(correct('The answer is 0.3333333.', '1/3'));
  t.notOk(correct('The answer is 12345678901234567891.', '12345678901234567890'), 'beyond double precision');
});

t.test('exact and patterns need a response that ended by itself', async (t) => {
  const grade = (text: string, finishReason: 'stop' | 'length', extraction: 'exact' | { pattern: string }) =>
    gradeResponse({ text, finishReason }, { label: '123' }, extraction);
  t.strictSame(grade(' 123\n', 'stop', 'exact'), { answer: '123', correct: true });
  t.strictSame(grade('123', 'length', 'exact'), { answer: null, correct: false });
  t.strictSame(grade('1 23', 'stop', 'exact'), { answer: '1 23', correct: false });
  t.strictSame(grade('1x2y3', 'stop', { pattern: '^(\\d).(\\d).(\\d)$' }), { answer: '123', correct: true });
  t.strictSame(grade('1x2y3', 'length', { pattern: '^(\\d).(\\d).(\\d)$' }), {
    answer: null,
    correct: false,
  });
  t.strictSame(grade('first 12 then 123', 'stop', { pattern: '\\d+' }), { answer: '123', correct: true });
  t.strictSame(grade('none', 'stop', { pattern: '(\\d+)' }), { answer: null, correct: false });
  t.strictSame(grade('', 'stop', 'exact'), { answer: null, correct: false });
  t.throws(() => grade('1', 'stop', { pattern: '(' }), {
    code: 'INVALID_CONFIG',
    message: /extract\.pattern "\("/,
  });
});

t.test('an extraction that the problem cannot have is refused', async (t) => {
  const response = { text: 'B', finishReason: 'stop' } as const;
  t.throws(() => gradeResponse(response, { label: 'B' }, 'choice'), { code: 'INVALID_DATA' });
  t.throws(() => gradeResponse(response, { label: 'blue' }, 'number'), {
    code: 'INVALID_DATA',
    message: /"blue"/,
  });
});

t.test('auto follows from choices and label, and decides the wording', async (t) => {
  t.equal(resolveExtraction('auto', { choices: animals, label: 'B' }), 'choice');
  for (const label of ['42', '-3.5', '1,234', '$18.00', '7/2', '50%', '.5']) {
    t.equal(resolveExtraction('auto', { label }), 'number', label);
  }
  for (const label of ['blue', '1 2', '4a', '', '-', '12,34'])
    t.equal(resolveExtraction('auto', { label }), 'exact', label);
  t.equal(taskPrompt({ question: 'What?', label: 'blue' }), 'What?');
  t.match(taskPrompt({ question: 'How many?', label: '3' }), /^How many\?\n\n.*"The answer is N"/);
  t.match(
    taskPrompt({ question: 'Which?', choices: { A: 'x', B: 'y' } }),
    /^Which\?\n\nA\) x\nB\) y\n\n.*"The answer is X"/,
  );
});

t.test('reading takes linear time on what a model in a loop produces', async (t) => {
  const unit = [
    'A',
    'A ',
    'answer is ',
    'the answer is not ',
    'A is ',
    '(',
    '\\boxed{',
    '####',
    '\n',
    ' ',
    '1',
    '1,',
    '1/',
    '-',
    '= ',
  ];
  for (const piece of [
    ...unit,
    '\\frac{',
    '\\text{',
    'or B ',
    'B, ',
    'So ',
    'it is ',
    'not a ',
    '$',
    '. ',
    'bat ',
    '<<',
    '.',
  ]) {
    const text = piece.repeat(50_000);
    const elapsed = processorMs(() => {
      choice(text);
      number(text);
    });
    // Quadratic time would be minutes.
    t.ok(elapsed < 20_000, `${JSON.stringify(piece)} x 50,000: ${elapsed.toFixed(0)} ms`);
  }
});

t.test('any text gives an option or nothing, and a number that compares with itself', async () => {
  const words = fc.constantFrom(
    ...'A B C a b ( ) . , the answer is not option 42 -7 1,234 = $ or and \n bat #### \\boxed{ }'.split(' '),
  );
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.array(words).map((list) => list.join(' ')),
  );
  fc.assert(
    fc.property(text, fc.constantFrom('stop' as const, 'length' as const), (text, finishReason) => {
      const option = choice(text, finishReason);
      if (option !== null && !Object.hasOwn(animals, option)) return false;
      const value = number(text, finishReason);
      return (
        value === null ||
        gradeResponse({ text: `#### ${value}`, finishReason: 'stop' }, { label: value }, 'number').correct
      );
    }),
    { seed: 1, numRuns: 2000 },
  );
});

const solutions = join(import.meta.dirname, '../../../shared/data/gsm8k.model_solutions.jsonl');

t.test(
  'the correct flags of real GSM8K solutions agree',
  { skip: existsSync(solutions) ? false : `${solutions} is absent` },
  async (t) => {
    const { records } = await readJsonl(
      solutions,
      (row) => row.value as { id: string; reference: string; responses: string[]; correct: boolean[] },
    );
    let agree = 0;
    const disagreements: string[] = [];
    for (const { id, reference, responses, correct } of records) {
      const label = reference.slice(reference.lastIndexOf('A:') + 2).trim();
      for (const [i, text] of responses.entries()) {
        const grade = gradeResponse({ text, finishReason: 'stop' }, { label }, 'number');
        if (grade.correct === correct[i]) agree += 1;
        else
          disagreements.push(
            `${id}/${i}: read ${grade.answer}, label ${label}, flag ${correct[i]}: ...${text.slice(-120)}`,
          );
      }
    }
    t.ok(agree / (agree + disagreements.length) >= 0.99, `${agree} agree`);
    t.equal(disagreements.length, 0, disagreements.join('\n'));
  },
);
