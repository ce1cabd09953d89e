import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

// Known answers that test/golden/make.py computed with other software.

const FOLDER = join(dirname(fileURLToPath(import.meta.url)), '..', 'golden');

export function readGolden<T>(name: string): T {
  return JSON.parse(readFileSync(join(FOLDER, `${name}.json`), 'utf8')) as T;
}

/** The folder of a tiny checkpoint. */
export function checkpoint(name: string): string {
  return join(FOLDER, 'checkpoints', name);
}

export interface GoldenArray {
  shape: number[];
  /** Little-endian bytes in base64. */
  float32: string;
}

export function toFloats(array: GoldenArray): Float32Array {
  const bytes = Buffer.from(array.float32, 'base64');
  const floats = new Float32Array(bytes.length / 4);
  for (let index = 0; index < floats.length; index++) floats[index] = bytes.readFloatLE(4 * index);
  return floats;
}

export interface GoldenGradients {
  norms: Record<string, number>;
  arrays: Record<string, GoldenArray>;
}

export interface GoldenPair {
  promptIds: number[];
  chosenIds: number[];
  rejectedIds: number[];
  referenceChosen: number;
  referenceRejected: number;
}

export interface GoldenExample {
  promptIds: number[];
  responseIds: number[];
}

/** test/golden/model-<checkpoint>.json (models.py). */
export interface GoldenModel {
  checkpoint: string;
  numParameters: number;
  logits: { ids: number[]; values: GoldenArray };
  score: {
    groups: { promptIds: number[]; responses: number[][] }[];
    tokenLogprobs: GoldenArray[][];
    bfloat16: { tokenLogprobs: GoldenArray[][]; exact: GoldenArray[][] };
  };
  greedy: { promptIds: number[]; ids: number[]; logprobs: GoldenArray; margin: number };
  sft: { batch: GoldenExample[]; loss: number; gradients: GoldenGradients };
  preference: {
    pairs: GoldenPair[];
    cases: {
      loss: 'sigmoid' | 'hinge' | 'ipo' | 'sigmoid-norm';
      beta: number;
      sftCoefficient: number;
      consistency: number[];
      value: number;
      gradients: GoldenGradients;
    }[];
  };
}

export const CHECKPOINTS = [
  'llama',
  'llama-tied',
  'llama3-rope',
  'llama-linear-rope',
  'llama-bias',
  'mistral',
  'qwen2',
  'qwen2-window',
  'qwen3',
  'llama-sharded',
  'llama-float16',
  'llama-bfloat16',
] as const;
