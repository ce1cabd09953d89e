import type { CreamConfig } from '../config.js';
import { CreamError } from '../errors.js';
import type { Model } from '../native/model.js';
import { writeOutput } from '../run/output-file.js';
import { recordLines } from '../run/records.js';
import type { Context } from './command.js';
import { formatMetrics } from './format.js';
import type { ModelValues } from './models.js';
import { isSameFolder, prepareOutputFile, prepareOutputFolder } from './output.js';
import type { Progress } from './progress.js';
import { shortPath } from './summary.js';
import type { TextValues } from './texts.js';

export interface TrainingValues extends ModelValues, TextValues {
  model: string;
  input: string;
  output: string;
  force: boolean;
  epochs: number | undefined;
  learningRate: number | undefined;
  batchSize: number | undefined;
  schedule: 'cosine' | 'linear' | 'constant' | undefined;
  warmupRatio: number | undefined;
  weightDecay: number | undefined;
  maxGradNorm: number | undefined;
  maxTokensPerBatch: number | undefined;
  maxLength: number | undefined;
  loraRank: number | undefined;
  loraAlpha: number | undefined;
  seed: number;
  metrics: string | undefined;
  json: boolean;
}

/** The defaults of a section of the config with the options of the command line in their place. */
export function withOptions<Section extends CreamConfig['sft']>(
  defaults: Section,
  values: Readonly<Record<string, unknown>>,
): Section {
  const given = Object.keys(defaults).flatMap((key) =>
    values[key] === undefined ? [] : [[key, values[key]]],
  );
  return { ...defaults, ...(Object.fromEntries(given) as Partial<Section>) };
}

export async function prepareTraining({ model, output, metrics, force }: TrainingValues): Promise<void> {
  if (await isSameFolder(model, output)) {
    throw new CreamError('USAGE', `--output ${output} is the model to start from; name another folder`);
  }
  await prepareOutputFolder(output, force);
  await prepareOutputFile(metrics, 'metrics');
}

/** Leaves out what is longer than the limit. Something must remain. */
export function fitting<T>(
  examples: readonly T[],
  lengthOf: (example: T) => number,
  { maxLength, input }: TrainingValues,
  model: Model,
  warn: (message: string) => void,
): T[] {
  const limit = Math.min(maxLength ?? 2048, model.config.maxPositionEmbeddings);
  const kept = examples.filter((example) => lengthOf(example) <= limit);
  if (kept.length === 0) {
    throw new CreamError(
      'INVALID_DATA',
      `${input}: every example is longer than ${limit} tokens; raise --max-length`,
    );
  }
  const dropped = examples.length - kept.length;
  if (dropped > 0)
    warn(`${dropped} of ${examples.length} examples are longer than ${limit} tokens and left out`);
  return kept;
}

/** Collects the metrics of every step and shows them. */
export class StepLog {
  readonly #progress: Progress;
  readonly #stage: 'sft' | 'train';
  readonly #records: object[] = [];

  constructor(progress: Progress, stage: 'sft' | 'train') {
    this.#progress = progress;
    this.#stage = stage;
  }

  step(step: number, total: number, metrics: Record<string, number>): void {
    this.#records.push({ step, ...metrics });
    const common = { stage: this.#stage, iteration: 0 } as const;
    this.#progress.event({ type: 'progress', ...common, done: step, total, unit: 'steps', metrics });
  }

  warn(code: string, message: string): void {
    this.#progress.event({ type: 'warning', code, message });
  }

  async write(path: string | undefined): Promise<void> {
    if (path !== undefined) await writeOutput(path, recordLines(this.#records));
  }

  get numSteps(): number {
    return this.#records.length;
  }
}

/** Saves the model and tells what came out. */
export async function finishTraining(
  model: Model,
  log: StepLog,
  result: { examples: number; leftOut?: Record<string, number>; metrics: Record<string, number> },
  values: TrainingValues,
  { terminal, isQuiet }: Context,
): Promise<void> {
  // That the folder may be replaced was decided before the training.
  await model.save(values.output, { overwrite: true });
  await log.write(values.metrics);
  if (values.json) {
    await terminal.print(`${JSON.stringify({ output: values.output, steps: log.numSteps, ...result })}\n`);
  } else if (!isQuiet) {
    const folder = shortPath(values.output);
    terminal.note(
      `trained on ${result.examples} examples in ${log.numSteps} steps: ${formatMetrics(result.metrics)}`,
    );
    const use =
      model.adapter === undefined
        ? `--model ${folder}`
        : `--model ${shortPath(values.model)} --adapter ${folder}`;
    const what = model.adapter === undefined ? 'model' : 'adapter';
    terminal.note(`the ${what} is in ${folder}; try: cream generate ${use} --prompt "..."`);
  }
}
