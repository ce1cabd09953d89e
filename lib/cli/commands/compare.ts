import { defineCommand } from '../command.js';
import { flag, path, text } from '../options.js';

export const compareCommand = defineCommand({
  name: 'compare',
  describe: 'several configs from the same M1, with several seeds: one table with intervals',
  positionals: {
    syntax: '<files..>',
    describe: {
      files: 'config files, named in the table by their file name; a.b=value is a setting for all of them',
    },
  },
  makesFolder: true,
  isContinued: true,
  options: {
    seeds: text('seeds of the runs, such as 1,2,3 or 1-5 (required)'),
    output: path('folder of the comparison; every run has a folder NAME/seed-S in it', {
      alias: 'o',
      defaultText: 'cream-compare',
    }),
    allowDifferent: flag(
      'compare although models, data or measurements differ; each difference is a warning',
    ),
    json: flag('events as JSON lines on standard output; the last one holds the comparison'),
  },
  examples: [
    ['compare cream.yaml srlm.yaml --seeds 1,2,3', 'two methods; what they share is computed once'],
    ['compare cream.yaml srlm.yaml --seeds 1-5 iterations=1 -o runs/short', 'with a setting for both'],
  ],
  notes:
    'The first config is the one to which the others are compared. Runs happen one after another; the same command ' +
    'continues what was interrupted, and more seeds or configs may be added. Beside the runs: compare.json, compare.md.',
  async run(values, context) {
    const { executeCompare } = await import('../compare.js');
    return executeCompare(values, context);
  },
});
