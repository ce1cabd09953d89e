import { gradeResponse } from '../data/answers.js';
import type { TaskProblem } from '../data/datasets.js';
import { cutAt } from '../data/stop-strings.js';
import { checkLabels } from '../data/labels.js';
import { type Extraction, resolveExtraction, taskPrompt } from '../data/tasks.js';
import type { TooLong } from '../data/too-long.js';
import type { ChatMode } from '../data/tokenizer.js';
import { accuracyOf } from '../accuracy.js';
import type { AnswerGenerator } from '../answer-generator.js';
import { CreamError } from '../errors.js';
import type { Accuracy, FinishReason, Placed, PromptInput } from '../types.js';

/** What the stage needs of a tokenizer: `Tokenizer` of lib/data/tokenizer.ts has it. */
export interface AnswerTokenizer {
  readonly eosIds: readonly number[];
  promptIdsAll(
    prompts: readonly { id: string; prompt: PromptInput }[],
    options: { chat?: ChatMode; signal?: AbortSignal },
  ): Promise<number[][]>;
  decode(ids: readonly number[], options: { skipSpecialTokens: boolean }): string;
}

export interface EvaluateOptions {
  /** Name of the task: part of the random stream and of every record. */
  name: string;
  extract?: Extraction;
  chat?: ChatMode;
  maxNewTokens: number;
  /** An answer ends before the first of these texts; base models go on with the next problem. */
  stop?: readonly string[];
  /** Sampled answers per problem besides the greedy one. Default 0. */
  samples?: number;
  /** Of the sampled answers. Default 1. */
  temperature?: number;
  topP?: number;
  seed?: number | bigint;
  /** Use only the first problems. */
  limit?: number | undefined;
  /** Limit of prompt + answer in tokens; a problem without room for its answer is an error: see {@link problemsWithRoom}. */
  maxLength?: number;
  signal?: AbortSignal;
  /** Called as answers finish. */
  onAnswer?: (done: number, total: number) => void;
}

export interface Answer {
  /** Cut before the first stop string. */
  text: string;
  /** As generated. */
  ids: number[];
  /** `stop` also where a stop string ended the text. */
  finishReason: FinishReason;
  /** As it was read; null when the response states none. */
  answer: string | null;
  correct: boolean;
}

/** One line of the evaluation's file. */
export interface EvaluatedProblem {
  id: string;
  task: string;
  prompt: PromptInput;
  label: string;
  greedy: Answer;
  samples?: Answer[];
}

/** Answers that are wrong because nothing could be read, and answers that reached the length limit. */
export interface AnswerFaults {
  unparsable: number;
  truncated: number;
}

export interface Evaluation {
  name: string;
  greedy: Accuracy & AnswerFaults;
  /** Over `samples` answers per problem; absent without samples. */
  sampled?: Accuracy & AnswerFaults;
  records: EvaluatedProblem[];
}

/**
 * Accuracy of a model on a held-out task: one greedy answer per problem and, with `samples`, sampled ones. Every
 * problem counts; an answer that cannot be read is wrong and counted as unparsable.
 */
export async function evaluate(
  problems: readonly TaskProblem[],
  model: AnswerGenerator,
  tokenizer: AnswerTokenizer,
  options: EvaluateOptions,
): Promise<Evaluation> {
  const { name, samples = 0 } = options;
  const used = problems.slice(0, options.limit);
  const total = used.length * (1 + samples);
  let done = 0;
  const counting = {
    ...options,
    onAnswer: () => {
      done += 1;
      options.onAnswer?.(done, total);
    },
  };
  const records: EvaluatedProblem[] = [];
  for await (const { index, result } of greedyAnswers(used, model, tokenizer, counting)) {
    records[index] = result;
  }
  if (samples > 0) {
    for await (const { index, result } of sampledAnswers(used, model, tokenizer, counting)) {
      records[index]!.samples = result.samples;
    }
  }
  const evaluation: Evaluation = {
    name,
    greedy: summarizeAnswers(records.map(({ greedy }) => [greedy])),
    records,
  };
  if (samples > 0) evaluation.sampled = summarizeAnswers(records.map((record) => record.samples!));
  return evaluation;
}

type StreamOptions = Omit<EvaluateOptions, 'onAnswer' | 'limit'> & { onAnswer?: () => void };

/** Every problem with its greedy answer, as soon as that is there. All problems are one request. */
export async function* greedyAnswers(
  problems: readonly TaskProblem[],
  model: AnswerGenerator,
  tokenizer: AnswerTokenizer,
  options: StreamOptions,
): AsyncGenerator<Placed<EvaluatedProblem>, void, undefined> {
  const { name } = options;
  const request = { n: 1, temperature: 0, stream: `evaluate/${name}/greedy` };
  for await (const { index, result } of answers(problems, model, tokenizer, options, request)) {
    const { id, label } = problems[index]!;
    const [greedy] = result.answers as [Answer];
    yield { index, result: { id, task: name, prompt: result.prompt, label, greedy } };
  }
}

/** The sampled answers of every problem, as soon as all of its are there. All problems are one request. */
export async function* sampledAnswers(
  problems: readonly TaskProblem[],
  model: AnswerGenerator,
  tokenizer: AnswerTokenizer,
  options: StreamOptions,
): AsyncGenerator<Placed<{ id: string; samples: Answer[] }>, void, undefined> {
  const { name, samples = 0, temperature = 1, topP = 1 } = options;
  const request = { n: samples, temperature, topP, stream: `evaluate/${name}/samples` };
  for await (const { index, result } of answers(problems, model, tokenizer, options, request)) {
    yield { index, result: { id: problems[index]!.id, samples: result.answers } };
  }
}

const promptsOf = (problems: readonly TaskProblem[], extract: Extraction) =>
  problems.map((problem) => ({
    id: problem.id,
    prompt: problem.prompt ?? taskPrompt(problem, resolveExtraction(extract, problem)),
  }));

/** The problems whose prompts leave room for a token of an answer within `maxLength`, and the others. */
export async function problemsWithRoom(
  problems: readonly TaskProblem[],
  tokenizer: AnswerTokenizer,
  options: Pick<EvaluateOptions, 'extract' | 'chat' | 'signal'> & { maxLength: number },
): Promise<{ fitting: TaskProblem[]; tooLong: TooLong[] }> {
  const { extract = 'auto', chat, signal, maxLength } = options;
  const promptIds = await tokenizer.promptIdsAll(promptsOf(problems, extract), {
    ...(chat === undefined ? {} : { chat }),
    ...(signal === undefined ? {} : { signal }),
  });
  const tokensOf = (i: number) => promptIds[i]!.length;
  return {
    fitting: problems.filter((_, i) => tokensOf(i) < maxLength),
    tooLong: problems.flatMap(({ id }, i) => (tokensOf(i) < maxLength ? [] : [{ id, tokens: tokensOf(i) }])),
  };
}

async function* answers(
  problems: readonly TaskProblem[],
  model: AnswerGenerator,
  tokenizer: AnswerTokenizer,
  options: StreamOptions,
  request: { n: number; temperature: number; topP?: number; stream: string },
): AsyncGenerator<Placed<{ prompt: PromptInput; answers: Answer[] }>, void, undefined> {
  const { name, extract = 'auto', chat, signal } = options;
  if (problems.length === 0)
    throw new CreamError('INVALID_DATA', `task ${name} has no problems to measure on`);
  checkLabels(problems, extract, `task ${name}`);
  const prompts = promptsOf(problems, extract);
  const promptIds = await tokenizer.promptIdsAll(prompts, {
    ...(chat === undefined ? {} : { chat }),
    ...(signal === undefined ? {} : { signal }),
  });
  checkRoom(prompts, promptIds, options);
  const generated = model.generate({
    prompts: prompts.map(({ id }, i) => {
      const ids = promptIds[i]!;
      const room = (options.maxLength ?? Infinity) - ids.length;
      return { id, ids, ...(room < options.maxNewTokens && { maxNewTokens: room }) };
    }),
    maxNewTokens: options.maxNewTokens,
    stopIds: tokenizer.eosIds,
    seed: options.seed ?? 0,
    ...(signal === undefined ? {} : { signal }),
    ...request,
  });
  const begun = new Map<number, { found: Answer[]; left: number }>();
  let left = problems.length;
  for await (const { promptIndex, sample, ids, finishReason: ended } of generated) {
    const list = Array.from(ids);
    const written = tokenizer.decode(list, { skipSpecialTokens: true });
    const text = cutAt(written, options.stop ?? []);
    const finishReason = text.length < written.length ? 'stop' : ended;
    const grade = gradeResponse({ text, finishReason }, problems[promptIndex]!, extract);
    const own = begun.get(promptIndex) ?? { found: [], left: request.n };
    begun.set(promptIndex, own);
    own.found[sample] = { text, ids: list, finishReason, ...grade };
    own.left -= 1;
    options.onAnswer?.();
    if (own.left > 0) continue;
    left -= 1;
    begun.set(promptIndex, { found: [], left: 0 });
    yield { index: promptIndex, result: { prompt: prompts[promptIndex]!.prompt, answers: own.found } };
  }
  if (left === 0) return;
  const missing = problems.findIndex((_, i) => begun.get(i)?.left !== 0);
  throw new CreamError('NATIVE', `problem ${problems[missing]!.id}: the engine gave no answer`);
}

/** Accuracy over problems, each with as many answers, and what is wrong with the answers. */
export function summarizeAnswers(answers: readonly (readonly Answer[])[]): Accuracy & AnswerFaults {
  const all = answers.flat();
  return {
    ...accuracyOf(answers.map((list) => list.map(({ correct }) => correct))),
    unparsable: all.filter(({ answer }) => answer === null).length,
    truncated: all.filter(({ finishReason }) => finishReason === 'length').length,
  };
}

function checkRoom(
  prompts: readonly { id: string }[],
  promptIds: readonly number[][],
  { name, maxLength }: StreamOptions,
): void {
  if (maxLength === undefined) return;
  for (const [i, { id }] of prompts.entries()) {
    const length = (promptIds[i] as number[]).length;
    if (length < maxLength) continue;
    const sum = `${length} tokens leave no room for an answer within ${maxLength}`;
    throw new CreamError('INVALID_DATA', `task ${name}, problem ${id}: ${sum}; leave it out`);
  }
}
