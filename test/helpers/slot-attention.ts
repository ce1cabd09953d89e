import { createRequire } from 'node:module';
import { addonPath } from '../../lib/native/binding.js';
import { GPU } from './gpu.js';
import { normal } from './random.js';

// Attention of a decode step on the GPU's path, in slots and with prompts that rows share, beside its definition in float64.
// Memory that no token was written to is NaN, and so is the scratch memory at first.

type Attention = { out: Float64Array; reference: Float64Array };
const ops = createRequire(import.meta.url)(addonPath()) as {
  _slotAttention(options: object): Attention;
};

export type Shape = { heads: number; kvHeads: number; headDim: number; window?: number };
export type Kernel = 'plain' | 'tiles' | 'ring' | 'auto';
export type Rows = readonly (readonly [prompt: number, own: number])[];

const whole = (tokens: number) => Math.ceil(tokens / 16) * 16;

export function attend(
  { heads, kvHeads, headDim, window = 0 }: Shape,
  prompts: readonly number[],
  rows: Rows,
  options: {
    kernel: Kernel;
    dtype: 'float32' | 'bfloat16';
    pieceTokens?: number;
    itemRows?: number;
    groupRows?: number;
  },
): Attention {
  const slotTokens = Math.max(...rows.map(([, own]) => whole(Math.max(own, 0))));
  const tokens = prompts.reduce((sum, length) => sum + whole(length), 0) + rows.length * slotTokens;
  return ops._slotAttention({
    // Scores of size 3: weights that differ, and none that is alone.
    qkv: normal(rows.length * (heads + 2 * kvHeads) * headDim, { seed: 1, scale: 1.7 }),
    memory: normal(2 * 2 * kvHeads * tokens * headDim, { seed: 2, scale: 1.7 }),
    prompts: Int32Array.from(prompts),
    rows: Int32Array.from(rows.flat()),
    heads,
    kvHeads,
    headDim,
    window,
    device: GPU,
    pieceTokens: 256,
    itemRows: 64,
    groupRows: 5,
    ...options,
  });
}

/** bfloat16: the output's rounding, 2^-9 of it, and as much again where it is near zero. */
export const TOLERANCE = {
  float32: { rtol: 2e-5, atol: 2e-5 },
  bfloat16: { rtol: 2 ** -8, atol: 2e-4 },
} as const;

export const siblings = (prompt: number, owns: number[]) => owns.map((own) => [prompt, own] as const);

export const BFLOAT16 = (kernel: Kernel) => ({ kernel, dtype: 'bfloat16' }) as const;
