import t from 'tap';
import { gradeResponse } from '../../lib/data/answers.js';
import { taskPrompt } from '../../lib/data/tasks.js';

// How a problem calls its options, and that the answer so asked for is the one that is read.

const KINDS: [choices: Record<string, string>, what: string][] = [
  [{ A: 'a stone', B: 'a cork' }, 'letter'],
  [{ 1: 'a stone', 2: 'a cork' }, 'number'],
  [{ A: 'a stone', 2: 'a cork' }, 'letter or number'],
];

for (const [choices, what] of KINDS) {
  t.test(`options ${Object.keys(choices).join(', ')} are asked for by their ${what}`, async (t) => {
    const prompt = taskPrompt({ question: 'Which floats?', choices });
    t.match(prompt, `finish with "The answer is X", where X is the ${what} of the right option.`);
    for (const key of Object.keys(choices)) {
      t.match(prompt, `\n${key}) ${choices[key]}\n`);
      for (const text of [`The answer is ${key}`, `So it floats. The answer is ${key}.`, `(${key})`]) {
        const grade = gradeResponse({ text, finishReason: 'stop' }, { label: key, choices }, 'choice');
        t.match(grade, { answer: key, correct: true }, text);
      }
    }
  });
}
