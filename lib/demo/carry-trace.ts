// The task "carry trace": add two 4-digit numbers, least significant column first, writing each column's digit
// and carry. Small enough to learn in a minute, and its noisy corpus plants systematic mistakes that a
// self-rewarding loop can amplify or unlearn. docs/demo.md tells what was found on it.

import { createHash } from 'node:crypto';

/** Two addends as digits, most significant first. */
export interface Problem {
  a: readonly number[];
  b: readonly number[];
}

const WIDTH = 4;

/** A stream of uniform numbers in [0, 1) that depends on its name and the seed alone. */
export function randomStream(seed: number, name: string): () => number {
  let block = Buffer.alloc(0);
  let offset = 0;
  let counter = 0;
  return () => {
    if (offset >= block.length) {
      block = createHash('sha256').update(`${seed}\0${name}\0${counter++}`).digest();
      offset = 0;
    }
    const value = block.readUInt32LE(offset) / 2 ** 32;
    offset += 4;
    return value;
  };
}

export function randomProblem(random: () => number): Problem {
  const digits = () => Array.from({ length: WIDTH }, () => Math.floor(random() * 10));
  return { a: digits(), b: digits() };
}

/** "3141+0592=": leading zeros are kept, so that every prompt has one length. */
export function promptOf({ a, b }: Problem): string {
  return `${a.join('')}+${b.join('')}=`;
}

/**
 * d0 c1 d1 c2 d2 c3 d3 c4: digits and carries from the right. `slip` may change a carry on its way into a column
 * (of digits x and y); what follows is computed from what was written.
 */
function write({ a, b }: Problem, slip: (carry: number, x: number, y: number) => number): string {
  let text = '';
  let carry = 0;
  for (let column = 0; column < WIDTH; column++) {
    const x = a[WIDTH - 1 - column] as number;
    const y = b[WIDTH - 1 - column] as number;
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

/**
 * A writer with bad habits, fixed by the seed: before digits x and y he forgets a carry with probability
 * forget[x][y], uniform in [0, maxForget), and invents one with probability phantom[x][y], in [0, 0.25).
 */
export function noisyWriter(
  seed: number,
  maxForget = 0.9,
): (problem: Problem, random: () => number) => string {
  const habits = randomStream(seed, 'habits');
  const table = (limit: number) => Array.from({ length: 100 }, () => habits() * limit);
  const forget = table(maxForget);
  const phantom = table(0.25);
  return (problem, random) =>
    write(problem, (carry, x, y) => {
      const probability = (carry === 1 ? forget : phantom)[10 * x + y] as number;
      return random() < probability ? 1 - carry : carry;
    });
}
