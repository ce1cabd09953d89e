import { access, copyFile, open, readdir, readFile, realpath, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { CreamError } from '../errors.js';
import { ioError, makeFolder, syncFolder, TEMPORARY } from '../run/storage.js';
import type { JsonObject } from './config-reader.js';
import { type ModelConfig, type ModelHead, readModelConfig } from './model-config.js';

// A Hugging Face checkpoint folder: config.json, weights in one safetensors file or in shards with an index, and the
// tokenizer's files. The folder is hostile input: only files inside it are opened, and nothing in it is executed.

export interface Checkpoint {
  directory: string;
  config: ModelConfig;
  /** config.json as it is. */
  configText: string;
  /** The weight files, each once. */
  files: string[];
  /** The file that holds the embedding, which tells the checkpoint's dtype. */
  embeddingFile: string;
}

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';
const EMBEDDING = 'model.embed_tokens.weight';
const MAX_JSON_BYTES = 64 * 1024 * 1024;

/** What a checkpoint has besides weights and config.json, and what saving copies. */
const COMPANIONS = [
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'tokenizer.model',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'vocab.txt',
  'merges.txt',
  'chat_template.jinja',
  'chat_template.json',
];

/** Finds and checks everything but the weights themselves. Throws INVALID_CHECKPOINT with the path and the reason. */
export async function readCheckpoint(directory: string, head: ModelHead = 'language'): Promise<Checkpoint> {
  await checkFolder(directory);
  const path = join(directory, 'config.json');
  const found = await readJsonText(path);
  if (found === undefined) throw await notACheckpoint(directory, 'config.json');
  return {
    directory,
    config: readModelConfig(found.json, path, head),
    configText: found.text,
    ...(await findWeights(directory)),
  };
}

/** Throws INVALID_CHECKPOINT, with advice where the name looks like one of a hub, unless this is a folder. */
export async function checkFolder(directory: string): Promise<void> {
  const found = await stat(directory).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== 'ENOENT' && cause.code !== 'ENOTDIR') throw ioError('read', directory, cause);
    return undefined;
  });
  if (found?.isDirectory() === true) return;
  if (found !== undefined) {
    throw invalid(directory, 'is not a folder; give the folder that holds config.json and model.safetensors');
  }
  const isHubId = /^[\w.-]+\/[\w.-]+$/.test(directory) && !directory.startsWith('.');
  const name = basename(directory);
  throw invalid(
    directory,
    isHubId
      ? 'there is no such folder. It looks like a Hugging Face model: download it first, for example with ' +
          `"hf download ${directory} --local-dir ${name}", and give the folder`
      : 'there is no such folder; wanted a folder with config.json, model.safetensors and tokenizer.json',
  );
}

async function findWeights(directory: string): Promise<Pick<Checkpoint, 'files' | 'embeddingFile'>> {
  const single = join(directory, SINGLE);
  if (await exists(single)) return { files: [single], embeddingFile: single };
  const path = join(directory, INDEX);
  const index = await readJson(path);
  if (index === undefined) throw await notACheckpoint(directory, `${SINGLE} or ${INDEX}`);
  const map = isObject(index) && Object.hasOwn(index, 'weight_map') ? index['weight_map'] : undefined;
  if (!isObject(map) || Object.keys(map).length === 0) throw invalid(path, 'weight_map must name the shards');
  const names = new Set<string>();
  for (const [tensor, name] of Object.entries(map)) {
    // A basename only: a path could lead out of the folder.
    if (typeof name !== 'string' || !/^[\w-][\w.-]*\.safetensors$/.test(name)) {
      const shown = JSON.stringify(name).slice(0, 200);
      throw invalid(
        path,
        `weight_map[${JSON.stringify(tensor)}] must be a file name of a shard, got ${shown}`,
      );
    }
    names.add(name);
  }
  for (const name of names) {
    if (!(await exists(join(directory, name)))) {
      throw invalid(join(directory, name), `is missing, but ${INDEX} names it; download it again`);
    }
  }
  const embedding = Object.hasOwn(map, EMBEDDING) ? map[EMBEDDING] : [...names][0];
  return {
    files: [...names].sort().map((name) => join(directory, name)),
    embeddingFile: join(directory, embedding as string),
  };
}

/** Says what is there instead, as far as it is a known kind of model. */
async function notACheckpoint(directory: string, wanted: string): Promise<CreamError> {
  const names = await readdir(directory).catch(() => [] as string[]);
  const other = names.find((name) => /\.(bin|pt|pth|gguf)$/.test(name));
  const hint =
    other === undefined
      ? 'give the folder of a Hugging Face checkpoint'
      : `${other} is of a format that is not read (pickle can run code); save it as safetensors, in Python with ` +
        'model.save_pretrained(folder)';
  return invalid(directory, `has no ${wanted}; ${hint}`);
}

/** A JSON file of a checkpoint; undefined when it is not there. */
export async function readJson(path: string): Promise<unknown> {
  return (await readJsonText(path))?.json;
}

/** The same with its text. */
export async function readJsonText(path: string): Promise<{ text: string; json: unknown } | undefined> {
  let text: string;
  try {
    const found = await stat(path);
    if (!found.isFile()) throw invalid(path, 'is not a file');
    if (found.size > MAX_JSON_BYTES)
      throw invalid(path, `has ${found.size} bytes, at most ${MAX_JSON_BYTES} are read`);
    text = await readFile(path, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw ioError('read', path, cause);
  }
  try {
    return { text, json: JSON.parse(text) };
  } catch (cause) {
    throw invalid(path, `is not valid JSON (${(cause as Error).message})`, cause);
  }
}

export interface PublishOptions {
  /** Replace a folder that is there. Without it only an absent or empty one is filled. */
  overwrite?: boolean;
}

/**
 * Fills a folder that appears whole or not at all: `write` works in a temporary folder beside it, and every file it
 * leaves there must be flushed to disk.
 */
export async function publishCheckpoint(
  directory: string,
  write: (temporary: string) => Promise<void>,
  { overwrite = false }: PublishOptions = {},
): Promise<void> {
  // A link to a folder stays, and its folder is filled.
  const target = await realpath(directory).catch(() => resolve(directory));
  const temporary = join(dirname(target), `${TEMPORARY}${basename(target)}-${process.pid}`);
  await checkTarget(target, overwrite);
  try {
    await makeFolder(dirname(target));
    await rm(temporary, { recursive: true, force: true });
    await makeFolder(temporary);
    await write(temporary);
    await syncFolder(temporary);
    await checkTarget(target, overwrite);
    await replace(temporary, target);
    await syncFolder(dirname(target));
  } catch (cause) {
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined); // the first failure counts
    throw ioError('write', directory, cause);
  }
}

/** What was there stays under another name until the new folder has the final one. */
async function replace(temporary: string, target: string): Promise<void> {
  const old = `${target}.old-${process.pid}`; // not a temporary name: nothing may remove it but this function
  await rm(old, { recursive: true, force: true });
  await rename(target, old).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== 'ENOENT') throw cause;
  });
  await rename(temporary, target);
  await rm(old, { recursive: true, force: true });
}

async function checkTarget(target: string, overwrite: boolean): Promise<void> {
  const names = await readdir(target).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') return [];
    if (cause.code === 'ENOTDIR') {
      throw new CreamError('IO', `${target} is a file; a checkpoint is saved as a folder: give another path`);
    }
    throw ioError('read', target, cause);
  });
  if (names.length > 0 && !overwrite) {
    throw new CreamError('IO', `${target} is there and not empty; remove it or give another path`);
  }
}

/** Copies tokenizer, chat template and generation settings byte by byte, and writes config.json if given; all flushed. */
export async function writeCompanions(
  from: string | undefined,
  to: string,
  configText?: string,
): Promise<void> {
  if (configText !== undefined) await writeDurably(join(to, 'config.json'), configText);
  if (from === undefined) return;
  await checkFolder(from);
  for (const name of COMPANIONS) {
    const source = join(from, name);
    const found = await stat(source).catch((cause: NodeJS.ErrnoException) => {
      if (cause.code !== 'ENOENT') throw ioError('read', source, cause);
      return undefined;
    });
    if (found?.isFile() === true) await copyDurably(source, join(to, name));
  }
}

export async function writeDurably(path: string, text: string): Promise<void> {
  const handle = await open(path, 'w');
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function copyDurably(from: string, to: string): Promise<void> {
  await copyFile(from, to);
  const handle = await open(to, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

const exists = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  );

const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function invalid(path: string, what: string, cause?: unknown): CreamError {
  return new CreamError('INVALID_CHECKPOINT', `${path}: ${what}`, cause === undefined ? {} : { cause });
}
