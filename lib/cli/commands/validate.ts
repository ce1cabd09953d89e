import { defineCommand } from '../command.js';
import { flag } from '../options.js';

export const validateCommand = defineCommand({
  name: 'validate',
  describe: 'check a config file and read the data that it names; errors come with line and column',
  positionals: {
    syntax: '<file> [overrides..]',
    describe: { file: 'the config file', overrides: 'settings instead of those in the file: a.b=value' },
  },
  options: {
    json: flag('the complete settings as one JSON object on standard output'),
    strict: flag('a model or data file that is not there is an error, not a warning'),
  },
  notes:
    'Exit code 0 when the file is valid, 2 when it is not, 4 when a data file has a line that cannot be used.',
  async run({ json, strict }, { terminal, words, isQuiet, signal }) {
    const [{ CreamError }, { loadConfig }, { missingFiles, readData }] = await Promise.all([
      import('../../errors.js'),
      import('../../config-file.js'),
      import('../config-input.js'),
    ]);
    const [file, ...overrides] = words as [string, ...string[]];
    const config = await loadConfig(file, overrides);
    const missing = await missingFiles(config);
    if (strict && missing.length > 0) throw new CreamError('INVALID_CONFIG', missing.join('\n'));
    for (const line of missing) terminal.note(`${terminal.style('yellow', 'warning:')} ${line}`);
    const data = await readData(config, signal);
    if (json) await terminal.print(`${JSON.stringify(config)}\n`);
    else if (!isQuiet) await terminal.print(`${[...data, `${file} is valid`].join('\n')}\n`);
  },
});
