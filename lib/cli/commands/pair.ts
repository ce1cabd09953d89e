import { defineCommand } from '../command.js';
import { choice, number, path } from '../options.js';

export const pairCommand = defineCommand({
  name: 'pair',
  describe: 'best and worst response of every ranked group, with the weight that the loss uses',
  options: {
    input: path('ranked rows: JSON lines; - is standard input', { alias: 'i', required: true }),
    output: path('file for the pairs', { alias: 'o', defaultText: 'standard output' }),
    weight: choice(
      'C of a pair: mean of all groups, its own, 1 (SRLM), or a constant',
      ['dataset', 'sample', 'one', 'constant'],
      { default: 'dataset' },
    ),
    constant: number('C of every pair with --weight constant', { min: 0, max: 1 }),
    minConsistency: number('groups whose C is lower make no pair', { min: 0, max: 1, default: 0 }),
    ties: choice(
      'different responses share the best or worst reward: take the first, make no pair, or see --margin',
      ['first', 'drop', 'margin'],
      { default: 'first' },
    ),
    margin: number('with --ties margin: a pair needs rewards that differ by more', { min: 0 }),
    lengthBand: number('shortest of the top, longest of the bottom share of the rewards; 0 = off', {
      min: 0,
      max: 0.499,
      default: 0,
    }),
    baseResponses: path(
      "scored rows of the base model's responses: the worst is rejected where it is worse than the group's",
    ),
    agreement: choice('keep all pairs, or those that judgeRewards orders alike', ['none', 'judge'], {
      default: 'none',
    }),
  },
  notes: 'Groups that make no pair are counted by their reason on standard error.',
  async run(values, context) {
    const { pairGroups } = await import('../pair.js');
    await pairGroups(values, context);
    return 0;
  },
});
