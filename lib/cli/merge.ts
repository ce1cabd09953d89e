import { CreamError } from '../errors.js';
import type { Context } from './command.js';
import { mergeCheckpoint } from '../native/merge.js';
import { tuneMalloc } from '../native/model.js';
import { ensureEngine } from './engine.js';
import type { ModelValues } from './models.js';
import { isSameFolder, prepareOutputFolder } from './output.js';
import { shortPath } from './summary.js';

export interface MergeValues extends Pick<ModelValues, 'dtype' | 'threads'> {
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
    if (await isSameFolder(input, output)) {
      throw new CreamError('USAGE', `--output ${output} is the ${name}'s own folder; name another`);
    }
  }
  await prepareOutputFolder(output, force);
  await ensureEngine(context.terminal);
  tuneMalloc(); // the process is the command line's own
  const merged = await mergeCheckpoint(model, adapter, output, {
    dtype: values.dtype,
    overwrite: true,
    signal: context.signal,
    ...(values.threads !== undefined && { threads: values.threads }),
  });
  if (json) {
    const { numParameters, dtype } = merged;
    await context.terminal.print(`${JSON.stringify({ output, parameters: numParameters, dtype })}\n`);
  } else if (!context.isQuiet) {
    context.terminal.note(`the merged model is in ${shortPath(output)}`);
  }
}
