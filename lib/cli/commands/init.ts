import { defineCommand } from '../command.js';
import { flag, path } from '../options.js';

export const initCommand = defineCommand({
  name: 'init',
  describe: 'write a config file with every setting, its meaning and its default',
  positionals: { syntax: '[file]', describe: { file: 'the new file; - is standard output [cream.yaml]' } },
  options: {
    model: path('folder of the base model', { alias: 'm' }),
    prompts: path('prompts (JSON lines)'),
    sft: path('seed data for supervised fine-tuning (JSON lines)'),
    output: path('run folder', { alias: 'o' }),
    force: flag('replace the file if it exists'),
  },
  examples: [
    ['init', 'writes cream.yaml'],
    ['init my.yaml --model ./model --prompts prompts.jsonl', 'with the paths filled in'],
  ],
  async run(values, context) {
    const { writeConfig } = await import('../init.js');
    await writeConfig(values, context);
  },
});
