import { gradeResponse } from '../data/answers.js';
import { Tokenizer } from '../data/tokenizer.js';
import { CreamError } from '../errors.js';
import { deviceMemory, resolveDevice } from '../native/device.js';
import { Model } from '../native/model.js';
import type { SftExample } from '../data/sft-examples.js';
import type { Group } from '../types.js';
import {
  type Dropped,
  type Prompt,
  promptsPerIteration,
  readPrompts,
  readSftExamples,
  sliceOf,
} from './inputs.js';
import { loraOptions, Models } from './models.js';
import { decidePolicySource, type PolicySource } from './policy-logprobs.js';
import { checkRewardSettings } from './rewards.js';
import { checkpointFolder } from './run-dir.js';
import type { Run, StageInfo } from './run.js';
import { freeBytes } from './training-memory.js';
import { evaluateTasks, loadProblems, type Measured } from './tasks.js';

/** What the steps of a run share: the models, the tokenizer and the data, read when they are first needed. */
export interface World {
  run: Run;
  models: Models;
  tokenizer: Tokenizer;
  /** Limit of prompt + response, in tokens. */
  maxLength: number;
  /** False when there is no data.sft: M1 is M0. */
  fineTuned: boolean;
  /** Where the policy's log-probs of its own responses come from. */
  policyFrom: PolicySource;
  directoryOf: (model: number) => string;
  /** Reads every data file before the first stage, so that a bad line ends the run at once, not after hours of training. */
  checkData: () => Promise<void>;
  sftExamples: () => Promise<{ examples: SftExample[]; dropped: Dropped }>;
  /** The prompts of iteration t. */
  prompts: (t: number) => Promise<Prompt[]>;
  /** Which responses are right, by prompt id, for the prompts of iteration t that have a label. */
  correctness: (t: number, groups: readonly Group[]) => Promise<Map<string, boolean[]>>;
  evaluateTasks: (model: Model, info: StageInfo) => Promise<Measured>;
  onStep: (info: StageInfo) => (step: number, total: number, metrics: Record<string, number>) => void;
}

const DEFAULT_MAX_LENGTH = 2048;

function resolveMaxLength(setting: number | 'auto', context: number): number {
  if (setting === 'auto') return Math.min(DEFAULT_MAX_LENGTH, context);
  if (setting <= context) return setting;
  throw new CreamError(
    'INVALID_CONFIG',
    `maxLength ${setting} is more than the model's context of ${context} tokens; lower it`,
  );
}

/** Computes `make` once. */
function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => (made ??= make());
}

export async function openWorld(run: Run): Promise<World> {
  const { config, record, signal } = run;
  const { data, sampling } = config;
  const fineTuned = data.sft !== undefined;
  const directoryOf = (number: number) => checkpointFolder(config, run.dir, number);
  const { device, dtype } = config;
  const models = new Models({
    directoryOf,
    load: (directory) => Model.load(directory, { device, dtype, threads: record.threads, signal }),
    lora: loraOptions(config.lora),
    seed: config.seed,
    gpuMemory:
      resolveDevice(device) === 'cpu'
        ? undefined
        : async () => ({ free: await freeBytes(device), total: (await deviceMemory(device)).total }),
    hostMemory: () => freeBytes('cpu'),
    warn: (code, message) => run.warn(code, message),
  });
  // Chat templates may print the date: a continued run must render what the first process did.
  const tokenizer = await Tokenizer.load(config.model, {
    now: new Date(record.created),
    templateVariables: config.chatTemplate,
  });
  const { config: modelConfig } = await models.policy(0);
  const maxLength = resolveMaxLength(config.maxLength, modelConfig.maxPositionEmbeddings);
  await checkRewardSettings(config);
  const policyFrom = config.iterations === 0 ? 'scoring' : await decidePolicySource(run);
  const reading = {
    chat: data.chat,
    maxLength,
    extract: data.extract,
    loss: data.loss,
    prefixMismatch: data.prefixMismatch,
    signal,
    warn: (code: string, message: string) => run.warn(code, message),
  };

  const warnDropped = (path: string, { tooLong }: Dropped) => {
    if (tooLong > 0)
      run.warn(
        'too-long',
        `${path}: ${tooLong} records are left out, they do not fit into ${maxLength} tokens`,
      );
  };
  const allPrompts = once(async () => {
    const { prompts, dropped } = await readPrompts(data.prompts!, tokenizer, {
      ...reading,
      maxNewTokens: sampling.maxNewTokens,
    });
    warnDropped(data.prompts!, dropped);
    return prompts;
  });
  const slice = async (t: number) => {
    const prompts = await allPrompts();
    const { iterations, seed } = config;
    const each = await run.decided('prompts-per-iteration', () =>
      promptsPerIteration(sampling.promptsPerIteration, prompts.length, iterations),
    );
    promptsPerIteration(each, prompts.length, iterations); // also when iterations were added to a run
    return sliceOf(prompts, t, each, seed);
  };
  const readSft = async () => {
    const read = await readSftExamples(data.sft!, tokenizer, reading);
    warnDropped(data.sft!, read.dropped);
    return read;
  };
  let checkedSft: ReturnType<typeof readSft> | undefined; // until they are taken, not for the whole run
  if (config.iterations > 0 && !fineTuned) {
    run.warn(
      'm1-is-m0',
      'there is no data.sft, so M1 is M0: at iteration 1 both rank by their log-likelihood per token and agree by construction',
    );
  }

  return {
    run,
    models,
    tokenizer,
    maxLength,
    fineTuned,
    policyFrom,
    directoryOf,
    checkData: async () => {
      const beforeTraining = fineTuned && !run.isDone({ stage: 'sft', iteration: 0, model: 'M1' });
      if (beforeTraining) {
        checkedSft = readSft();
        await checkedSft;
      }
      const beforeSampling = !run.isDone({ stage: 'sample', iteration: 1, model: 'M1' });
      if (config.iterations > 0 && beforeSampling) await slice(1);
      if (!beforeTraining && !beforeSampling) return;
      for (const task of data.evaluation) await loadProblems(task, config.evaluation.limit, signal);
    },
    sftExamples: () => {
      const examples = checkedSft ?? readSft();
      checkedSft = undefined;
      return examples;
    },
    prompts: slice,
    correctness: async (t, groups) => {
      const labelled = new Map((await slice(t)).map((prompt) => [prompt.id, prompt]));
      const flags = new Map<string, boolean[]>();
      for (const { id, responses } of groups) {
        const prompt = labelled.get(id);
        if (prompt?.label === undefined) continue;
        const { label, choices } = prompt;
        const problem = choices === undefined ? { label } : { label, choices };
        flags.set(
          id,
          responses.map((response) => gradeResponse(response, problem, data.extract).correct),
        );
      }
      return flags;
    },
    evaluateTasks: (model, info) => evaluateTasks(run, tokenizer, maxLength, model, info),
    onStep: (info) => (step, total, metrics) => {
      run.stepMetrics(info, step, metrics);
      run.progress(info, step, total, 'steps', { metrics });
    },
  };
}
