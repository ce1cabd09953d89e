import t from 'tap';
import { rightAnswer } from '../../lib/demo/carry-trace.js';
import { raggedTrace } from '../../lib/demo/ragged-trace.js';
import { promptOf, randomStream } from '../../lib/demo/task.js';

const task = raggedTrace();

t.test('an answer has as many columns as the longer number, then the last carry', async (t) => {
  t.equal(promptOf({ a: [5], b: [1, 2, 7] }), '5+127=');
  t.equal(rightAnswer({ a: [5], b: [1, 2, 7] }), '213010');
  t.equal(rightAnswer({ a: [9], b: [8] }), '71');
  t.equal(rightAnswer({ a: [9, 9, 9, 9, 9], b: [1] }).length, task.maxNewTokens - 2, 'and a stop token');
});

t.test('problems have one to five digits without leading zeros', async (t) => {
  const random = randomStream(1, 'test');
  const numbers = Array.from({ length: 2000 }, () => task.problem(random)).flatMap(({ a, b }) => [a, b]);
  t.strictSame(
    [...new Set(numbers.map(({ length }) => length))].toSorted((a, b) => a - b),
    [1, 2, 3, 4, 5],
  );
  t.ok(numbers.every((digits) => digits.length === 1 || digits[0] !== 0));
  t.ok(
    numbers.some((digits) => digits.length === 1 && digits[0] === 0),
    '0 itself is there',
  );
});

t.test('the writer is wrong in length as well as in carries, the same for a seed', async (t) => {
  for (const seed of [0, 1]) {
    const write = task.noisyWriter(seed);
    const answers = () => {
      const random = randomStream(seed, 'answers');
      return Array.from({ length: 4000 }, () => {
        const problem = task.problem(random);
        return { right: task.rightAnswer(problem), written: write(problem, random) };
      });
    };
    const all = answers();
    t.strictSame(answers(), all);
    const share = (is: (one: (typeof all)[number]) => boolean) => all.filter(is).length / all.length;
    const right = share(({ right, written }) => right === written);
    const short = share(({ right, written }) => written.length < right.length);
    const long = share(({ right, written }) => written.length > right.length);
    t.ok(right > 0.35 && right < 0.45, `right ${right}`);
    t.ok(short > 0.1 && short < 0.2, `too short ${short}`);
    t.ok(long > 0.1 && long < 0.2, `too long ${long}`);
    const reachesLimit = share(({ written }) => written.length + 1 > task.maxNewTokens);
    t.ok(reachesLimit > 0.02, `${reachesLimit} do not fit the limit`);
    t.ok(
      all.every(({ written }) => written.length % 2 === 0),
      'whole columns',
    );
  }
});
