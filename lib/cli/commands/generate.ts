import { defineCommand } from '../command.js';
import { logitsChoices } from '../logits-options.js';
import {
  ADAPTER_OPTION,
  CHAT_OPTIONS,
  MODEL_OPTIONS,
  flag,
  integer,
  number,
  path,
  seed,
  text,
  texts,
} from '../options.js';

export const generateCommand = defineCommand({
  name: 'generate',
  describe: 'responses of a model to one prompt or to a file of prompts',
  options: {
    model: path('model folder in Hugging Face layout', { alias: 'm', required: true }),
    prompt: text('one prompt; "" starts from BOS alone', { alias: 'p' }),
    input: path('prompts: JSON lines with prompt, messages or promptIds; - is standard input', {
      alias: 'i',
    }),
    output: path('file for the result', { alias: 'o', defaultText: 'standard output' }),
    n: integer('responses per prompt', { min: 1, default: 1 }),
    maxNewTokens: integer('length limit of a response', { min: 1, defaultText: "the model's, or 256" }),
    temperature: number('0 is greedy', { min: 0, defaultText: "the model's, or 1" }),
    topP: number('sample from the likeliest tokens with this total probability', {
      above: 0,
      max: 1,
      defaultText: "the model's, or 1",
    }),
    topK: integer('sample from so many likeliest tokens; 0 is all', {
      min: 0,
      defaultText: "the model's, or 0",
    }),
    seed: seed(),
    ...logitsChoices("the model's, or "),
    stop: texts(
      'a response ends with the token that completes this text, or the first of a JSON list of texts',
    ),
    ...CHAT_OPTIONS,
    json: flag('one JSON object per response: promptId, sample, text, ids, logprobs, finishReason'),
    ...ADAPTER_OPTION,
    ...MODEL_OPTIONS,
  },
  examples: [
    ['generate -m ./model -p "Once upon a time" --temperature 0', 'the likeliest continuation'],
    ['generate -m ./model -i prompts.jsonl -n 4 --json -o responses.jsonl', 'four responses to every prompt'],
  ],
  notes:
    'Sampling settings that are not given come from generation_config.json of the model. A response depends on the ' +
    'seed, the id of its prompt and its number, not on the other prompts.',
  async run(values, context) {
    const { generate } = await import('../generate.js');
    await generate(values, context);
    return 0;
  },
});
