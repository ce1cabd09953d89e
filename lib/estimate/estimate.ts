import { readFile, statfs } from 'node:fs/promises';
import { totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import type { CreamConfig } from '../config.js';
import { type ModelConfig, type ModelHead, readModelConfig } from '../data/model-config.js';
import { definitionOf } from '../data/task-definitions.js';
import { Tokenizer } from '../data/tokenizer.js';
import { CreamError } from '../errors.js';
import { loadProblems } from '../run/tasks.js';
import { promptsPerIteration, readPrompts, readSftExamples } from '../run/inputs.js';
import { loraOptions } from '../run/models.js';
import { diskOf } from './disk.js';
import { type Candidate, trainingCandidates } from './fits.js';
import { type Gpu, gpuSeconds } from './gpu.js';
import { hostBytesOf, memoryOf, type MemoryPart, type StageMemory } from './memory.js';
import { probeSpeed, type Speed } from './probe.js';
import { adapterParameters, type Dtype, parameterCounts, slotsOf } from './sizes.js';
import { type StageWork, stagesOf, type Workload } from './work.js';

export interface EstimateOptions {
  /** Mean tokens of a response. Default: the limits, sampling.maxNewTokens and evaluation.maxNewTokens. */
  responseTokens?: number | undefined;
  /** Measure the engine's speed for this shape; without it there are no times. */
  probe: boolean;
  /** Memory and times on this GPU, derived and not measured, in place of this machine's. */
  gpu?: Gpu | undefined;
  signal?: AbortSignal | undefined;
}

export interface StageTime extends StageWork {
  seconds: number;
}

export interface Estimate {
  parameters: number;
  dtype: Dtype;
  /** True when responses are taken as long as their limit. */
  isUpperBound: boolean;
  workload: Workload;
  memory: StageMemory[];
  /** Largest of `memory`, in bytes, and what the machine, or the GPU, has. */
  peakBytes: number;
  /** Of the GPU's host, pinned, for models that wait; only with a GPU. */
  hostBytes?: number;
  machineBytes: number;
  /** The GPU that memory and times are derived for. */
  gpu?: Gpu;
  /** Which trainings it can hold, the run's own first; only with a GPU. */
  trainings?: Candidate[];
  disk: MemoryPart[];
  diskBytes: number;
  /** Free where the run folder will be, in bytes. */
  freeDiskBytes: number | null;
  stages: (StageWork & { seconds?: number })[];
  seconds?: number;
  speed?: Speed & { trainIsMeasured: boolean };
}

const mean = (values: readonly number[]) =>
  values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;

async function readShape(
  directory: string,
  head: ModelHead = 'language',
): Promise<{ shape: ModelConfig; json: Map<string, unknown> }> {
  const path = join(directory, 'config.json');
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw new CreamError('INVALID_CHECKPOINT', `${path} cannot be read: ${(cause as Error).message}`, {
      cause,
    });
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new CreamError('INVALID_CHECKPOINT', `${path} is not valid JSON`, { cause });
  }
  return { shape: readModelConfig(json, path, head), json: new Map(Object.entries(Object(json))) };
}

function dtypeOf(config: CreamConfig, json: Map<string, unknown>): Dtype {
  if (config.dtype !== 'auto') return config.dtype;
  const named = json.get('dtype') ?? json.get('torch_dtype');
  return named === undefined || named === 'float32' ? 'float32' : 'bfloat16';
}

/** Reads and tokenises a run's data: how many records there are and how long they are. */
async function readWorkload(
  config: CreamConfig,
  shape: ModelConfig,
  { responseTokens, signal }: EstimateOptions,
): Promise<Workload> {
  const { data, sampling, evaluation, iterations } = config;
  const tokenizer = await Tokenizer.load(config.model, { templateVariables: config.chatTemplate });
  const maxLength =
    config.maxLength === 'auto' ? Math.min(2048, shape.maxPositionEmbeddings) : config.maxLength;
  const { chat, loss, prefixMismatch } = data;
  const reading = { chat, loss, prefixMismatch, maxLength, ...(signal === undefined ? {} : { signal }) };

  const workload: Workload = {
    prompts: 0,
    lengths: { prompt: 0, response: responseTokens ?? sampling.maxNewTokens },
    evaluation: { problems: 0, lengths: { prompt: 0, response: responseTokens ?? evaluation.maxNewTokens } },
  };
  if (data.sft !== undefined) {
    const { examples } = await readSftExamples(data.sft, tokenizer, reading);
    workload.sft = {
      examples: examples.length,
      lengths: {
        prompt: mean(examples.map(({ promptIds }) => promptIds.length)),
        response: mean(examples.map(({ responseIds }) => responseIds.length)),
      },
    };
  }
  if (data.prompts !== undefined && iterations > 0) {
    const { maxNewTokens } = sampling;
    const { prompts } = await readPrompts(data.prompts, tokenizer, { ...reading, maxNewTokens });
    workload.prompts = promptsPerIteration(sampling.promptsPerIteration, prompts.length, iterations);
    workload.lengths.prompt = mean(prompts.map(({ promptIds }) => promptIds.length));
  }
  for (const task of data.evaluation) {
    const isChosen = task.scoring === 'harness' && definitionOf(task.task)?.answer === 'choice';
    if (task.scoring === 'options' || isChosen) continue;
    const { problems } = await loadProblems(task, evaluation.limit, signal);
    workload.evaluation.problems += problems.length;
  }
  return workload;
}

/** Free bytes where `path` is or will be made; null when the system does not say. */
async function freeDisk(path: string): Promise<number | null> {
  for (let folder = path; ; folder = dirname(folder)) {
    try {
      const { bavail, bsize } = await statfs(folder);
      return bavail * bsize;
    } catch {
      if (folder === dirname(folder)) return null;
    }
  }
}

/**
 * What a run will take: memory per stage, disk, and time per stage on this machine. Needs the model's config.json and
 * tokenizer and the data, not its weights. Paths of `config` are absolute.
 */
export async function estimate(config: CreamConfig, options: EstimateOptions): Promise<Estimate> {
  const { shape, json } = await readShape(config.model);
  const dtype = dtypeOf(config, json);
  const workload = await readWorkload(config, shape, options);
  const { total } = parameterCounts(shape);
  if (config.reward.model !== undefined && config.iterations > 0) {
    const reward = await readShape(config.reward.model, 'reward');
    workload.rewardModel = parameterCounts(reward.shape).total / total;
  }
  const { gpu } = options;
  const machineBytes = gpu?.bytes ?? totalmem();
  const engine = gpu === undefined ? 'cpu' : 'gpu';
  const memory = memoryOf(config, shape, dtype, workload, machineBytes, engine);
  const adapter = adapterParameters(shape, loraOptions(config.lora));
  const disk = diskOf(config, { total, adapter }, dtype, workload);
  const result: Estimate = {
    parameters: total,
    dtype,
    isUpperBound: options.responseTokens === undefined,
    workload,
    memory,
    peakBytes: Math.max(0, ...memory.map((stage) => stage.total)),
    machineBytes,
    disk,
    diskBytes: disk.reduce((sum, { bytes }) => sum + bytes, 0),
    freeDiskBytes: await freeDisk(config.output),
    stages: stagesOf(config, workload, engine),
  };
  if (gpu !== undefined) {
    const times = gpuSeconds(config, shape, dtype, workload, result.stages, gpu);
    const stages = result.stages.map((stage, i) => ({ ...stage, seconds: times[i]! }));
    const hostBytes = hostBytesOf(config, shape, dtype, gpu.bytes);
    const trainings = trainingCandidates(config, shape, dtype, workload, gpu.bytes);
    const seconds = times.reduce((sum, each) => sum + each, 0);
    return { ...result, gpu, hostBytes, trainings, stages, seconds };
  }
  if (!options.probe) return result;

  const { n } = config.sampling;
  const speed = await probeSpeed(shape, {
    dtype,
    device: config.device,
    threads: config.threads === 'auto' ? undefined : config.threads,
    lengths: workload.prompts > 0 ? workload.lengths : (workload.sft?.lengths ?? workload.lengths),
    n,
    live: Math.min(Math.max(1, workload.prompts) * n, slotsOf(shape, 'cpu')),
    room: machineBytes / 2,
    signal: options.signal,
    lora: loraOptions(config.lora),
  });
  const stages = result.stages.map((stage) => ({
    ...stage,
    seconds: stage.trained * speed.train + stage.scored * speed.score + stage.generated * speed.generate,
  }));
  return { ...result, speed, stages, seconds: stages.reduce((sum, { seconds }) => sum + seconds, 0) };
}
