import { basename, extname } from 'node:path';
import { loadTask, type TaskProblem } from '../data/datasets.js';
import { HARNESS_RELEASE, harnessContexts } from '../data/harness.js';
import { checkLabels } from '../data/labels.js';
import { checkProblems, definitionOf, TASK_NAMES, type TaskDefinition } from '../data/task-definitions.js';
import type { Tokenizer } from '../data/tokenizer.js';
import { leftOut, type TooLong } from '../data/too-long.js';
import { CreamError } from '../errors.js';
import type { Model } from '../native/model.js';
import { type AnswerFaults, type Evaluation, evaluate, problemsWithRoom } from '../stages/evaluate.js';
import {
  evaluateHarness,
  type HarnessLine,
  type HarnessSummary,
  type PosedProblem,
  summarizeHarness,
} from '../stages/evaluate-harness.js';
import { evaluateOptions, optionsWithRoom, type OptionsEvaluation } from '../stages/evaluate-options.js';
import type { Accuracy } from '../types.js';
import type { Context } from './command.js';
import { defaultConfig } from './defaults.js';
import { inputSource } from './input.js';
import { loadModel, type ModelValues } from './models.js';
import { prepareOutputFile, writeRecords } from './output.js';
import { Progress } from './progress.js';
import { encoding, loadTokenizer, type TextValues } from './texts.js';

export interface EvaluateValues extends ModelValues, TextValues {
  model: string;
  task: string;
  output: string | undefined;
  name: string | undefined;
  scoring: 'generate' | 'options' | 'both' | 'harness';
  shots: number | undefined;
  examples: string | undefined;
  sampler: 'random' | 'first' | undefined;
  examplesSeed: number | undefined;
  extract: 'auto' | 'choice' | 'number' | 'exact';
  maxNewTokens: number | undefined;
  stop: readonly string[] | undefined;
  samples: number;
  temperature: number | undefined;
  topP: number | undefined;
  limit: number | undefined;
  seed: bigint;
  json: boolean;
}

/** What of one task is measured. */
interface Work {
  name: string;
  definition: TaskDefinition | undefined;
  /** With --scoring harness: what stands before the answer of each problem. */
  posed: PosedProblem[];
  problems: TaskProblem[];
  tokenizer: Tokenizer;
  values: EvaluateValues;
  signal: AbortSignal;
  onDone: (done: number, total: number) => void;
}

/** `arc-easy=FILE`: a task of the paper; else the file of a task without a name. */
function splitTask(value: string): { definition: TaskDefinition | undefined; path: string } {
  const name = TASK_NAMES.find((one) => value.startsWith(`${one}=`));
  return { definition: definitionOf(name), path: name === undefined ? value : value.slice(name.length + 1) };
}

/** `cream evaluate`: the stage on one task. */
export async function evaluateTask(values: EvaluateValues, context: Context): Promise<void> {
  const { signal, terminal, isQuiet } = context;
  const { definition, path } = splitTask(values.task);
  checkOptions(values, definition);
  await prepareOutputFile(values.output);
  const source = inputSource(path, signal);
  const { records } = await loadTask(source.name, source.options);
  if (definition !== undefined) checkProblems(records, definition, source.name);
  checkLabels(records, values.extract, source.name);
  const problems = records.slice(0, values.limit);
  const posed = values.scoring === 'harness' ? await pose(problems, definition!, values, signal) : [];
  const tokenizer = await loadTokenizer(values.model, values);
  const name = values.name ?? definition?.name ?? basename(source.name, extname(source.name));
  const progress = new Progress(terminal, { isQuiet });
  const onDone = (done: number, total: number) =>
    progress.event({ type: 'progress', stage: 'evaluate', iteration: 0, done, total, unit: 'answers' });
  const work: Work = { name, definition, posed, problems, tokenizer, values, signal, onDone };
  try {
    await using model = await loadModel(values.model, values, context);
    const { scoring } = values;
    const isWritten = scoring === 'generate' || scoring === 'both';
    const measured: Measured = {
      written: isWritten ? await byGeneration(model, work, context) : undefined,
      scored: scoring === 'options' || scoring === 'both' ? await byOptions(model, work, context) : undefined,
      harness: scoring === 'harness' ? await byHarness(model, work) : undefined,
    };
    progress.stop();
    const answers = Object.values(measured).flatMap((part) => part?.records ?? []);
    if (values.output !== undefined) await writeRecords(values.output, answers, terminal);
    const text = values.json ? asJson(name, measured) : asText(name, measured);
    // Answers that go to standard output are the result; the figures then go beside them.
    if (values.output === '-') terminal.note(text);
    else await terminal.print(`${text}\n`);
  } finally {
    progress.stop();
  }
}

function checkOptions(values: EvaluateValues, definition: TaskDefinition | undefined): void {
  const without = (keys: Record<string, unknown>, because: string) => {
    for (const [option, value] of Object.entries(keys)) {
      if (value === undefined || value === 0 || value === false || value === 'auto') continue;
      throw new CreamError('USAGE', `--${option} has no effect ${because}`);
    }
  };
  const { temperature, topP, samples, maxNewTokens, chat, extract, scoring } = values;
  const { shots, examples, sampler, examplesSeed } = values;
  if (samples === 0) without({ temperature, 'top-p': topP }, 'without --samples');
  if (scoring !== 'harness')
    without({ shots, examples, sampler, 'examples-seed': examplesSeed }, 'without --scoring harness');
  if (scoring === 'generate') return;
  const because = `with --scoring ${scoring}`;
  if (scoring !== 'both')
    without({ samples, chat, 'chat-template': values.chatTemplate, extract, stop: values.stop }, because);
  if (scoring === 'options') without({ 'max-new-tokens': maxNewTokens }, because);
  if (scoring === 'harness') {
    if (definition === undefined)
      throw new CreamError('USAGE', `--scoring harness needs a task by name: --task ${TASK_NAMES[0]}=FILE`);
    const isAsked = (shots ?? definition.harness.shots) > 0;
    if (!isAsked) without({ examples, sampler, 'examples-seed': examplesSeed }, 'without --shots');
    if (definition.answer === 'choice') without({ 'max-new-tokens': maxNewTokens }, because);
  } else if (definition?.answer === 'number') {
    throw new CreamError(
      'USAGE',
      `${definition.title} has no options to score; leave --scoring ${scoring} out`,
    );
  }
}

/** The texts that the harness would ask, with examples from the file of another split. */
async function pose(
  problems: TaskProblem[],
  definition: TaskDefinition,
  { shots, examples, sampler, examplesSeed: seed }: EvaluateValues,
  signal: AbortSignal,
): Promise<PosedProblem[]> {
  const shown = examples === undefined ? undefined : (await loadTask(examples, { signal })).records;
  const contexts = harnessContexts(problems, definition, { shots, examples: shown, sampler, seed });
  return problems.map((problem, i) => ({ problem, context: contexts[i] as string }));
}

async function byGeneration(
  model: Model,
  work: Work,
  context: Context,
): Promise<Evaluation & { leftOut: number }> {
  const { name, problems, tokenizer, values, signal } = work;
  const { samples, extract, chat, seed } = values;
  const maxLength = model.config.maxPositionEmbeddings;
  const room = await encoding(name, values, context, (options) =>
    problemsWithRoom(problems, tokenizer, { ...options, extract, maxLength }),
  );
  const why = `no room for an answer in the model's context of ${maxLength} tokens`;
  tellLeftOut(work, context, room.tooLong, why);
  const defaults = defaultConfig().evaluation;
  const measured = await evaluate(room.fitting, model, tokenizer, {
    name,
    extract,
    chat,
    maxNewTokens: values.maxNewTokens ?? defaults.maxNewTokens,
    ...(values.stop && { stop: values.stop }),
    samples,
    temperature: values.temperature ?? defaults.temperature,
    topP: values.topP ?? defaults.topP,
    seed,
    maxLength,
    signal,
    onAnswer: work.onDone,
  });
  return { ...measured, leftOut: room.tooLong.length };
}

async function byOptions(
  model: Model,
  work: Work,
  context: Context,
): Promise<OptionsEvaluation & { leftOut: number }> {
  const { name, definition: task, problems, tokenizer, signal } = work;
  const maxLength = model.config.maxPositionEmbeddings;
  const room = await optionsWithRoom(problems, tokenizer, { name, task, maxLength, signal });
  const why = `question and option are longer than the model's context of ${maxLength} tokens`;
  tellLeftOut(work, context, room.tooLong, why);
  const scored = await evaluateOptions(room.fitting, model, tokenizer, {
    name,
    task,
    maxLength,
    maxTokensPerBatch: defaultConfig().score.maxTokensPerBatch,
    signal,
    onProblem: work.onDone,
  });
  return { ...scored, leftOut: room.tooLong.length };
}

function tellLeftOut(
  { problems, name }: Work,
  { terminal }: Context,
  tooLong: readonly TooLong[],
  why: string,
): void {
  const message = leftOut(`task ${name}`, tooLong, { total: problems.length, kind: 'problems', why });
  if (message !== undefined) terminal.note(`${terminal.style('yellow', 'warning:')} ${message}`);
}

interface HarnessMeasurement {
  records: HarnessLine[];
  summary: HarnessSummary;
}

async function byHarness(model: Model, work: Work): Promise<HarnessMeasurement> {
  const { name, definition, posed, tokenizer, values, signal } = work;
  const records = await evaluateHarness(posed, model, tokenizer, {
    name,
    task: definition!,
    contextLength: model.config.maxPositionEmbeddings,
    maxNewTokens: values.maxNewTokens,
    maxTokensPerBatch: defaultConfig().score.maxTokensPerBatch,
    signal,
    onProblem: work.onDone,
  });
  return { records, summary: summarizeHarness(records) };
}

/** What was measured, in the ways that were asked for. */
interface Measured {
  written: (Evaluation & { leftOut: number }) | undefined;
  scored: (OptionsEvaluation & { leftOut: number }) | undefined;
  harness: HarnessMeasurement | undefined;
}

function asJson(name: string, { written, scored, harness }: Measured): string {
  const leftOutOf = Math.max(written?.leftOut ?? 0, scored?.leftOut ?? 0);
  return JSON.stringify({
    task: name,
    ...(written && { ...written.greedy, greedy: written.greedy, sampled: written.sampled }),
    ...(scored && { acc: scored.acc, acc_norm: scored.acc_norm }),
    ...(leftOutOf > 0 && { leftOut: leftOutOf }),
    ...(harness && { harness: HARNESS_RELEASE, ...harness.summary }),
  });
}

function asText(name: string, { written, scored, harness }: Measured): string {
  return [
    ...Object.entries(harness?.summary ?? {}).map(([kind, found]) => `${name}: ${kind} ${describe(found)}`),
    ...(harness === undefined ? [] : [`as lm-evaluation-harness ${HARNESS_RELEASE}`]),
    ...(written === undefined ? [] : [`${name}: greedy ${describe(written.greedy)}`]),
    ...(written?.sampled === undefined ? [] : [`${name}: sampled ${describe(written.sampled)}`]),
    ...(scored === undefined
      ? []
      : [`${name}: acc ${describe(scored.acc)}`, `${name}: acc_norm ${describe(scored.acc_norm)}`]),
  ].join('\n');
}

function describe(found: Accuracy & Partial<AnswerFaults>): string {
  const { accuracy, interval, correct, total, unparsable = 0, truncated = 0 } = found;
  const [low, high] = interval;
  const faults = [
    ...(unparsable > 0 ? [`${unparsable} without a readable answer`] : []),
    ...(truncated > 0 ? [`${truncated} cut at the length limit`] : []),
  ];
  const counts = [`${correct} of ${total}`, ...faults].join(', ');
  return `accuracy ${accuracy.toFixed(4)}, 95 % interval [${low.toFixed(4)}, ${high.toFixed(4)}] (${counts})`;
}
