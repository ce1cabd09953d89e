import t from 'tap';
import { checkBase } from '../../lib/demo/base-model.js';
import { carryTrace, noisyWriter, randomProblem, rightAnswer } from '../../lib/demo/carry-trace.js';
import { claimFolder } from '../../lib/demo/demo.js';
import { promptOf, randomStream } from '../../lib/demo/task.js';

const problem = { a: [3, 1, 4, 1], b: [0, 5, 9, 2] };

t.test('a sum is written column by column from the right, each carry before its digit', async (t) => {
  t.equal(promptOf(problem), '3141+0592=');
  t.equal(rightAnswer(problem), '30317030');
  t.equal(rightAnswer({ a: [9, 9, 9, 9], b: [0, 0, 0, 1] }), '01010101');
});

t.test('the right answer spells the true sum', async (t) => {
  const random = randomStream(1, 'test');
  for (let i = 0; i < 500; i++) {
    const { a, b } = randomProblem(random);
    const [d0, , d1, , d2, , d3, carry] = rightAnswer({ a, b });
    t.equal(Number(`${carry}${d3}${d2}${d1}${d0}`), Number(a.join('')) + Number(b.join('')));
  }
});

t.test(
  'the writer has habits: a third to two fifths of his answers are right, the same for a seed',
  async (t) => {
    for (const seed of [0, 1, 2]) {
      const write = noisyWriter(seed);
      const answers = () => {
        const random = randomStream(seed, 'answers');
        return Array.from({ length: 5000 }, () => {
          const one = randomProblem(random);
          return { right: rightAnswer(one), written: write(one, random) };
        });
      };
      const first = answers();
      t.strictSame(answers(), first);
      const accuracy = first.filter(({ right, written }) => right === written).length / first.length;
      t.ok(accuracy > 0.3 && accuracy < 0.45, `seed ${seed}: ${accuracy}`);
    }
  },
);

t.test('a base model that has not learnt the task stops the demo with the reason', async (t) => {
  const at = { task: carryTrace, seed: 7 };
  t.doesNotThrow(() => checkBase([0.04, 0.1], at));
  t.throws(() => checkBase([0.04, 0.03, 0.021], at), {
    code: 'DIVERGED',
    message: /2\.1 % right \(wanted: 10 % or more\) after 3 beginnings.*another --seed \(now 7\)/,
  });
});

t.test('a folder keeps to the seed it was begun with', async (t) => {
  const folder = t.testdir();
  await claimFolder(folder, 0);
  await claimFolder(folder, 0);
  await t.rejects(claimFolder(folder, 1), { code: 'USAGE', message: /holds the demo of seed 0, not of 1/ });
});
