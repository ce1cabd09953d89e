import { defineCommand } from '../command.js';
import { logitsChoices } from '../logits-options.js';
import { ADAPTER_OPTION, CHAT_OPTIONS, MODEL_OPTIONS, integer, number, path, text } from '../options.js';

export const sampleCommand = defineCommand({
  name: 'sample',
  describe: 'N responses to every prompt, as the records that score, rank, pair and train work on',
  options: {
    model: path('model folder: the policy', { alias: 'm', required: true }),
    input: path('prompts: JSON lines; - is standard input', { alias: 'i', required: true }),
    output: path('file for the groups', { alias: 'o', defaultText: 'standard output' }),
    n: integer('responses per prompt', { min: 1, defaultText: '5' }),
    maxNewTokens: integer('length limit of a response', {
      min: 1,
      defaultText: '768, or what the context leaves',
    }),
    temperature: number('sampling temperature; 0 is greedy', { min: 0, defaultText: '0.8' }),
    topP: number('sample from the likeliest tokens with this total probability', {
      above: 0,
      max: 1,
      defaultText: '0.95',
    }),
    topK: integer('sample from so many likeliest tokens; 0 is all', { min: 0, defaultText: '0' }),
    seed: integer('decides the responses', { min: 0, default: 0 }),
    stream: text('name of the draw: the same prompts get other responses under another name', {
      defaultText: 'iteration-1',
    }),
    ...logitsChoices(),
    ...CHAT_OPTIONS,
    ...ADAPTER_OPTION,
    ...MODEL_OPTIONS,
  },
  notes:
    'One row per prompt: {id, prompt, promptIds, responses: [{ids, text, finishReason, samplerLogprob}]}.',
  async run(values, context) {
    const { sampleGroups } = await import('../sample.js');
    await sampleGroups(values, context);
    return 0;
  },
});
