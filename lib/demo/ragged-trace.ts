// The task "ragged trace": carry trace with numbers of one to five digits (or another number of them) without padding,
// so that answers have 3 to 11 tokens. Its writer also stops before the last column or goes on after it, and an answer that goes on may reach
// the length limit: length and truncation can mislead a reward here.

import { habitTable, rightAnswer } from './carry-trace.js';
import { MODEL_CONFIG } from './checkpoint.js';
import { type Problem, randomStream, type ToyTask } from './task.js';

const MOST_EXTRA_COLUMNS = 3;

/** Lengths are uniform from 1 to `mostDigits`, each number for itself; the first digit of a longer one is not 0. */
export function raggedProblem(random: () => number, mostDigits: number): Problem {
  const digits = () => {
    const length = 1 + Math.floor(random() * mostDigits);
    const least = length > 1 ? 1 : 0;
    return Array.from({ length }, (_, i) => {
      const from = i === 0 ? least : 0;
      return from + Math.floor(random() * (10 - from));
    });
  };
  return { a: digits(), b: digits() };
}

/**
 * Habits by the digits x and y of a column, fixed by the seed: he forgets a carry before it, invents one, ends the
 * answer before it, or, where it is the last one, writes a column of nothing after it (and another one as likely).
 */
export function raggedWriter(seed: number): (problem: Problem, random: () => number) => string {
  const habits = randomStream(seed, 'habits');
  const forget = habitTable(habits, 0.7);
  const phantom = habitTable(habits, 0.2);
  const stop = habitTable(habits, 0.12);
  const goOn = habitTable(habits, 0.4);
  return ({ a, b }, random) => {
    const columns = Math.max(a.length, b.length);
    let text = '';
    let carry = 0;
    let last = 0;
    const writeColumn = (sum: number) => {
      text += sum % 10;
      carry = sum >= 10 ? 1 : 0;
    };
    for (let column = 0; column < columns; column++) {
      const x = a[a.length - 1 - column] ?? 0;
      const y = b[b.length - 1 - column] ?? 0;
      if (column > 0) {
        if (random() < stop(x, y)) return text + carry;
        if (random() < (carry === 1 ? forget : phantom)(x, y)) carry = 1 - carry;
        text += carry;
      }
      writeColumn(x + y + carry);
      last = goOn(x, y);
    }
    for (let extra = 0; extra < MOST_EXTRA_COLUMNS && random() < last; extra++) {
      text += carry;
      writeColumn(carry);
    }
    return text + carry;
  };
}

export const raggedTrace = (mostDigits = 5): ToyTask => ({
  name: `ragged trace of ${mostDigits} digits`,
  problem: (random) => raggedProblem(random, mostDigits),
  rightAnswer,
  noisyWriter: raggedWriter,
  // The longest right answer has one less; one extra column after it would need one more.
  maxNewTokens: 2 * mostDigits + 2,
  model: MODEL_CONFIG,
  pretraining: { steps: 1500, batchSize: 192, learningRate: 3e-3 },
});
