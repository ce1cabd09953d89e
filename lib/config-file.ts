import { readFile } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { isCollection, isPair, isScalar, LineCounter, type Document, type Node, parseDocument } from 'yaml';
import { absoluteConfig, checkConfig, configSchema, type CreamConfig } from './config.js';
import { type ConfigIssue, knownKeys } from './config-issues.js';
import { type Origins, originsOf } from './config-origins.js';
import { CreamError } from './errors.js';
import { nearest } from './nearest.js';

// A config file and the overrides of a command line -> complete settings. Every error says where:
// "train.beta must be > 0, got -0.1 (cream.yaml:14:9)" or "(from train.beta=-0.1)".

/** More than any sensible config, and little enough to parse at once. */
const MAX_CONFIG_BYTES = 1 << 20;

export interface ConfigSource {
  /** Name of the file in messages, and where relative paths start. */
  file: string;
  text: string;
  /** `a.b=value`, the value in YAML. Relative paths in overrides are relative to `directory`. */
  overrides?: readonly string[];
  /** Default: the current directory. */
  directory?: string;
}

interface Override {
  text: string;
  path: string[];
  value: unknown;
}

function parseOverride(text: string): Override {
  const equals = text.indexOf('=');
  const path = text.slice(0, Math.max(0, equals)).trim().split('.');
  if (equals <= 0 || path.includes('')) {
    throw new CreamError(
      'INVALID_CONFIG',
      `an override must be name=value, such as sampling.n=8; got ${text}`,
    );
  }
  path.forEach((key, depth) => {
    const known = knownKeys(configSchema, path.slice(0, depth));
    if (known.includes(key)) return;
    const guess = nearest(key, known);
    const where = path.slice(0, depth + 1).join('.');
    const advice =
      known.length === 0
        ? `${path.slice(0, depth).join('.')} has no settings inside`
        : guess === undefined
          ? `known here: ${known.join(', ')}`
          : `did you mean ${[...path.slice(0, depth), guess].join('.')}?`;
    throw new CreamError('INVALID_CONFIG', `${where} is unknown; ${advice} (from ${text})`);
  });
  const document = parseDocument(text.slice(equals + 1), { logLevel: 'silent' });
  const error = document.errors[0];
  if (error !== undefined) {
    throw new CreamError('INVALID_CONFIG', `${path.join('.')}: ${firstLine(error.message)} (from ${text})`);
  }
  return { text, path, value: document.toJS() };
}

const firstLine = (message: string) => message.split('\n', 1)[0]!.replace(/:$/, '');

/** Where a setting stands in the file: the value, or for an unknown or missing one the nearest thing there is. */
function offsetOf(document: Document, issue: ConfigIssue): number | undefined {
  let node: unknown = document.contents;
  let offset = (node as Node | null)?.range?.[0];
  for (const key of issue.path) {
    if (!isCollection(node)) break;
    const pair = node.items.find(
      (item) => isPair(item) && isScalar(item.key) && String(item.key.value) === key,
    );
    const next = isPair(pair) ? pair.value : node.get(key, true);
    const mark = isPair(pair) && (issue.message.startsWith('is unknown') || next === null) ? pair.key : next;
    offset = (mark as Node | undefined)?.range?.[0] ?? offset;
    if (next === undefined || next === null) break;
    node = next;
  }
  return offset;
}

function assign(target: Record<string, unknown>, path: readonly string[], value: unknown): void {
  let group = target;
  for (const key of path.slice(0, -1)) {
    const inner = group[key];
    group[key] = typeof inner === 'object' && inner !== null && !Array.isArray(inner) ? inner : {};
    group = group[key] as Record<string, unknown>;
  }
  group[path.at(-1)!] = value;
}

/** Complete settings, and where those that were given come from. */
export interface ResolvedConfig {
  config: CreamConfig;
  origins: Origins;
}

/** Complete settings from YAML text. Throws INVALID_CONFIG that lists everything that is wrong. */
export const parseConfig = (source: ConfigSource): CreamConfig => resolveConfig(source).config;

export function resolveConfig(source: ConfigSource): ResolvedConfig {
  const file = basename(source.file);
  if (source.text.length > MAX_CONFIG_BYTES) {
    throw new CreamError(
      'INVALID_CONFIG',
      `${file} has ${source.text.length} characters; a config is a small file`,
    );
  }
  const lines = new LineCounter();
  const document = parseDocument(source.text.replace(/^\uFEFF/, ''), {
    lineCounter: lines,
    logLevel: 'silent',
  });
  const where = (offset: number) => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${line}:${col}`;
  };
  const problems = document.errors.map(
    (error) => `${firstLine(error.message).replace(/ at line .*$/, '')} (${where(error.pos[0])})`,
  );
  if (problems.length > 0) throw new CreamError('INVALID_CONFIG', problems.join('\n'));

  let input: unknown;
  try {
    input = document.toJS() ?? {};
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new CreamError('INVALID_CONFIG', `${file}: ${reason}`, { cause });
  }
  const overrides = (source.overrides ?? []).map(parseOverride);
  if (typeof input !== 'object' || input === null || Array.isArray(input)) {
    throw new CreamError('INVALID_CONFIG', `${file}:1:1 must hold settings such as "model: FOLDER"`);
  }
  for (const { path, value } of overrides) assign(input as Record<string, unknown>, path, value);

  const overrideOf = (path: readonly (string | number)[]) =>
    overrides.findLast((override) => override.path.every((key, depth) => path[depth] === key));
  const checked = checkConfig(input);
  if ('issues' in checked) {
    const messages = checked.issues.map((issue) => {
      const override = overrideOf(issue.path);
      const offset = offsetOf(document, issue);
      const origin = override ? `from ${override.text}` : offset === undefined ? file : where(offset);
      return `${issue.path.join('.')} ${issue.message} (${origin})`.trim();
    });
    throw new CreamError('INVALID_CONFIG', messages.join('\n'));
  }
  const directory = resolve(source.directory ?? '.');
  const overridden = new Set(overrides.map((override) => override.path.join('.')));
  const config = absoluteConfig(checked.config, (name) =>
    overridden.has(name) || overridden.has(name.split('.')[0]!) ? directory : dirname(resolve(source.file)),
  );
  const origins = originsOf(input, (path) => {
    if (overrideOf(path) !== undefined) return 'command line';
    const offset = offsetOf(document, { path: [...path], message: '' });
    return offset === undefined ? file : `${file}:${lines.linePos(offset).line}`;
  });
  return { config, origins };
}

/** Reads a config file. Throws INVALID_CONFIG, or IO when the file cannot be read. */
export const loadConfig = async (file: string, overrides: readonly string[] = []): Promise<CreamConfig> =>
  (await loadResolvedConfig(file, overrides)).config;

export async function loadResolvedConfig(
  file: string,
  overrides: readonly string[] = [],
): Promise<ResolvedConfig> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    const reason =
      (cause as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is no such file' : String(cause);
    throw new CreamError('INVALID_CONFIG', `cannot read ${file}: ${reason}`, { cause });
  }
  return resolveConfig({ file, text, overrides });
}
