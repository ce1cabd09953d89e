import { resolve } from 'node:path';
import { z } from 'zod';
import { configConflicts } from './config-conflicts.js';
import { type ConfigIssue, issuesOf } from './config-issues.js';
import { type CreamConfig, configSchema } from './config-schema.js';
import { CreamError } from './errors.js';
import { isObject, withMethod } from './methods.js';

// The settings of a run: checked, completed, with absolute paths. config-schema.ts defines them.

export { configConflicts } from './config-conflicts.js';
export {
  type CreamConfig,
  type CreamConfigInput,
  configSchema,
  type TrainingOptions,
} from './config-schema.js';

/** Settings in which an evaluation that names a task of the paper has that name where it has no other. */
function withTaskNames(input: unknown): unknown {
  if (!isObject(input) || !isObject(input['data']) || !Array.isArray(input['data']['evaluation']))
    return input;
  const evaluation = (input['data']['evaluation'] as unknown[]).map((entry) =>
    isObject(entry) && typeof entry['task'] === 'string' ? { name: entry['task'], ...entry } : entry,
  );
  return { ...input, data: { ...input['data'], evaluation } };
}

/** All that is wrong with a settings object, or the complete settings. Paths stay as they are. */
export function checkConfig(input: unknown): { config: CreamConfig } | { issues: ConfigIssue[] } {
  const complete = withTaskNames(withMethod(input));
  const parsed = configSchema.safeParse(complete);
  if (!parsed.success) return { issues: issuesOf(parsed.error, configSchema, complete) };
  const issues = configConflicts(parsed.data);
  return issues.length > 0 ? { issues } : { config: parsed.data };
}

/** Settings given by a program. Throws INVALID_CONFIG with everything that is wrong, not only the first. */
export function validateConfig(input: unknown): CreamConfig {
  const checked = checkConfig(input);
  if ('config' in checked) return checked.config;
  throw new CreamError(
    'INVALID_CONFIG',
    checked.issues.map((issue) => `${issue.path.join('.')} ${issue.message}`.trim()).join('\n'),
  );
}

/** Settings with absolute paths; `base` gives the directory that a setting's relative path starts from. */
export function absoluteConfig(config: CreamConfig, base: (setting: string) => string): CreamConfig {
  const { data, reward } = config;
  return {
    ...config,
    reward: {
      ...reward,
      ...(reward.module === undefined ? {} : { module: resolve(base('reward.module'), reward.module) }),
      ...(reward.model === undefined ? {} : { model: resolve(base('reward.model'), reward.model) }),
      judge: {
        ...reward.judge,
        ...(reward.judge.template === undefined
          ? {}
          : { template: resolve(base('reward.judge.template'), reward.judge.template) }),
      },
    },
    model: resolve(base('model'), config.model),
    output: resolve(base('output'), config.output),
    data: {
      ...data,
      ...(data.sft === undefined ? {} : { sft: resolve(base('data.sft'), data.sft) }),
      ...(data.prompts === undefined ? {} : { prompts: resolve(base('data.prompts'), data.prompts) }),
      evaluation: data.evaluation.map((task) => ({
        ...task,
        path: resolve(base('data.evaluation'), task.path),
        ...(task.fewShot?.path === undefined
          ? {}
          : { fewShot: { ...task.fewShot, path: resolve(base('data.evaluation'), task.fewShot.path) } }),
      })),
    },
  };
}

/** JSON schema of a config file, for editors. */
export function configJsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(configSchema, { io: 'input', target: 'draft-7' });
}
