import { defineCommand } from '../command.js';
import { LOSS_OPTION } from '../options.js';
import { trainingOptions } from './training-options.js';

export const sftCommand = defineCommand({
  name: 'sft',
  describe: 'supervised fine-tuning on prompts with responses',
  makesFolder: true,
  options: {
    ...trainingOptions({ epochs: '5', learningRate: '0.000005' }),
    ...LOSS_OPTION,
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
