import type { GpuName } from '../../estimate/gpu.js';
import { defineCommand } from '../command.js';
import { choice, flag, integer } from '../options.js';

/** The keys of GPUS in lib/estimate/gpu.ts, which a command's help does not load. */
const GPU_NAMES = ['h200', 'h100', 'a100-80', 'a100-40', 'l40s', 'rtx-4090'] as const satisfies GpuName[];

export const estimateCommand = defineCommand({
  name: 'estimate',
  describe: 'memory, disk and time that a run will take on this machine, before it is begun',
  positionals: {
    syntax: '<file> [overrides..]',
    describe: { file: 'the config file', overrides: 'settings instead of those in the file: a.b=value' },
  },
  options: {
    responseTokens: integer('mean length of a response', { min: 1, defaultText: 'the limits in the config' }),
    gpu: choice('memory and time on this GPU, which need not be here: derived, not measured', GPU_NAMES),
    noTime: flag('do not measure the speed of this machine: no times'),
    json: flag('the estimate as one JSON object on standard output'),
  },
  examples: [
    ['estimate cream.yaml --response-tokens 300', 'with an expected length in place of the limit'],
    ['estimate cream.yaml --gpu h200', 'on a GPU that is not here'],
  ],
  notes:
    "Reads the model's config.json and tokenizer and the data; the weights need not be there. Times are measured on " +
    'random weights of the same shape with one and two layers, which takes some seconds.',
  async run(values, context) {
    const { printEstimate } = await import('../estimate.js');
    await printEstimate(values, context);
    return 0;
  },
});
