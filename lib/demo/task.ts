// What the demo and the experiment need of a task: problems, right answers, a writer with bad habits, and how a base
// model is trained on what he writes.

import { createHash } from 'node:crypto';

/** Two addends as digits, most significant first. */
export interface Problem {
  a: readonly number[];
  b: readonly number[];
}

export interface Pretraining {
  steps: number;
  batchSize: number;
  learningRate: number;
}

/** A task small enough that a model learns it from random weights in minutes. */
export interface ToyTask {
  /** Names its random streams' owner in messages. */
  name: string;
  problem(random: () => number): Problem;
  rightAnswer(problem: Problem): string;
  /** Someone who answers with systematic mistakes, fixed by the seed. */
  noisyWriter(seed: number): (problem: Problem, random: () => number) => string;
  /** Limit of an answer in tokens, the stop token included. */
  maxNewTokens: number;
  /** config.json of the model. */
  model: Readonly<Record<string, unknown>>;
  pretraining: Pretraining;
}

/** "3141+592=". */
export function promptOf({ a, b }: Problem): string {
  return `${a.join('')}+${b.join('')}=`;
}

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
