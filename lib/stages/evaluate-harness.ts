import type { TaskProblem } from '../data/datasets.js';
import {
  ANSWER_FILTER_NAMES,
  type AnswerFilter,
  HARNESS_NEW_TOKENS,
  type HarnessDefinition,
  harnessVerdict,
  TARGET_DELIMITER,
  trimEndAsPython,
} from '../data/harness.js';
import { cutAt } from '../data/stop-strings.js';
import { accuracyOf } from '../accuracy.js';
import type { AnswerGenerator } from '../answer-generator.js';
import { CreamError } from '../errors.js';
import {
  choiceVerdict,
  type OptionScorer,
  type OptionTokenizer,
  type ScoredOptions,
  summarizeOptions,
} from '../option-verdict.js';
import type { Accuracy, FinishReason, Placed } from '../types.js';

// The paper's tasks as lm-evaluation-harness 0.4.13 measures them on a causal model without a chat template
// (models/huggingface.py): its prompts, its cuts to the context, its filters. Equal item by item.

/** What the stage needs of a tokenizer: `Tokenizer` of lib/data/tokenizer.ts has it. */
export interface HarnessTokenizer extends OptionTokenizer {
  readonly eosIds: readonly number[];
  decode(ids: readonly number[], options: { skipSpecialTokens: boolean }): string;
}

export interface HarnessRequest {
  /** Name of the task in records. */
  name: string;
  task: HarnessDefinition;
  /** The model's context in tokens; longer texts lose their beginning, as the harness cuts them. */
  contextLength: number;
  /** Limit of a written answer in tokens. Default the harness's, 256. */
  maxNewTokens?: number | undefined;
  maxTokensPerBatch: number;
  signal?: AbortSignal;
  /** Called as problems are done. */
  onProblem?: (done: number, total: number) => void;
}

/** A problem and the text that the model goes on from: see harnessContexts. */
export interface PosedProblem {
  problem: TaskProblem;
  context: string;
}

/** A written answer, one line of the evaluation's file; the filters' verdicts are there by their names. */
export type FilteredAnswer = {
  id: string;
  task: string;
  context: string;
  label: string;
  /** Cut before the first stop string. */
  text: string;
  ids: number[];
  finishReason: FinishReason;
} & Record<AnswerFilter, { answer: string; correct: boolean }>;

export type HarnessLine = ScoredOptions | FilteredAnswer;

export type HarnessSummary = Partial<Record<'acc' | 'acc_norm' | AnswerFilter, Accuracy>>;

/** The harness's measurement of a task, in the order of the problems. */
export async function evaluateHarness(
  posed: readonly PosedProblem[],
  model: OptionScorer & AnswerGenerator,
  tokenizer: HarnessTokenizer,
  request: HarnessRequest,
): Promise<HarnessLine[]> {
  if (posed.length === 0) {
    throw new CreamError('INVALID_DATA', `task ${request.name} has no problems to measure on`);
  }
  return request.task.answer === 'choice'
    ? scoreChoices(posed, model, tokenizer, request)
    : writeAnswers(posed, model, tokenizer, request);
}

/** exact_match by filter, or acc and, where the harness reports it, acc_norm. */
export function summarizeHarness(lines: readonly HarnessLine[]): HarnessSummary {
  const options = lines.filter((line) => 'acc' in line);
  if (options.length > 0) return summarizeOptions(options);
  const answers = lines.filter((line): line is FilteredAnswer => !('acc' in line));
  return Object.fromEntries(
    ANSWER_FILTER_NAMES.map((filter) => [filter, accuracyOf(answers.map((line) => [line[filter].correct]))]),
  );
}

const PROBLEMS_PER_CALL = 64;

async function scoreChoices(
  posed: readonly PosedProblem[],
  model: OptionScorer,
  tokenizer: OptionTokenizer,
  request: HarnessRequest,
): Promise<ScoredOptions[]> {
  const { name, task, maxTokensPerBatch, signal, onProblem } = request;
  const lines: ScoredOptions[] = [];
  for (let start = 0; start < posed.length; start += PROBLEMS_PER_CALL) {
    const chunk = posed.slice(start, start + PROBLEMS_PER_CALL);
    const groups = await optionGroups(chunk, tokenizer, request);
    const scored = await model.score(groups.flat(), { maxTokensPerBatch, ...(signal && { signal }) });
    let next = 0;
    chunk.forEach(({ problem, context }, i) => {
      const own = scored.slice(next, next + groups[i]!.length);
      next += own.length;
      const logprobs = own.flatMap((group) => group.logprobs);
      lines.push(choiceVerdict(problem, { name, context, logprobs, hasNorm: task.harness.hasNorm === true }));
    });
    onProblem?.(lines.length, posed.length);
  }
  return lines;
}

/** One group per problem, or one per option where an option does not fit and the question loses its beginning for it. */
async function optionGroups(
  chunk: readonly PosedProblem[],
  tokenizer: OptionTokenizer,
  { name, contextLength, signal }: HarnessRequest,
): Promise<{ promptIds: number[]; responses: number[][] }[][]> {
  const options = { addSpecialTokens: true, ...(signal && { signal }) };
  const contexts = await tokenizer.encodeAll(
    chunk.map(({ context }) => trimEndAsPython(context)),
    options,
  );
  const texts = chunk.flatMap(({ problem, context }) =>
    Object.values(problem.choices!).map((choice) => `${context}${TARGET_DELIMITER}${choice}`),
  );
  const wholes = await tokenizer.encodeAll(texts, options);
  let next = 0;
  return chunk.map(({ problem: { id, choices } }, i) => {
    const promptIds = contexts[i]!;
    const responses = Object.keys(choices!).map((letter) => {
      const response = wholes[next++]!.slice(promptIds.length);
      const problem = `task ${name}, problem ${id}: option ${letter}`;
      if (response.length === 0) {
        throw new CreamError('INVALID_DATA', `${problem} adds no token to the question with this tokenizer`);
      }
      if (response.length > contextLength) {
        const sizes = `${response.length} tokens, more than the context of ${contextLength}`;
        throw new CreamError('INVALID_DATA', `${problem} has ${sizes}; remove the problem`);
      }
      return response;
    });
    // The last token is only asked for, so that one more than the context fits.
    const excess = responses.map((response) => promptIds.length + response.length - contextLength - 1);
    if (excess.every((count) => count <= 0)) return [{ promptIds, responses }];
    return responses.map((response, o) => ({
      promptIds: promptIds.slice(Math.max(0, excess[o]!)),
      responses: [response],
    }));
  });
}

async function writeAnswers(
  posed: readonly PosedProblem[],
  model: AnswerGenerator,
  tokenizer: HarnessTokenizer,
  request: HarnessRequest,
): Promise<FilteredAnswer[]> {
  const lines: FilteredAnswer[] = [];
  let done = 0;
  for await (const { index, result } of harnessAnswers(posed, model, tokenizer, request)) {
    lines[index] = result;
    done += 1;
    request.onProblem?.(done, posed.length);
  }
  return lines;
}

/** The answers to problems whose answers are written, as they come. All problems are one request. */
export async function* harnessAnswers(
  posed: readonly PosedProblem[],
  model: AnswerGenerator,
  tokenizer: HarnessTokenizer,
  request: Omit<HarnessRequest, 'maxTokensPerBatch' | 'onProblem'>,
): AsyncGenerator<Placed<FilteredAnswer>, void, undefined> {
  const { name, task, contextLength, maxNewTokens = HARNESS_NEW_TOKENS, signal } = request;
  const room = contextLength - maxNewTokens;
  if (room <= 0) {
    throw new CreamError(
      'INVALID_ARGUMENT',
      `task ${name}: an answer of ${maxNewTokens} tokens leaves no room in the model's context of ${contextLength}; lower maxNewTokens`,
    );
  }
  const encoded = await tokenizer.encodeAll(
    posed.map(({ context }) => context),
    { addSpecialTokens: true, ...(signal && { signal }) },
  );
  const until = task.harness.until ?? [];
  const missing = new Set(posed.keys());
  const generated = model.generate({
    prompts: encoded.map((ids, i) => ({ id: posed[i]!.problem.id, ids: ids.slice(-room) })),
    maxNewTokens,
    temperature: 0,
    stopIds: tokenizer.eosIds,
    stream: `evaluate/${name}/harness`,
    ...(signal && { signal }),
  });
  for await (const { promptIndex, ids, finishReason } of generated) {
    const { problem, context } = posed[promptIndex]!;
    const written = Array.from(ids);
    const text = cutAt(tokenizer.decode(written, { skipSpecialTokens: true }), until);
    const verdicts = Object.fromEntries(
      ANSWER_FILTER_NAMES.map((filter) => [
        filter,
        harnessVerdict(filter, text, problem.answer ?? problem.label),
      ]),
    ) as Record<AnswerFilter, { answer: string; correct: boolean }>;
    const { id, label } = problem;
    missing.delete(promptIndex);
    yield {
      index: promptIndex,
      result: { id, task: name, context, label, text, ids: written, finishReason, ...verdicts },
    };
  }
  const [first] = missing;
  if (first === undefined) return;
  throw new CreamError('NATIVE', `problem ${posed[first]!.problem.id}: the engine gave no answer`);
}
