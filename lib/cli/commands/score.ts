import { defineCommand } from '../command.js';
import {
  ADAPTER_OPTION,
  CHAT_OPTIONS,
  PREFIX_OPTION,
  READ_AT_OPTION,
  MODEL_OPTIONS,
  choice,
  flag,
  integer,
  number,
  path,
} from '../options.js';

export const scoreCommand = defineCommand({
  name: 'score',
  describe: 'log-probs of given responses, and rewards against a base model',
  options: {
    model: path('model folder: the policy', { alias: 'm', required: true }),
    base: path('folder of the base model M0: adds rewards = beta (logprobs - baseLogprobs)'),
    previous: path('folder of the previous policy: adds previousRewards'),
    input: path('rows {id, prompt, responses}: JSON lines; - is standard input', {
      alias: 'i',
      required: true,
    }),
    output: path('file for the scored rows', { alias: 'o', defaultText: 'standard output' }),
    rewardModel: path('folder of a reward model (a sequence classifier of one label): adds pairRewards'),
    beta: number('beta of the implicit reward', { above: 0, defaultText: '0.1' }),
    previousReward: choice('how the previous policy ranks', ['auto', 'implicit', 'likelihood', 'anchor'], {
      default: 'auto',
    }),
    lengthNormalize: flag('divide rewards by the number of tokens'),
    perToken: flag('add tokenLogprobs, one list per response'),
    appendStop: flag('score the stop token after responses that are given as text'),
    ...CHAT_OPTIONS,
    ...PREFIX_OPTION,
    ...READ_AT_OPTION,
    maxTokensPerBatch: integer('tokens in one forward pass', { min: 1, defaultText: '16384' }),
    ...ADAPTER_OPTION,
    previousAdapter: path('in place of --previous: a LoRA adapter over the model'),
    ...MODEL_OPTIONS,
  },
  examples: [
    ['score -m ./policy --base ./base -i responses.jsonl -o scored.jsonl', 'rewards of the policy'],
    ['score -m ./policy --reward-model ./rm -i r.jsonl', 'rewards of a reward model, for cream pair'],
    ['score -m ./m2 --base ./m0 --previous ./m1 -i r.jsonl | cream rank -i -', 'consistency of two policies'],
  ],
  notes:
    'A prompt is text, messages or promptIds; a response is text or {"ids": [...]}, whose ids are scored as they are. ' +
    'Rows keep their fields and get logprobs (sums, nats) and numTokens. previousReward auto: the reward of the previous ' +
    'policy, but its log-likelihood per token where it is the base model, or where there is no base. A reward model with ' +
    'another tokenizer gets the texts, in its own chat template with --chat.',
  async run(values, context) {
    const { score } = await import('../score.js');
    await score(values, context);
    return 0;
  },
});
