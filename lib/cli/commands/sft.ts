import { defineCommand } from '../command.js';
import { choice } from '../options.js';
import { trainingOptions } from './training-options.js';

export const sftCommand = defineCommand({
  name: 'sft',
  describe: 'supervised fine-tuning on prompts with responses',
  makesFolder: true,
  options: {
    ...trainingOptions({ epochs: '5', learningRate: '0.000005' }),
    loss: choice(
      'of a conversation (messages), what is learnt: all turns of the assistant, the last, or what the chat template marks as generated',
      ['all', 'last', 'template'],
      { default: 'all' },
    ),
  },
  examples: [['sft -m ./base -i seed.jsonl -o ./m1 --epochs 3', 'M0 to M1']],
  notes:
    'Rows: {prompt, completion}, {messages}, {question, answer} or {instruction, input?, output}. The loss is taken on ' +
    'the tokens of the response, the stop token included.',
  async run(values, context) {
    const { trainExamples } = await import('../sft.js');
    await trainExamples(values, context);
    return 0;
  },
});
