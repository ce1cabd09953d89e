import { access } from 'node:fs/promises';
import { join } from 'node:path';
import type { CreamConfig } from '../config.js';

/** Flags of a command line as the overrides that the config reader understands; YAML reads JSON. */
export function asOverrides(flags: Readonly<Record<string, string | number | bigint | undefined>>): string[] {
  return Object.entries(flags).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${typeof value === 'string' ? JSON.stringify(value) : value}`],
  );
}

/** Files that the settings name and that are not there. */
export async function missingFiles(config: CreamConfig): Promise<string[]> {
  const files: (readonly [name: string, path: string])[] = [
    ['model', join(config.model, 'config.json')],
    ...(config.data.sft === undefined ? [] : [['data.sft', config.data.sft] as const]),
    ...(config.data.prompts === undefined ? [] : [['data.prompts', config.data.prompts] as const]),
    ...config.data.evaluation.map((task) => [`data.evaluation (${task.name})`, task.path] as const),
  ];
  const missing = await Promise.all(
    files.map(async ([name, path]) => {
      const isThere = await access(path).then(
        () => true,
        () => false,
      );
      return isThere ? [] : [`${name}: there is no ${path}`];
    }),
  );
  return missing.flat();
}
