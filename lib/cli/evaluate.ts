import { basename, extname } from 'node:path';
import { loadTask } from '../data/datasets.js';
import { resolveExtraction, taskPrompt } from '../data/tasks.js';
import { Tokenizer } from '../data/tokenizer.js';
import { CreamError } from '../errors.js';
import { type AnswerFaults, evaluate } from '../stages/evaluate.js';
import type { Accuracy } from '../types.js';
import type { Context } from './command.js';
import { defaultConfig } from './defaults.js';
import { inputSource } from './input.js';
import { loadModel, type ModelValues } from './models.js';
import { prepareOutputFile, writeRecords } from './output.js';
import { Progress } from './progress.js';

export interface EvaluateValues extends ModelValues {
  model: string;
  task: string;
  output: string | undefined;
  name: string | undefined;
  extract: 'auto' | 'choice' | 'number' | 'exact';
  maxNewTokens: number | undefined;
  samples: number;
  temperature: number | undefined;
  topP: number | undefined;
  limit: number | undefined;
  seed: bigint;
  chat: boolean;
  json: boolean;
}

/** `cream evaluate`: the stage on one task. */
export async function evaluateTask(values: EvaluateValues, context: Context): Promise<void> {
  const { signal, terminal, isQuiet } = context;
  const { samples, extract, chat, limit, seed } = values;
  for (const key of ['temperature', 'topP'] as const) {
    if (values[key] !== undefined && samples === 0) {
      throw new CreamError('USAGE', `--${key === 'topP' ? 'top-p' : key} has no effect without --samples`);
    }
  }
  await prepareOutputFile(values.output);
  const source = inputSource(values.task, signal);
  const { records } = await loadTask(source.name, source.options);
  const problems = records.slice(0, limit);
  const tokenizer = await Tokenizer.load(values.model);
  const prompts = problems.map((problem) => ({
    id: problem.id,
    prompt: problem.prompt ?? taskPrompt(problem, resolveExtraction(extract, problem)),
  }));
  const ids = await tokenizer.promptIdsAll(prompts, { chat, signal });
  const longest = ids.reduce((length, { length: one }) => Math.max(length, one), 0);

  await using model = await loadModel(values.model, values, context);
  const defaults = defaultConfig().evaluation;
  const maxLength = model.config.maxPositionEmbeddings;
  const name = values.name ?? basename(source.name, extname(source.name));
  const progress = new Progress(terminal, { isQuiet });
  try {
    const evaluation = await evaluate(problems, model, tokenizer, {
      name,
      extract,
      chat,
      maxNewTokens: values.maxNewTokens ?? Math.max(1, Math.min(defaults.maxNewTokens, maxLength - longest)),
      samples,
      temperature: values.temperature ?? defaults.temperature,
      topP: values.topP ?? defaults.topP,
      seed,
      maxLength,
      signal,
      onAnswer: (done, total) =>
        progress.event({ type: 'progress', stage: 'evaluate', iteration: 0, done, total, unit: 'answers' }),
    });
    progress.stop();
    const { records: answers, greedy, sampled } = evaluation;
    if (values.output !== undefined) await writeRecords(values.output, answers, terminal);
    const text = values.json
      ? JSON.stringify({ task: name, ...greedy, greedy, sampled })
      : [
          `${name}: greedy ${describe(greedy)}`,
          ...(sampled === undefined ? [] : [`${name}: sampled ${describe(sampled)}`]),
        ].join('\n');
    // Answers that go to standard output are the result; the figures then go beside them.
    if (values.output === '-') terminal.note(text);
    else await terminal.print(`${text}\n`);
  } finally {
    progress.stop();
  }
}

function describe({
  accuracy,
  interval,
  correct,
  total,
  unparsable,
  truncated,
}: Accuracy & AnswerFaults): string {
  const [low, high] = interval;
  const faults = [
    ...(unparsable > 0 ? [`${unparsable} without a readable answer`] : []),
    ...(truncated > 0 ? [`${truncated} cut at the length limit`] : []),
  ];
  const counts = [`${correct} of ${total}`, ...faults].join(', ');
  return `accuracy ${accuracy.toFixed(4)}, 95 % interval [${low.toFixed(4)}, ${high.toFixed(4)}] (${counts})`;
}
