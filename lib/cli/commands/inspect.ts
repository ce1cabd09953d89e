import { CreamError } from '../../errors.js';
import { defineCommand } from '../command.js';
import { CHAT_OPTIONS, LOSS_OPTION, PREFIX_OPTION, flag, integer, path } from '../options.js';

export const inspectCommand = defineCommand({
  name: 'inspect',
  describe: 'what a model folder, a data file or a run folder holds, and which GPUs there are',
  positionals: {
    syntax: '<kind> [path]',
    describe: { kind: 'model, data, run or gpu', path: 'the folder or file; none for gpu' },
  },
  options: {
    show: integer('data: the tokens of so many rows as text, those that carry loss marked; needs --model', {
      min: 1,
    }),
    model: path('data: the model folder whose tokenizer and chat template are used', { alias: 'm' }),
    ...LOSS_OPTION,
    ...CHAT_OPTIONS,
    ...PREFIX_OPTION,
    json: flag('as one JSON object on standard output'),
  },
  examples: [
    ['inspect model ./model', 'architecture, size, tokenizer, the token that ends a turn'],
    ['inspect data prompts.jsonl', 'kinds of rows, lengths'],
    ['inspect data seed.jsonl --show 3 -m ./model', 'what is read and what is learnt of the first rows'],
    ['inspect run cream-run', 'the table M0 .. Mn of a finished run'],
    ['inspect gpu', 'names, memory, and whether this build can use them'],
  ],
  async run(values, context) {
    const { show, model } = values;
    if ((show === undefined) !== (model === undefined)) {
      throw new CreamError('USAGE', '--show and --model belong together: how many rows, and for which model');
    }
    if (show !== undefined && context.words[0] !== 'data') {
      throw new CreamError(
        'USAGE',
        `--show has no effect on inspect ${context.words[0] ?? ''}; it is for data`,
      );
    }
    const { inspect } = await import('../inspect.js');
    await inspect(values, context);
    return 0;
  },
});
