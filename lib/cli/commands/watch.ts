import { defineCommand } from '../command.js';
import { integer } from '../options.js';

export const watchCommand = defineCommand({
  name: 'watch',
  describe: 'the report of a run as a page that follows it, on a port of this machine alone',
  positionals: {
    syntax: '<run> [runs..]',
    describe: { run: 'the run folder', runs: 'more run folders, to compare' },
  },
  options: {
    port: integer('port on 127.0.0.1', { min: 0, max: 65_535, default: 0, defaultText: 'any free one' }),
  },
  examples: [
    ['watch cream-run', 'prints the address to open in a browser; Ctrl-C ends it'],
    ['watch cream-run --port 8080', 'then, from elsewhere: ssh -L 8080:127.0.0.1:8080 HOST'],
  ],
  notes: 'The address holds a secret word, so that other users of this machine cannot read along.',
  async run(values, context) {
    const { executeWatch } = await import('../write-report.js');
    return executeWatch(values, context);
  },
});
