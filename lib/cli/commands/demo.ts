import { defineCommand } from '../command.js';
import { choice, flag, integer, MODEL_OPTIONS, path } from '../options.js';

export const demoCommand = defineCommand({
  name: 'demo',
  describe:
    'train a small model from nothing and let it improve itself, beside plain self-rewarding (minutes on a CPU)',
  makesFolder: true,
  isContinued: true,
  options: {
    output: path('folder for data, checkpoints and both runs', { alias: 'o' }),
    seed: integer('everything random follows from this number', { min: 0, default: 0 }),
    device: { ...MODEL_OPTIONS.device, fallbackText: 'cpu' },
    dtype: choice('number format of weights and activations', ['float32', 'bfloat16'], {
      default: 'float32',
    }),
    threads: { ...MODEL_OPTIONS.threads, fallbackText: '1' },
    json: flag('events and both summaries as JSON lines on standard output'),
  },
  notes:
    'The task is 4-digit addition with every carry written out. The base model M0 learns it from a corpus with ' +
    'systematic mistakes; the method then improves it without labels. Called again, it ' +
    'continues; only the training of M0 begins anew.',
  async run(values, context) {
    const { executeDemo } = await import('../demo.js');
    return executeDemo(values, context);
  },
});
