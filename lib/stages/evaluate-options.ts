import type { TaskProblem } from '../data/datasets.js';
import { optionsContext, type TaskDefinition } from '../data/task-definitions.js';
import { accuracyOf } from '../accuracy.js';
import { CreamError } from '../errors.js';
import type { Accuracy } from '../types.js';

// Multiple choice by likelihood, with no text generated: the model "chooses" the option that it finds likeliest after
// the question. The rules are those of lm-evaluation-harness 0.4 (https://github.com/EleutherAI/lm-evaluation-harness,
// output_type: multiple_choice), zero-shot and without a chat template, so that its numbers can be compared with.

/** What the stage needs of a model: `Model` of lib/native/model.ts has it. */
export interface OptionScorer {
  /** Summed log-probs of the responses after their prompt, which is computed once. */
  score(
    groups: { promptIds: readonly number[]; responses: readonly (readonly number[])[] }[],
    options: { maxTokensPerBatch: number; signal?: AbortSignal },
  ): Promise<{ logprobs: number[] }[]>;
}

/** What the stage needs of a tokenizer: `Tokenizer` of lib/data/tokenizer.ts has it. */
export interface OptionTokenizer {
  encodeAll(
    texts: readonly string[],
    options: { addSpecialTokens: boolean; signal?: AbortSignal },
  ): Promise<number[][]>;
}

export interface OptionsEvaluation {
  name: string;
  /** The likeliest option is the right one. */
  acc: Accuracy;
  /** As acc, with log-probs divided by the characters of the option. */
  acc_norm: Accuracy;
  records: ScoredOptions[];
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
  acc_norm: { answer: string; correct: boolean };
}

export interface OptionsRequest {
  /** Name of the task in records. */
  name: string;
  /** How the question is worded; `Question: ...\nAnswer:` without. */
  task?: TaskDefinition | undefined;
  /** Use only the first problems. */
  limit?: number | undefined;
  /** Limit of question + option in tokens. */
  maxLength?: number;
  maxTokensPerBatch: number;
  signal?: AbortSignal;
  /** Called as problems are done. */
  onProblem?: (done: number, total: number) => void;
}

const PROBLEMS_PER_CALL = 64;

/** `acc` and `acc_norm` of a model on multiple choice problems; every problem counts. */
export async function evaluateOptions(
  problems: readonly TaskProblem[],
  model: OptionScorer,
  tokenizer: OptionTokenizer,
  request: OptionsRequest,
): Promise<OptionsEvaluation> {
  const { name, maxTokensPerBatch, signal } = request;
  const used = problems.slice(0, request.limit);
  if (used.length === 0) throw new CreamError('INVALID_DATA', `task ${name} has no problems to measure on`);
  const records: ScoredOptions[] = [];
  for (let start = 0; start < used.length; start += PROBLEMS_PER_CALL) {
    const chunk = used.slice(start, start + PROBLEMS_PER_CALL);
    const contexts = chunk.map((problem) => contextOf(problem, request));
    const groups = await tokenize(chunk, contexts, tokenizer, request);
    const scores = await model.score(groups, { maxTokensPerBatch, ...(signal && { signal }) });
    records.push(
      ...chunk.map((problem, i) =>
        verdict(problem, { name, context: contexts[i]!, logprobs: scores[i]!.logprobs }),
      ),
    );
    request.onProblem?.(records.length, used.length);
  }
  return { name, ...summarizeOptions(records), records };
}

export function summarizeOptions(records: readonly ScoredOptions[]): { acc: Accuracy; acc_norm: Accuracy } {
  return {
    acc: accuracyOf(records.map(({ acc }) => [acc.correct])),
    acc_norm: accuracyOf(records.map(({ acc_norm }) => [acc_norm.correct])),
  };
}

function contextOf({ id, question, choices }: TaskProblem, { name, task }: OptionsRequest): string {
  if (choices !== undefined && question !== '') return optionsContext(task, question);
  throw new CreamError(
    'INVALID_DATA',
    `task ${name}, problem ${id} has no ${question === '' ? 'question' : 'choices'}: scoring by options needs {question, choices, label}; use scoring: generate`,
  );
}

/**
 * The harness's rule: question and option are tokenised together, and what goes beyond the tokens of the question
 * alone is the option. Spaces at the question's end belong to the option.
 */
async function tokenize(
  chunk: readonly TaskProblem[],
  contexts: readonly string[],
  tokenizer: OptionTokenizer,
  { name, maxLength, signal }: OptionsRequest,
): Promise<{ promptIds: number[]; responses: number[][] }[]> {
  const options = { addSpecialTokens: true, ...(signal && { signal }) };
  const promptIds = await tokenizer.encodeAll(
    contexts.map((context) => context.trimEnd()),
    options,
  );
  const texts = chunk.flatMap(({ choices }, i) =>
    Object.values(choices!).map((choice) => `${contexts[i]!} ${choice}`),
  );
  const wholes = await tokenizer.encodeAll(texts, options);
  let next = 0;
  return chunk.map(({ id, choices }, i) => {
    const prompt = promptIds[i]!;
    const responses = Object.keys(choices!).map((letter) => {
      const whole = wholes[next++]!;
      if (whole.length <= prompt.length) {
        throw new CreamError(
          'INVALID_DATA',
          `task ${name}, problem ${id}: option ${letter} adds no token to the question with this tokenizer`,
        );
      }
      if (maxLength !== undefined && whole.length > maxLength) {
        throw new CreamError(
          'INVALID_DATA',
          `task ${name}, problem ${id}: question and option ${letter} are ${whole.length} tokens, more than ${maxLength}; remove the problem`,
        );
      }
      return whole.slice(prompt.length);
    });
    return { promptIds: prompt, responses };
  });
}

/** Of equals the first, as numpy.argmax. */
const largest = (values: readonly number[]) => values.indexOf(Math.max(...values));

function verdict(
  { id, choices, label }: TaskProblem,
  { name, context, logprobs }: { name: string; context: string; logprobs: readonly number[] },
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
    acc_norm: chosen(logprobs.map((logprob, i) => logprob / lengths[i]!)),
  };
}
