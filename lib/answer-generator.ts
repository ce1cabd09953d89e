import type { FinishReason } from './types.js';

/** What writing answers needs of a model: `Model` of lib/native/model.ts has it. */
export interface AnswerGenerator {
  generate(request: {
    prompts: { id: string; ids: readonly number[] }[];
    n?: number;
    maxNewTokens: number;
    temperature?: number;
    topP?: number;
    stopIds?: readonly number[];
    seed?: number | bigint;
    stream?: string;
    signal?: AbortSignal;
  }): AsyncIterable<{ promptIndex: number; sample: number; ids: Int32Array; finishReason: FinishReason }>;
}
