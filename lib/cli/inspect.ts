import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { loadPairs, loadPrompts, loadSft, loadTask } from '../data/datasets.js';
import { readJsonl } from '../data/jsonl.js';
import { keysWithoutEffect } from '../data/model-config.js';
import { keysOf } from '../data/rows.js';
import { Tokenizer } from '../data/tokenizer.js';
import { CreamError, isCreamError } from '../errors.js';
import { tally } from '../run/summary.js';
import type { RunSummary } from '../run/summary.js';
import type { Context } from './command.js';
import { formatBytes, formatCount, formatDuration } from './format.js';
import { asShownText, showTokens, type ShowValues } from './show-tokens.js';
import { summaryTable } from './summary.js';

export interface InspectValues extends Omit<ShowValues, 'show' | 'model'> {
  show: number | undefined;
  model: string | undefined;
  json: boolean;
}

async function inspectTokens(
  path: string | undefined,
  values: ShowValues,
  context: Context,
): Promise<Inspection> {
  if (path === undefined) throw new CreamError('USAGE', 'cream inspect data needs the path of a file');
  const rows = await showTokens(path, values, context);
  return { facts: { path, rows }, text: asShownText(rows) };
}

/** `cream inspect`: facts about a folder or file, without loading weights. */
export async function inspect(values: InspectValues, context: Context): Promise<void> {
  const { terminal, words, signal } = context;
  const { json, show, model } = values;
  const { facts, text } =
    show === undefined || model === undefined
      ? await look(words, signal)
      : await inspectTokens(words[1], { ...values, show, model }, context);
  await terminal.print(json ? `${JSON.stringify(facts)}\n` : `${text ?? asLines(facts)}\n`);
}

const INSPECTORS = { model: inspectModel, data: inspectData, run: inspectRun };

async function look([kind, path]: readonly string[], signal: AbortSignal): Promise<Inspection> {
  if (kind === 'gpu') {
    if (path !== undefined) throw new CreamError('USAGE', 'cream inspect gpu takes no path');
    return inspectGpus();
  }
  if (kind === undefined || !Object.hasOwn(INSPECTORS, kind)) {
    throw new CreamError(
      'USAGE',
      `cream inspect knows model, data, run and gpu, not ${JSON.stringify(kind)}`,
    );
  }
  if (path === undefined)
    throw new CreamError('USAGE', `cream inspect ${kind} needs the path of a folder or file`);
  return INSPECTORS[kind as keyof typeof INSPECTORS](path, signal);
}

interface Inspection {
  facts: object;
  /** For people, where the facts by name are not enough. */
  text?: string;
}

const SHOWN_CONFIG_KEYS = [
  'model_type',
  'vocab_size',
  'hidden_size',
  'intermediate_size',
  'num_hidden_layers',
  'num_attention_heads',
  'num_key_value_heads',
  'max_position_embeddings',
  'tie_word_embeddings',
];

async function inspectModel(directory: string): Promise<Inspection> {
  const path = join(directory, 'config.json');
  const json = await readJson(path, 'INVALID_CHECKPOINT');
  const config = new Map(Object.entries(Object(json)));
  const files = (await readdir(directory)).filter((name) => name.endsWith('.safetensors'));
  const sizes = await Promise.all(files.map(async (name) => (await stat(join(directory, name))).size));
  const tokenizer = await Tokenizer.load(directory);
  const facts = {
    directory,
    ...Object.fromEntries(
      SHOWN_CONFIG_KEYS.flatMap((key) => (config.has(key) ? [[key, config.get(key)]] : [])),
    ),
    dtype: config.get('dtype') ?? config.get('torch_dtype') ?? null,
    weights: `${files.length} files, ${formatBytes(sizes.reduce((sum, size) => sum + size, 0))}`,
    tokenizer_vocabulary: tokenizer.vocabSize,
    bos_id: tokenizer.bosId ?? null,
    stop_ids: tokenizer.eosIds,
    chat_template: tokenizer.hasChatTemplate,
    ...readability(json, path, config.get('architectures')),
    ...(tokenizer.hasChatTemplate && (await turnEndOf(tokenizer))),
  };
  await tokenizer.dispose();
  return { facts };
}

/** Which keys of a config.json change nothing here, or why the engine does not compute the model. */
function readability(json: unknown, path: string, architectures: unknown): object {
  const isReward = String(architectures).includes('ForSequenceClassification');
  try {
    return { config_keys_without_effect: keysWithoutEffect(json, path, isReward ? 'reward' : 'language') };
  } catch (error) {
    if (!isCreamError(error) || error.code !== 'INVALID_CHECKPOINT') throw error;
    return { not_computed: error.message };
  }
}

/** The token with which the chat template ends the assistant's turn, and whether generation knows it. */
async function turnEndOf(tokenizer: Tokenizer): Promise<object> {
  const stopIds = tokenizer.eosIds;
  const id = await tokenizer.turnEndId();
  if (id === undefined) return { turn_end: null };
  if (stopIds.includes(id)) return { turn_end: id };
  return {
    turn_end: id,
    note: `turns end with ${tokenizer.decode([id])}, which stop_ids lack: responses end with it and sampling stops at it too`,
  };
}

async function inspectData(path: string, signal: AbortSignal): Promise<Inspection> {
  const options = { signal };
  const { records } = await readJsonl(
    path,
    (row) => ({ keys: keysOf(row), bytes: Buffer.byteLength(JSON.stringify(row.value)) }),
    options,
  );
  const usable: string[] = [];
  const unusable: Record<string, string> = {};
  const readers = { prompts: loadPrompts, sft: loadSft, pairs: loadPairs, task: loadTask };
  for (const [use, load] of Object.entries(readers)) {
    try {
      await load(path, options);
      usable.push(use);
    } catch (error) {
      if (!isCreamError(error) || error.code !== 'INVALID_DATA') throw error;
      unusable[use] = error.message;
    }
  }
  const bytes = records.map((record) => record.bytes).sort((a, b) => a - b);
  const facts = {
    path,
    rows: records.length,
    keys: tally(records.map(({ keys }) => keys)),
    bytesPerRow: { least: bytes[0], median: bytes[Math.floor(bytes.length / 2)], most: bytes.at(-1) },
    usableAs: usable,
    notUsableAs: unusable,
  };
  const lines = [
    `${path}: ${formatCount(records.length)} rows of ${bytes[0]} to ${bytes.at(-1)} bytes`,
    ...Object.entries(facts.keys).map(([keys, count]) => `  ${formatCount(count ?? 0)} with ${keys}`),
    `usable as: ${usable.join(', ') || 'nothing'}`,
    ...Object.entries(unusable).map(([use, why]) => `not as ${use}: ${why}`),
  ];
  return { facts, text: lines.join('\n') };
}

async function inspectRun(directory: string): Promise<Inspection> {
  const summary = await readJson(join(directory, 'summary.json'), 'INVALID_ARGUMENT').catch(
    (error: unknown) => {
      if (isCreamError(error) && error.code === 'INVALID_ARGUMENT') return undefined;
      throw error;
    },
  );
  if (summary !== undefined) return { facts: Object(summary), text: summaryTable(summary as RunSummary) };
  const manifest = (await readJson(join(directory, 'manifest.json'), 'INVALID_ARGUMENT')) as {
    stages: { key: string; record: { seconds: number } }[];
  };
  const done = manifest.stages.map(({ key, record }) => ({ stage: key, seconds: record.seconds }));
  const lines = done.map(({ stage, seconds }) => `  ${stage.padEnd(28)} ${formatDuration(seconds)}`);
  return {
    facts: { directory, finished: false, done },
    text: [`${directory}: a run that is not finished; done so far:`, ...lines].join('\n'),
  };
}

/** The driver's GPUs, and what the engine was built for. */
async function inspectGpus(): Promise<Inspection> {
  const { driverGpus } = await import('../native/gpus.js');
  const { inspectInstallation } = await import('../native/installation.js');
  const { gpus, problem } = await driverGpus();
  const { info, problem: engineProblem } = inspectInstallation();
  const engine =
    info === undefined
      ? `the engine does not load${engineProblem === undefined ? ': it is not built' : ''}`
      : info.cuda
        ? `the engine has kernels for compute capabilities ${info.cudaArchs}`
        : 'the engine is built for the CPU alone';
  const facts = {
    gpus,
    ...(problem !== undefined && { problem }),
    engine,
    cuda: info?.cuda ?? false,
    cpuPath: info?.cpuPath ?? null,
  };
  const lines = gpus.map(
    ({ index, name, totalBytes, freeBytes, computeCapability, driver }) =>
      `cuda:${index}  ${name}, compute capability ${computeCapability}, ${formatBytes(freeBytes)} of ${formatBytes(totalBytes)} free, driver ${driver}`,
  );
  const cpu = info === undefined ? [] : [`on the CPU it uses the kernels for ${info.cpuPath}`];
  return { facts, text: [...(lines.length > 0 ? lines : [`no GPU: ${problem}`]), engine, ...cpu].join('\n') };
}

async function readJson(path: string, code: 'INVALID_CHECKPOINT' | 'INVALID_ARGUMENT'): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    const { code: reason } = cause as NodeJS.ErrnoException;
    if (reason !== 'ENOENT' && reason !== 'ENOTDIR') throw cause;
    throw new CreamError(code, `there is no ${path}`, { cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new CreamError('RUN_CORRUPT', `${path} is not valid JSON`, { cause });
  }
}

function asLines(facts: object): string {
  const entries = Object.entries(facts);
  const width = Math.max(...entries.map(([name]) => name.length));
  return entries
    .map(
      ([name, value]) =>
        `${name.padEnd(width)}  ${typeof value === 'string' ? value : JSON.stringify(value)}`,
    )
    .join('\n');
}
