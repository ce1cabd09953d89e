import { loadTask, type TaskProblem } from '../data/datasets.js';
import type { Tokenizer } from '../data/tokenizer.js';
import type { Model } from '../native/model.js';
import { accuracyOf, type Answer, evaluate, type EvaluatedProblem } from '../stages/evaluate.js';
import type { Accuracy } from '../types.js';
import type { Run, StageInfo } from './run.js';
import type { AnswerFaults, TaskSummary } from './summary.js';

function accuracy(answers: readonly (readonly Answer[])[]): Accuracy & AnswerFaults {
  const all = answers.flat();
  return {
    ...accuracyOf(answers.map((list) => list.map(({ correct }) => correct))),
    unparsable: all.filter(({ answer }) => answer === null).length,
    truncated: all.filter(({ finishReason }) => finishReason === 'length').length,
  };
}

/** A model's accuracy on every held-out task of a run, in chunks of problems that are committed one by one. */
export async function evaluateTasks(
  run: Run,
  tokenizer: Tokenizer,
  maxLength: number,
  model: Model,
  info: StageInfo,
): Promise<{ tasks: TaskSummary[]; records: EvaluatedProblem[]; metrics: Record<string, number> }> {
  const { data, evaluation, sampling, seed } = run.config;
  const { signal } = run;
  const tasks: {
    name: string;
    extract: (typeof data.evaluation)[number]['extract'];
    problems: TaskProblem[];
  }[] = [];
  for (const { name, path, extract } of data.evaluation) {
    const { records } = await loadTask(path, { signal });
    tasks.push({ name, extract, problems: records.slice(0, evaluation.limit) });
  }
  const perProblem = 1 + evaluation.samples;
  const total = tasks.reduce((sum, { problems }) => sum + problems.length * perProblem, 0);
  const rate = run.rate(info, total, 'answers');

  const summaries: TaskSummary[] = [];
  const records: EvaluatedProblem[] = [];
  for (const { name, extract, problems } of tasks) {
    const before = records.length * perProblem;
    const work = async (chunk: readonly TaskProblem[]) => {
      const { maxNewTokens, samples, temperature, topP } = evaluation;
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
    };
    const evaluated = await run.chunks(info, problems, work, {
      part: name,
      chunkSize: sampling.chunkSize * sampling.n,
      onChunk: (done, isNew) => rate.reached(before + done * perProblem, isNew),
    });
    const sampled = evaluated.flatMap((record) => (record.samples === undefined ? [] : [record.samples]));
    summaries.push({
      name,
      greedy: accuracy(evaluated.map((record) => [record.greedy])),
      ...(sampled.length === 0 ? {} : { sampled: accuracy(sampled) }),
    });
    records.push(...evaluated);
  }
  const metrics = summaries.flatMap(({ name, greedy, sampled }): [string, number][] => [
    ...(greedy === undefined ? [] : [[`accuracy/${name}`, greedy.accuracy] as [string, number]]),
    ...(sampled === undefined ? [] : [[`sampled_accuracy/${name}`, sampled.accuracy] as [string, number]]),
  ]);
  return { tasks: summaries, records, metrics: Object.fromEntries(metrics) };
}
