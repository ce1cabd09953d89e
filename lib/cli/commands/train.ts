import { defineCommand } from '../command.js';
import { choice, number } from '../options.js';
import { trainingOptions } from './training-options.js';

export const trainCommand = defineCommand({
  name: 'train',
  describe: 'preference training on pairs, each with its consistency',
  makesFolder: true,
  options: {
    ...trainingOptions({ epochs: '1', learningRate: '0.000001' }),
    beta: number('beta of the loss', { above: 0, defaultText: '0.1' }),
    loss: choice('preference loss', ['sigmoid', 'hinge', 'ipo', 'sigmoid-norm'], { defaultText: 'sigmoid' }),
    sftCoefficient: number('adds so much of the negative log-likelihood of the chosen response', {
      min: 0,
      defaultText: '0',
    }),
    lengthTerm: number('alpha of R-DPO: u + alpha (|chosen| - |rejected|) in place of u', {
      min: 0,
      defaultText: '0',
    }),
    agreementCoefficient: number("pulls the implicit reward's preference to the judge's (judgeMargin)", {
      min: 0,
      defaultText: '0',
    }),
    agreementEntropy: number("adds so much of the entropy of the implicit reward's preference", {
      min: 0,
      defaultText: '0',
    }),
  },
  examples: [
    [
      'train -m ./model -i pairs.jsonl -o ./trained --learning-rate 5e-7',
      'from pairs of cream pair, or TRL rows',
    ],
  ],
  notes:
    'Rows: pairs of cream pair, or {prompt, chosen, rejected}. What a row lacks: its weight is its consistency, or 1 ' +
    '(plain DPO); reference log-probs are computed with the starting model.',
  async run(values, context) {
    const { trainPairs } = await import('../train.js');
    await trainPairs(values, context);
    return 0;
  },
});
