// The task "carry trace": add two 4-digit numbers, least significant column first, writing each column's digit
// and carry. Small enough to learn in a minute, and its noisy corpus plants systematic mistakes that a
// self-rewarding loop can amplify or unlearn. docs/demo.md tells what was found on it.

import { MODEL_CONFIG } from './checkpoint.js';
import { type Problem, randomStream, type ToyTask } from './task.js';

const WIDTH = 4;

/** Leading zeros are kept, so that every prompt has one length. */
export function randomProblem(random: () => number): Problem {
  const digits = () => Array.from({ length: WIDTH }, () => Math.floor(random() * 10));
  return { a: digits(), b: digits() };
}

/**
 * d0 c1 d1 c2 d2 c3 d3 c4: digits and carries from the right, as many columns as the longer number has. `slip` may
 * change a carry on its way into a column (of digits x and y); what follows is computed from what was written.
 */
function write({ a, b }: Problem, slip: (carry: number, x: number, y: number) => number): string {
  const columns = Math.max(a.length, b.length);
  let text = '';
  let carry = 0;
  for (let column = 0; column < columns; column++) {
    const x = a[a.length - 1 - column] ?? 0;
    const y = b[b.length - 1 - column] ?? 0;
    if (column > 0) {
      carry = slip(carry, x, y);
      text += carry;
    }
    const sum = x + y + carry;
    text += sum % 10;
    carry = sum >= 10 ? 1 : 0;
  }
  return text + carry;
}

export function rightAnswer(problem: Problem): string {
  return write(problem, (carry) => carry);
}

/** A number for every pair of digits, uniform in [0, limit). */
export function habitTable(random: () => number, limit: number): (x: number, y: number) => number {
  const table = Array.from({ length: 100 }, () => random() * limit);
  return (x, y) => table[10 * x + y] as number;
}

/**
 * A writer with bad habits, fixed by the seed: before digits x and y he forgets a carry with probability
 * forget(x, y), uniform in [0, maxForget), and invents one with probability phantom(x, y), in [0, 0.25).
 */
export function noisyWriter(
  seed: number,
  maxForget = 0.9,
): (problem: Problem, random: () => number) => string {
  const habits = randomStream(seed, 'habits');
  const forget = habitTable(habits, maxForget);
  const phantom = habitTable(habits, 0.25);
  return (problem, random) =>
    write(problem, (carry, x, y) => {
      const probability = (carry === 1 ? forget : phantom)(x, y);
      return random() < probability ? 1 - carry : carry;
    });
}

export const carryTrace: ToyTask = {
  name: 'carry trace',
  problem: randomProblem,
  rightAnswer,
  noisyWriter: (seed) => noisyWriter(seed),
  maxNewTokens: 12,
  model: MODEL_CONFIG,
  pretraining: { steps: 1500, batchSize: 192, learningRate: 3e-3 },
};
