import { accuracyOf } from './accuracy.js';
import type { TaskProblem } from './data/datasets.js';
import type { Accuracy } from './types.js';

// What a model makes of the options of a problem, in whatever words it was asked: the verdict on their log-probs.

/** What scoring options needs of a model: `Model` of lib/native/model.ts has it. */
export interface OptionScorer {
  /** Summed log-probs of the responses after their prompt, which is computed once. */
  score(
    groups: { promptIds: readonly number[]; responses: readonly (readonly number[])[] }[],
    options: { maxTokensPerBatch: number; signal?: AbortSignal },
  ): Promise<{ logprobs: number[] }[]>;
}

/** What scoring options needs of a tokenizer: `Tokenizer` of lib/data/tokenizer.ts has it. */
export interface OptionTokenizer {
  encodeAll(
    texts: readonly string[],
    options: { addSpecialTokens: boolean; signal?: AbortSignal },
  ): Promise<number[][]>;
}

/** One line of the evaluation's file. */
export interface ScoredOptions {
  id: string;
  task: string;
  /** What the options follow, after a space. */
  context: string;
  label: string;
  /** Summed log-probs of the options, by letter. */
  logprobs: Record<string, number>;
  acc: { answer: string; correct: boolean };
  /** Absent where the harness does not report it. */
  acc_norm?: { answer: string; correct: boolean };
}

/** Of equals the first, as numpy.argmax. */
const largest = (values: readonly number[]) => values.indexOf(Math.max(...values));

/** What the log-probs of a problem's options, in their order, choose. */
export function choiceVerdict(
  { id, choices, label }: TaskProblem,
  {
    name,
    context,
    logprobs,
    hasNorm = true,
  }: { name: string; context: string; logprobs: readonly number[]; hasNorm?: boolean },
): ScoredOptions {
  const letters = Object.keys(choices!);
  // Python's len: code points, not UTF-16 units.
  const lengths = Object.values(choices!).map((choice) => [...choice].length);
  const chosen = (values: readonly number[]) => {
    const answer = letters[largest(values)]!;
    return { answer, correct: answer === label };
  };
  return {
    id,
    task: name,
    context,
    label,
    logprobs: Object.fromEntries(letters.map((letter, i) => [letter, logprobs[i]!])),
    acc: chosen(logprobs),
    ...(hasNorm && { acc_norm: chosen(logprobs.map((logprob, i) => logprob / lengths[i]!)) }),
  };
}

/** Shares of problems that were right; `acc_norm` where the records have it. */
export function summarizeOptions(records: readonly ScoredOptions[]): { acc: Accuracy; acc_norm?: Accuracy } {
  const norms = records.flatMap(({ acc_norm }) => (acc_norm === undefined ? [] : [[acc_norm.correct]]));
  return {
    acc: accuracyOf(records.map(({ acc }) => [acc.correct])),
    ...(norms.length > 0 && { acc_norm: accuracyOf(norms) }),
  };
}
