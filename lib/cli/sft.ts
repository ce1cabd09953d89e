import { loadSft } from '../data/datasets.js';
import { encodeSftExamples, type TrainedTurns } from '../data/sft-examples.js';
import { fitTraining } from '../run/training-memory.js';
import { sft } from '../stages/sft.js';
import type { Context } from './command.js';
import { defaultConfig } from './defaults.js';
import { inputSource } from './input.js';
import { loadTrainee } from './models.js';
import { Progress } from './progress.js';
import { encoding, loadTokenizer } from './texts.js';
import {
  finishTraining,
  fitting,
  prepareTraining,
  StepLog,
  type TrainingValues,
  withOptions,
} from './training.js';

/** `cream sft`: one stage of the method, from a model folder to a model folder. */
export async function trainExamples(
  values: TrainingValues & { loss: TrainedTurns },
  context: Context,
): Promise<void> {
  const { signal, terminal, isQuiet } = context;
  await prepareTraining(values);
  const options = withOptions(defaultConfig().sft, { ...values });
  const tokenizer = await loadTokenizer(values.model, values);
  const source = inputSource(values.input, signal);
  const { records } = await loadSft(source.name, source.options);
  const all = await encoding(source.name, values, context, (encodingOptions) =>
    encodeSftExamples(records, tokenizer, { ...encodingOptions, loss: values.loss }),
  );

  await using model = await loadTrainee(values.model, values, context);
  const progress = new Progress(terminal, { isQuiet });
  const log = new StepLog(progress, 'sft');
  try {
    const lengthOf = (example: (typeof all)[number]): number =>
      example.promptIds.length + example.responseIds.length;
    const examples = fitting(all, lengthOf, values, model, (message) => log.warn('too-long', message));
    const fitted = await fitTraining(model, options, {
      device: values.device ?? 'auto',
      rows: examples.map(lengthOf),
      warn: (code, message) => log.warn(code, message),
    });
    const trainer = await model.createTrainer({ ...fitted, seed: values.seed });
    const metrics = await sft(examples, trainer, {
      options: fitted,
      seed: values.seed,
      stream: 'sft',
      signal,
      onStep: (step, total, stepMetrics) => log.step(step, total, stepMetrics),
      onWarning: (code, message) => log.warn(code, message),
    });
    trainer.dispose();
    progress.stop();
    await finishTraining(model, log, { examples: examples.length, metrics }, values, context);
  } finally {
    progress.stop();
  }
}
