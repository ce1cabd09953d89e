import { defineCommand } from '../command.js';
import { flag, integer } from '../options.js';

export const estimateCommand = defineCommand({
  name: 'estimate',
  describe: 'memory, disk and time that a run will take on this machine, before it is begun',
  positionals: {
    syntax: '<file> [overrides..]',
    describe: { file: 'the config file', overrides: 'settings instead of those in the file: a.b=value' },
  },
  options: {
    responseTokens: integer('mean length of a response', { min: 1, defaultText: 'the limits in the config' }),
    noTime: flag('do not measure the speed of this machine: no times'),
    json: flag('the estimate as one JSON object on standard output'),
  },
  examples: [['estimate cream.yaml --response-tokens 300', 'with an expected length in place of the limit']],
  notes:
    "Reads the model's config.json and tokenizer and the data; the weights need not be there. Times are measured on " +
    'random weights of the same shape with one and two layers, which takes some seconds.',
  async run(values, context) {
    const { printEstimate } = await import('../estimate.js');
    await printEstimate(values, context);
    return 0;
  },
});
