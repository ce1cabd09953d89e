import { defineCommand } from '../command.js';
import { choice, path } from '../options.js';

export const rankCommand = defineCommand({
  name: 'rank',
  describe: 'how far two rankings of the same responses agree: tau and consistency of every group',
  options: {
    input: path('rows with rewards and previousRewards: JSON lines; - is standard input', {
      alias: 'i',
      required: true,
    }),
    output: path('file for the ranked rows', { alias: 'o', defaultText: 'standard output' }),
    metric: choice('how agreement is measured', ['kendall', 'spearman', 'topOrder'], { default: 'kendall' }),
    rule: choice(
      'from tau to C: (tau+1)/2, (3-tau)/(4-2 tau), max(1/2, (tau+1)/2)',
      ['linear', 'theorem', 'floor'],
      {
        default: 'linear',
      },
    ),
    history: choice(
      'rows with history: tau against the previous policy, the same and a report, or the mean over all',
      ['previous', 'report', 'all'],
      { default: 'previous' },
    ),
  },
  notes:
    'Rows keep their fields and get tau and consistency; both are null, with undefinedBecause, where a group has ' +
    'no ranking. The summary goes to standard error.',
  async run(values, context) {
    const { rankRows } = await import('../rank.js');
    await rankRows(values, context);
    return 0;
  },
});
