import type { TaskProblem } from '../data/datasets.js';
import { optionsContext, type TaskDefinition } from '../data/task-definitions.js';
import type { TooLong } from '../data/too-long.js';
import { CreamError } from '../errors.js';
import {
  choiceVerdict,
  type OptionScorer,
  type OptionTokenizer,
  type ScoredOptions,
  summarizeOptions,
} from '../option-verdict.js';
import type { Accuracy } from '../types.js';

// Multiple choice by likelihood, with no text generated: the model "chooses" the option that it finds likeliest after
// the question. The rules are those of lm-evaluation-harness 0.4 (https://github.com/EleutherAI/lm-evaluation-harness,
// output_type: multiple_choice), zero-shot and without a chat template, so that its numbers can be compared with.

export interface OptionsEvaluation {
  name: string;
  /** The likeliest option is the right one. */
  acc: Accuracy;
  /** As acc, with log-probs divided by the characters of the option. */
  acc_norm: Accuracy;
  records: ScoredOptions[];
}

export interface OptionsRequest {
  /** Name of the task in records. */
  name: string;
  /** How the question is worded; `Question: ...\nAnswer:` without. */
  task?: TaskDefinition | undefined;
  /** Use only the first problems. */
  limit?: number | undefined;
  /** Limit of question + option in tokens; a problem beyond it is an error: see {@link optionsWithRoom}. */
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
        choiceVerdict(problem, { name, context: contexts[i]!, logprobs: scores[i]!.logprobs }),
      ),
    );
    request.onProblem?.(records.length, used.length);
  }
  const { acc, acc_norm } = summarizeOptions(records);
  return { name, acc, acc_norm: acc_norm!, records };
}

function contextOf(
  { id, question, choices }: TaskProblem,
  { name, task }: Pick<OptionsRequest, 'name' | 'task'>,
): string {
  if (choices !== undefined && question !== '') return optionsContext(task, question);
  throw new CreamError(
    'INVALID_DATA',
    `task ${name}, problem ${id} has no ${question === '' ? 'question' : 'choices'}: scoring by options needs {question, choices, label}; use scoring: generate`,
  );
}

/** Ids of every question alone, and of every question with each of its options, in order. */
async function idsOf(
  problems: readonly TaskProblem[],
  contexts: readonly string[],
  tokenizer: OptionTokenizer,
  signal: AbortSignal | undefined,
): Promise<{ promptIds: number[][]; wholes: number[][] }> {
  const options = { addSpecialTokens: true, ...(signal && { signal }) };
  const promptIds = await tokenizer.encodeAll(
    contexts.map((context) => context.trimEnd()),
    options,
  );
  const texts = problems.flatMap(({ choices }, i) =>
    Object.values(choices!).map((choice) => `${contexts[i]!} ${choice}`),
  );
  return { promptIds, wholes: await tokenizer.encodeAll(texts, options) };
}

/** The problems that fit into `maxLength` tokens with each of their options, and the others with their longest. */
export async function optionsWithRoom(
  problems: readonly TaskProblem[],
  tokenizer: OptionTokenizer,
  request: Pick<OptionsRequest, 'name' | 'task' | 'signal'> & { maxLength: number },
): Promise<{ fitting: TaskProblem[]; tooLong: TooLong[] }> {
  const contexts = problems.map((problem) => contextOf(problem, request));
  const { wholes } = await idsOf(problems, contexts, tokenizer, request.signal);
  let next = 0;
  const longest = problems.map(({ choices }) =>
    Object.keys(choices!).reduce((most) => Math.max(most, wholes[next++]!.length), 0),
  );
  return {
    fitting: problems.filter((_, i) => longest[i]! <= request.maxLength),
    tooLong: problems.flatMap(({ id }, i) =>
      longest[i]! <= request.maxLength ? [] : [{ id, tokens: longest[i]! }],
    ),
  };
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
  const { promptIds, wholes } = await idsOf(chunk, contexts, tokenizer, signal);
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
