import { loadSft } from '../data/datasets.js';
import { Tokenizer } from '../data/tokenizer.js';
import { fitTraining } from '../run/training-memory.js';
import { sft } from '../stages/sft.js';
import type { Context } from './command.js';
import { defaultConfig } from './defaults.js';
import { inputSource } from './input.js';
import { loadTrainee } from './models.js';
import { Progress } from './progress.js';
import {
  finishTraining,
  fitting,
  prepareTraining,
  StepLog,
  type TrainingValues,
  withOptions,
} from './training.js';

/** `cream sft`: one stage of the method, from a model folder to a model folder. */
export async function trainExamples(values: TrainingValues, context: Context): Promise<void> {
  const { signal, terminal, isQuiet } = context;
  await prepareTraining(values);
  const options = withOptions(defaultConfig().sft, { ...values });
  const tokenizer = await Tokenizer.load(values.model);
  const source = inputSource(values.input, signal);
  const { records } = await loadSft(source.name, source.options);
  const encoding = { chat: values.chat, signal };
  const promptIds = await tokenizer.promptIdsAll(records, encoding);
  const responseIds = await tokenizer.responseIdsAll(
    records.map(({ id, prompt, response }) => ({ id, prompt, text: response })),
    encoding,
  );
  const all = records.map(({ id }, i) => ({ id, promptIds: promptIds[i]!, responseIds: responseIds[i]! }));

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
