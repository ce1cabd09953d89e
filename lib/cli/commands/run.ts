import { defineCommand } from '../command.js';
import { MODEL_OPTIONS, choice, flag, integer, path, text } from '../options.js';

export const runCommand = defineCommand({
  name: 'run',
  describe: 'the whole method on a config file: SFT, then sample, score, rank, pair, train, evaluate',
  positionals: {
    syntax: '<file> [overrides..]',
    describe: { file: 'the config file', overrides: 'settings instead of those in the file: a.b=value' },
  },
  makesFolder: true,
  isContinued: true,
  options: {
    output: path('run folder, instead of the one in the file', { alias: 'o' }),
    seed: integer('seed, instead of the one in the file', { min: 0 }),
    device: { ...MODEL_OPTIONS.device, fallbackText: 'the file says' },
    dtype: { ...MODEL_OPTIONS.dtype, fallback: undefined, fallbackText: 'the file says' },
    threads: { ...MODEL_OPTIONS.threads, fallbackText: 'the file says' },
    tracker: choice('send settings and metrics to a tracking server as the run goes', ['none', 'mlflow'], {
      defaultText: 'the file says',
    }),
    trackerUrl: text('its address', { defaultText: 'MLFLOW_TRACKING_URI' }),
    resume: choice(
      'continue the run in the folder: if there is one, only if, never, or although it was made differently',
      ['auto', 'required', 'never', 'accept-changes'],
      { default: 'auto' },
    ),
    json: flag('events as JSON lines on standard output'),
    dryRun: flag('show the complete settings and the plan, and stop'),
  },
  examples: [
    ['run cream.yaml', 'start, or continue what was interrupted'],
    [
      'run cream.yaml sampling.n=8 train.learningRate=5e-7 --output runs/b',
      'with other settings, in another folder',
    ],
  ],
  notes:
    'An interrupted run continues where it was when the same command is given again. Ctrl-C finishes the step, saves ' +
    'and exits with 130.',
  async run(values, context) {
    const { executeRun } = await import('../run.js');
    return executeRun(values, context);
  },
});
