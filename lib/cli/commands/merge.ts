import { defineCommand } from '../command.js';
import { choice, flag, MODEL_OPTIONS, path } from '../options.js';

export const mergeCommand = defineCommand({
  name: 'merge',
  describe: 'a model folder of its own from a model and a LoRA adapter',
  makesFolder: true,
  options: {
    model: path('folder of the model under the adapter', { alias: 'm', required: true }),
    adapter: path('folder of the adapter, as cream run or PEFT saves it', { alias: 'a', required: true }),
    output: path('folder for the merged model', { alias: 'o', required: true }),
    force: flag('replace the output folder if it exists'),
    json: flag('the result as one JSON object on standard output'),
    dtype: choice(
      'number format of the merged weights; auto: that of the files',
      ['auto', 'float32', 'bfloat16'],
      {
        default: 'auto',
      },
    ),
    threads: MODEL_OPTIONS.threads,
  },
  examples: [
    ['merge -m ./base -a cream-run/iteration-2/policy -o ./m3', 'a checkpoint that any program loads'],
  ],
  notes:
    'W + alpha / rank B A is added in float32 and rounded once to the format of the weights, float16 too. From file to ' +
    'file, on the CPU: one matrix is in memory at a time.',
  async run(values, context) {
    const { merge } = await import('../merge.js');
    await merge(values, context);
    return 0;
  },
});
