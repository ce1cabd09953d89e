import { accuracyOf } from '../accuracy.js';
import type { CreamConfig } from '../config.js';
import { loadTask, type TaskProblem } from '../data/datasets.js';
import { checkProblems, definitionOf } from '../data/task-definitions.js';
import type { Tokenizer } from '../data/tokenizer.js';
import type { Model } from '../native/model.js';
import { type Answer, evaluate, type EvaluatedProblem } from '../stages/evaluate.js';
import { evaluateOptions, type ScoredOptions, summarizeOptions } from '../stages/evaluate-options.js';
import type { Accuracy } from '../types.js';
import type { Run, StageInfo } from './run.js';
import type { AnswerFaults, TaskSummary } from './summary.js';

type Task = CreamConfig['data']['evaluation'][number];
/** A line of a model's evaluation file. */
export type EvaluationLine = EvaluatedProblem | ScoredOptions;

function accuracy(answers: readonly (readonly Answer[])[]): Accuracy & AnswerFaults {
  const all = answers.flat();
  return {
    ...accuracyOf(answers.map((list) => list.map(({ correct }) => correct))),
    unparsable: all.filter(({ answer }) => answer === null).length,
    truncated: all.filter(({ finishReason }) => finishReason === 'length').length,
  };
}

/** The problems of a task as a run measures them. Throws INVALID_DATA where they are not of the kind that it names. */
export async function loadProblems(
  { task, path, scoring }: Pick<Task, 'task' | 'path' | 'scoring'>,
  limit: number | undefined,
  signal?: AbortSignal,
): Promise<{ problems: TaskProblem[]; answersEach: (samples: number) => number }> {
  const { records } = await loadTask(path, signal === undefined ? {} : { signal });
  const definition = definitionOf(task);
  if (definition !== undefined) checkProblems(records, definition, path);
  const answersEach = (samples: number) =>
    (scoring === 'options' ? 0 : 1 + samples) + (scoring === 'generate' ? 0 : 1);
  return { problems: records.slice(0, limit), answersEach };
}

/** A model's accuracy on every held-out task of a run, in chunks of problems that are committed one by one. */
export async function evaluateTasks(
  run: Run,
  tokenizer: Tokenizer,
  maxLength: number,
  model: Model,
  info: StageInfo,
): Promise<{ tasks: TaskSummary[]; records: EvaluationLine[]; metrics: Record<string, number> }> {
  const { data, evaluation, sampling, score, seed } = run.config;
  const { signal } = run;
  const loaded = await Promise.all(
    data.evaluation.map(async (task) => ({
      ...task,
      ...(await loadProblems(task, evaluation.limit, signal)),
    })),
  );
  const { samples } = evaluation;
  const total = loaded.reduce(
    (sum, { problems, answersEach }) => sum + problems.length * answersEach(samples),
    0,
  );
  const rate = run.rate(info, total, 'answers');
  let before = 0;

  /** One way of measuring all problems of a task; `each` answers per problem. */
  const inChunks = async <Result extends EvaluationLine>(
    part: string,
    problems: readonly TaskProblem[],
    each: number,
    work: (chunk: readonly TaskProblem[]) => Promise<Result[]>,
  ): Promise<Result[]> => {
    const results = await run.chunks(info, problems, work, {
      part,
      chunkSize: sampling.chunkSize * sampling.n,
      onChunk: (done, isNew) => rate.reached(before + done * each, isNew),
    });
    before += problems.length * each;
    return results;
  };

  const tasks: TaskSummary[] = [];
  const records: EvaluationLine[] = [];
  for (const { name, task, extract, scoring, problems } of loaded) {
    const summary: TaskSummary = { name };
    if (scoring !== 'options') {
      const answered = await inChunks(name, problems, 1 + samples, async (chunk) => {
        const { maxNewTokens, temperature, topP } = evaluation;
        const { records: evaluated } = await evaluate(chunk, model, tokenizer, {
          name,
          extract,
          chat: data.chat,
          maxNewTokens,
          samples,
          temperature,
          topP,
          seed,
          maxLength,
          signal,
          onAnswer: () => rate.advance(1),
        });
        return evaluated;
      });
      const sampled = answered.flatMap((record) => (record.samples === undefined ? [] : [record.samples]));
      summary.greedy = accuracy(answered.map((record) => [record.greedy]));
      if (sampled.length > 0) summary.sampled = accuracy(sampled);
      records.push(...answered);
    }
    if (scoring !== 'generate') {
      const scored = await inChunks(`${name}~options`, problems, 1, async (chunk) => {
        const { records: evaluated } = await evaluateOptions(chunk, model, tokenizer, {
          name,
          task: definitionOf(task),
          maxLength,
          maxTokensPerBatch: score.maxTokensPerBatch,
          signal,
        });
        return evaluated;
      });
      Object.assign(summary, summarizeOptions(scored));
      records.push(...scored);
    }
    tasks.push(summary);
  }
  const metrics = tasks.flatMap(({ name, greedy, sampled, acc, acc_norm }): [string, number][] => {
    const found = { accuracy: greedy, sampled_accuracy: sampled, acc, acc_norm };
    return Object.entries(found).flatMap(([kind, value]) =>
      value === undefined ? [] : [[`${kind}/${name}`, value.accuracy] as [string, number]],
    );
  });
  return { tasks, records, metrics: Object.fromEntries(metrics) };
}
