import { defineCommand } from '../command.js';
import { integer, path } from '../options.js';

export const reportCommand = defineCommand({
  name: 'report',
  describe: 'one HTML file about a run, or about several over each other',
  positionals: {
    syntax: '<run> [runs..]',
    describe: { run: 'the run folder', runs: 'more run folders, to compare' },
  },
  options: {
    output: path('the file to write', { alias: 'o', defaultText: 'report.html in the run folder' }),
    samples: integer('groups of each iteration that are shown whole', { min: 0, max: 100_000, default: 100 }),
  },
  examples: [
    ['report cream-run', 'writes cream-run/report.html'],
    ['report runs/cream runs/srlm --output both.html', 'both in the same charts'],
  ],
  notes:
    'The file holds everything it shows and fetches nothing. A run writes its own after every stage; this command makes ' +
    'one of any run, also of one that goes on, failed or was interrupted.',
  async run(values, context) {
    const { executeReport } = await import('../write-report.js');
    return executeReport(values, context);
  },
});
