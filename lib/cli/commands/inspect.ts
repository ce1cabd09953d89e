import { defineCommand } from '../command.js';
import { flag } from '../options.js';

export const inspectCommand = defineCommand({
  name: 'inspect',
  describe: 'what a model folder, a data file or a run folder holds',
  positionals: {
    syntax: '<kind> <path>',
    describe: { kind: 'model, data or run', path: 'the folder or file' },
  },
  options: { json: flag('as one JSON object on standard output') },
  examples: [
    ['inspect model ./model', 'architecture, size, tokenizer'],
    ['inspect data prompts.jsonl', 'kinds of rows, lengths'],
    ['inspect run cream-run', 'the table M0 .. Mn of a finished run'],
  ],
  async run(values, context) {
    const { inspect } = await import('../inspect.js');
    await inspect(values, context);
    return 0;
  },
});
