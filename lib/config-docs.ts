import { stringify } from 'yaml';
import { z } from 'zod';
import { configSchema } from './config.js';

// Texts made from the schema: the commented file of `cream init` and the reference table of the documentation.

export interface Setting {
  path: string[];
  description: string;
  /** "one of a, b", "number > 0", ...; empty for a group. */
  values: string;
  /** undefined: required or without a value. */
  default: unknown;
  required: boolean;
  isGroup: boolean;
}

type JsonSchema = {
  type?: string;
  description?: string;
  properties?: Record<string, JsonSchema>;
  required?: string[];
  items?: JsonSchema;
  enum?: unknown[];
  const?: unknown;
  anyOf?: JsonSchema[];
  default?: unknown;
  minimum?: number;
  exclusiveMinimum?: number;
  maximum?: number;
  exclusiveMaximum?: number;
  pattern?: string;
};

function valuesOf(schema: JsonSchema): string {
  if (schema.enum !== undefined) return schema.enum.map(String).join(' | ');
  if (schema.const !== undefined) return inline(schema.const);
  if (schema.anyOf !== undefined) return schema.anyOf.map(valuesOf).join(' | ');
  if (schema.type === 'object') return `{${Object.keys(schema.properties ?? {}).join(', ')}}`;
  if (schema.type === 'boolean') return 'true | false';
  if (schema.type === 'string') return 'text';
  if (schema.type === 'array') {
    return `list of {${Object.keys(schema.items?.properties ?? {}).join(', ')}}`;
  }
  const bounds = [
    schema.exclusiveMinimum === undefined ? '' : `> ${schema.exclusiveMinimum}`,
    schema.minimum === undefined || schema.minimum === Number.MIN_SAFE_INTEGER ? '' : `>= ${schema.minimum}`,
    schema.maximum === undefined || schema.maximum === Number.MAX_SAFE_INTEGER ? '' : `<= ${schema.maximum}`,
    schema.exclusiveMaximum === undefined ? '' : `< ${schema.exclusiveMaximum}`,
  ].filter((bound) => bound !== '');
  return [schema.type === 'integer' ? 'whole number' : 'number', ...bounds].join(' ');
}

/** Every setting in the order of the schema, groups before their settings. */
export function settings(): Setting[] {
  const walk = (schema: JsonSchema, path: string[]): Setting[] =>
    Object.entries(schema.properties ?? {}).flatMap(([key, inner]) => {
      const isGroup = inner.properties !== undefined;
      const setting: Setting = {
        path: [...path, key],
        description: inner.description ?? '',
        values: isGroup ? '' : valuesOf(inner),
        default: isGroup ? undefined : inner.default,
        required: schema.required?.includes(key) ?? false,
        isGroup,
      };
      return [setting, ...(isGroup ? walk(inner, setting.path) : [])];
    });
  return walk(z.toJSONSchema(configSchema, { io: 'input' }) as JsonSchema, []);
}

const inline = (value: unknown) => stringify(value, { collectionStyle: 'flow', lineWidth: 0 }).trimEnd();

/**
 * A complete config file with every setting, its meaning and its default. Settings in `chosen` (by dotted name)
 * are set; settings without a default are shown as comments; all others stand at their default.
 */
export function renderConfig(chosen: Readonly<Record<string, unknown>> = {}): string {
  const lines: string[] = ['# Settings of one CREAM run: cream run THIS-FILE [name=value ...]'];
  for (const setting of settings()) {
    const indent = '  '.repeat(setting.path.length - 1);
    const key = setting.path.at(-1)!;
    const name = setting.path.join('.');
    if (setting.isGroup) {
      lines.push(...(indent === '' ? [''] : []), `${indent}# ${setting.description}`, `${indent}${key}:`);
      continue;
    }
    const value = Object.hasOwn(chosen, name) ? chosen[name] : setting.default;
    const isSet = value !== undefined;
    lines.push(`${indent}# ${setting.description} (${setting.values})`);
    lines.push(
      `${indent}${isSet ? '' : '# '}${key}: ${isSet ? inline(value) : setting.required ? 'PATH' : ''}`.trimEnd(),
    );
  }
  return `${lines.join('\n')}\n`;
}

/** The reference table of the documentation, in Markdown. */
export function configReference(): string {
  const cell = (text: string) => text.replaceAll('|', '\\|');
  const rows = settings().map((setting) => {
    const standard = setting.required
      ? 'required'
      : setting.default === undefined
        ? ''
        : `\`${inline(setting.default)}\``;
    const name = setting.isGroup ? `**${setting.path.join('.')}**` : `\`${setting.path.join('.')}\``;
    return `| ${name} | ${cell(setting.values)} | ${standard} | ${cell(setting.description)} |`;
  });
  return ['| setting | values | default | meaning |', '|---|---|---|---|', ...rows, ''].join('\n');
}
