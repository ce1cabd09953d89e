import { defineCommand } from '../command.js';
import { flag } from '../options.js';

export const inspectCommand = defineCommand({
  name: 'inspect',
  describe: 'what a model folder, a data file or a run folder holds, and which GPUs there are',
  positionals: {
    syntax: '<kind> [path]',
    describe: { kind: 'model, data, run or gpu', path: 'the folder or file; none for gpu' },
  },
  options: { json: flag('as one JSON object on standard output') },
  examples: [
    ['inspect model ./model', 'architecture, size, tokenizer'],
    ['inspect data prompts.jsonl', 'kinds of rows, lengths'],
    ['inspect run cream-run', 'the table M0 .. Mn of a finished run'],
    ['inspect gpu', 'names, memory, and whether this build can use them'],
  ],
  async run(values, context) {
    const { inspect } = await import('../inspect.js');
    await inspect(values, context);
    return 0;
  },
});
