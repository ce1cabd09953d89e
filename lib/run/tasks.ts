import type { CreamConfig } from '../config.js';
import { loadTask, type TaskProblem } from '../data/datasets.js';
import { checkLabels } from '../data/labels.js';
import { harnessContexts } from '../data/harness.js';
import { checkProblems, definitionOf, type TaskDefinition } from '../data/task-definitions.js';
import type { Tokenizer } from '../data/tokenizer.js';
import { leftOut, type TooLong } from '../data/too-long.js';
import type { Model } from '../native/model.js';
import {
  type EvaluatedProblem,
  greedyAnswers,
  problemsWithRoom,
  sampledAnswers,
  summarizeAnswers,
} from '../stages/evaluate.js';
import {
  evaluateHarness,
  harnessAnswers,
  type HarnessLine,
  type PosedProblem,
  summarizeHarness,
} from '../stages/evaluate-harness.js';
import { evaluateOptions, optionsWithRoom } from '../stages/evaluate-options.js';
import { summarizeOptions } from '../option-verdict.js';
import type { Placed } from '../types.js';
import { advancing, allOf } from './chunks.js';
import type { Run, StageInfo } from './run.js';
import { meanOf, stratifiedMean } from '../statistics.js';
import {
  ACCURACY_KINDS,
  type AccuracyKind,
  HARNESS_KINDS,
  type TaskMeans,
  type TaskSummary,
} from './summary.js';

type Task = CreamConfig['data']['evaluation'][number];
/** A line of a model's evaluation file. */
export type EvaluationLine = EvaluatedProblem | HarnessLine;

/** What a run measures of a task. */
export interface LoadedTask {
  problems: TaskProblem[];
  definition: TaskDefinition | undefined;
  /** With scoring: harness: what stands before the answer of each problem. */
  posed: PosedProblem[];
  answersEach: (samples: number) => number;
}

/** The problems of a task as a run measures them. Throws INVALID_DATA where they are not of the kind that it names. */
export async function loadProblems(
  { task, path, scoring, extract, fewShot }: Pick<Task, 'task' | 'path' | 'scoring' | 'extract' | 'fewShot'>,
  limit: number | undefined,
  signal?: AbortSignal,
): Promise<LoadedTask> {
  const options = signal === undefined ? {} : { signal };
  const { records } = await loadTask(path, options);
  const definition = definitionOf(task);
  if (definition !== undefined) checkProblems(records, definition, path);
  checkLabels(records, extract, path);
  const problems = records.slice(0, limit);
  let posed: PosedProblem[] = [];
  if (scoring === 'harness' && definition !== undefined) {
    const examples = fewShot?.path === undefined ? undefined : await loadTask(fewShot.path, options);
    const contexts = harnessContexts(problems, definition, {
      shots: fewShot?.n,
      examples: examples?.records,
      sampler: fewShot?.sampler,
      seed: fewShot?.seed,
    });
    posed = problems.map((problem, i) => ({ problem, context: contexts[i] as string }));
  }
  const answersEach = (samples: number) =>
    scoring === 'harness' ? 1 : (scoring === 'options' ? 0 : 1 + samples) + (scoring === 'generate' ? 0 : 1);
  return { problems, definition, posed, answersEach };
}

/** What was measured of a model; `mean` only where two or more tasks were measured in one way. */
export interface Measured {
  tasks: TaskSummary[];
  mean?: TaskMeans;
  records: EvaluationLine[];
  metrics: Record<string, number>;
}

/** How right a line's answers are, from 0 to 1, in the ways in which it was measured. */
function rightness(line: EvaluationLine): Partial<Record<AccuracyKind, number>> {
  if (!('greedy' in line)) {
    const verdicts: Partial<Record<AccuracyKind, { correct: boolean }>> = line;
    return Object.fromEntries(
      HARNESS_KINDS.flatMap((kind) =>
        verdicts[kind] === undefined ? [] : [[kind, Number(verdicts[kind].correct)]],
      ),
    );
  }
  const { greedy, samples } = line;
  return {
    greedy: Number(greedy.correct),
    ...(samples && { sampled: meanOf(samples.map(({ correct }) => Number(correct))) }),
  };
}

/** Means over the tasks, whatever number of problems each has. */
export function meansOf(records: readonly EvaluationLine[]): TaskMeans {
  const means: TaskMeans = {};
  for (const kind of ACCURACY_KINDS) {
    const byTask = new Map<string, number[]>();
    for (const record of records) {
      const value = rightness(record)[kind];
      if (value === undefined) continue;
      const values = byTask.get(record.task);
      if (values === undefined) byTask.set(record.task, [value]);
      else values.push(value);
    }
    const mean = byTask.size < 2 ? null : stratifiedMean([...byTask.values()]);
    if (mean !== null) means[kind] = mean;
  }
  return means;
}

/** The name of the mean among those of the tasks, as in `cream compare`. */
const meanName = (tasks: readonly TaskSummary[]) =>
  tasks.some(({ name }) => name === 'mean') ? 'mean-of-tasks' : 'mean';

/** A model's accuracy on every held-out task of a run, in chunks of problems that are committed one by one. */
export async function evaluateTasks(
  run: Run,
  tokenizer: Tokenizer,
  maxLength: number,
  model: Model,
  info: StageInfo,
): Promise<Measured> {
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
  const inChunks = async <Item, Result extends EvaluationLine>(
    part: string,
    problems: readonly Item[],
    each: number,
    work: (chunk: readonly Item[]) => Promise<Result[]>,
  ): Promise<Result[]> => {
    const results = await run.chunks(info, problems, work, {
      part,
      chunkSize: sampling.chunkSize * sampling.n,
      onChunk: (done, isNew) => rate.reached(before + done * each, isNew),
    });
    before += problems.length * each;
    return results;
  };

  /** The same by writing answers: all problems are one request. `onAnswer` counts what `work` has written. */
  const inStream = async <Item, Result extends object>(
    part: string,
    problems: readonly Item[],
    each: number,
    work: (missing: readonly Item[], onAnswer: () => void) => AsyncIterable<Placed<Result>>,
  ): Promise<Result[]> => {
    const { results } = await run.stream(info, problems, (missing) => work(missing, () => rate.advance(1)), {
      part,
      chunkSize: sampling.chunkSize * sampling.n,
      onFound: (found) => rate.found(found * each),
    });
    before += problems.length * each;
    return allOf(results());
  };

  /** Tells of the problems that are left out, and counts the answers that nobody waits for. */
  const tell = (
    name: string,
    tooLong: readonly TooLong[],
    { count, each, why }: { count: number; each: number; why: string },
  ) => {
    const message = leftOut(`task ${name}`, tooLong, { total: count, kind: 'problems', why });
    rate.advance(tooLong.length * each);
    before += tooLong.length * each;
    if (message !== undefined) run.warn('evaluation-too-long', message, info);
  };

  const tasks: TaskSummary[] = [];
  const records: EvaluationLine[] = [];
  const { maxTokensPerBatch } = score;
  for (const { name, definition, extract, scoring, maxNewTokens, stop, problems, posed } of loaded) {
    const summary: TaskSummary = { name };
    if (scoring === 'harness') {
      const request = {
        name,
        task: definition!,
        contextLength: model.config.maxPositionEmbeddings,
        maxNewTokens,
        signal,
      };
      const lines: HarnessLine[] =
        definition!.answer === 'choice'
          ? await inChunks(`${name}~harness`, posed, 1, (chunk) =>
              evaluateHarness(chunk, model, tokenizer, { ...request, maxTokensPerBatch }),
            )
          : await inStream(`${name}~harness`, posed, 1, (missing, onAnswer) =>
              advancing(harnessAnswers(missing, model, tokenizer, request), onAnswer),
            );
      Object.assign(summary, summarizeHarness(lines));
      records.push(...lines);
    }
    if (scoring === 'generate' || scoring === 'both') {
      const { temperature, topP } = evaluation;
      const options = {
        name,
        extract,
        chat: data.chat,
        maxNewTokens: maxNewTokens ?? evaluation.maxNewTokens,
        stop,
        samples,
        temperature,
        topP,
        seed,
        maxLength,
        signal,
      };
      const room = await problemsWithRoom(problems, tokenizer, options);
      const why = `no room for an answer within ${maxLength} tokens`;
      tell(name, room.tooLong, { count: problems.length, each: 1 + samples, why });
      let answered = await inStream(name, room.fitting, 1, (missing, onAnswer) =>
        greedyAnswers(missing, model, tokenizer, { ...options, onAnswer }),
      );
      summary.greedy = summarizeAnswers(answered.map((record) => [record.greedy]));
      if (samples > 0) {
        const sampled = await inStream(`${name}~samples`, room.fitting, samples, (missing, onAnswer) =>
          sampledAnswers(missing, model, tokenizer, { ...options, onAnswer }),
        );
        answered = answered.map((record, i) => ({ ...record, samples: sampled[i]!.samples }));
        summary.sampled = summarizeAnswers(sampled.map((record) => record.samples));
      }
      records.push(...answered);
    }
    if (scoring === 'options' || scoring === 'both') {
      const request = { name, task: definition, maxLength, signal };
      const room = await optionsWithRoom(problems, tokenizer, request);
      const why = `question and option are longer than ${maxLength} tokens`;
      tell(name, room.tooLong, { count: problems.length, each: 1, why });
      const scored = await inChunks(`${name}~options`, room.fitting, 1, async (chunk) => {
        const options = { ...request, maxTokensPerBatch };
        return (await evaluateOptions(chunk, model, tokenizer, options)).records;
      });
      Object.assign(summary, summarizeOptions(scored));
      records.push(...scored);
    }
    tasks.push(summary);
  }
  const mean = meansOf(records);
  const entries = ACCURACY_KINDS.flatMap((kind): [string, number][] => [
    ...tasks.flatMap(({ name, [kind]: found }): [string, number][] =>
      found === undefined ? [] : [[`${METRICS[kind]}/${name}`, found.accuracy]],
    ),
    ...(mean[kind] === undefined
      ? []
      : [[`${METRICS[kind]}/${meanName(tasks)}`, mean[kind].mean] as [string, number]]),
  ]);
  return {
    tasks,
    ...(Object.keys(mean).length > 0 && { mean }),
    records,
    metrics: Object.fromEntries(entries),
  };
}

const METRICS = {
  greedy: 'accuracy',
  sampled: 'sampled_accuracy',
  acc: 'acc',
  acc_norm: 'acc_norm',
  strict_match: 'strict_match',
  flexible_extract: 'flexible_extract',
} as const;
