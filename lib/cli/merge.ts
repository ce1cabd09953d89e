import { resolve } from 'node:path';
import { CreamError } from '../errors.js';
import type { Context } from './command.js';
import { loadModel, type ModelValues } from './models.js';
import { prepareOutputFolder } from './output.js';
import { shortPath } from './summary.js';

export interface MergeValues extends ModelValues {
  model: string;
  adapter: string;
  output: string;
  force: boolean;
  json: boolean;
}

/** `cream merge`: adds an adapter to the weights under it. */
export async function merge(values: MergeValues, context: Context): Promise<void> {
  const { model, adapter, output, force, json } = values;
  for (const [name, input] of Object.entries({ model, adapter })) {
    if (resolve(input) === resolve(output)) {
      throw new CreamError('USAGE', `--output ${output} is the ${name}'s own folder; name another`);
    }
  }
  await prepareOutputFolder(output, force);
  await using adapted = await loadModel(model, values, context);
  await using merged = await adapted.merge();
  await merged.save(output, { overwrite: true });
  if (json) {
    const { numParameters, dtype } = merged;
    await context.terminal.print(`${JSON.stringify({ output, parameters: numParameters, dtype })}\n`);
  } else if (!context.isQuiet) {
    context.terminal.note(`the merged model is in ${shortPath(output)}`);
  }
}
