import { isDeepStrictEqual } from 'node:util';
import { loadPairs, type PairRecord } from '../data/datasets.js';
import type { ExchangeOptions } from '../data/exchange-encoder.js';
import { responseText, templateInputsOf } from '../data/messages.js';
import type { Tokenizer } from '../data/tokenizer.js';
import type { CreamConfig } from '../config.js';
import { CreamError } from '../errors.js';
import type { Model } from '../native/model.js';
import { score } from '../stages/score.js';
import { tally } from '../run/summary.js';
import { fitTraining } from '../run/training-memory.js';
import { train } from '../stages/train.js';
import type { PreferencePair } from '../types.js';
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

export interface TrainValues extends TrainingValues {
  beta: number | undefined;
  loss: CreamConfig['train']['loss'] | undefined;
  sftCoefficient: number | undefined;
  lengthTerm: number | undefined;
  agreementCoefficient: number | undefined;
  agreementEntropy: number | undefined;
}

/** Pairs that are scored between two reports of progress. */
const CHUNK = 32;

/** A pair as tokens; its reference log-probs may be missing. */
type TokenizedPair = Omit<PreferencePair, 'referenceChosenLogprob' | 'referenceRejectedLogprob'> &
  Pick<PairRecord, 'referenceChosenLogprob' | 'referenceRejectedLogprob'>;

/** `cream train`: one stage of the method, from a model folder and pairs to a model folder. */
export async function trainPairs(values: TrainValues, context: Context): Promise<void> {
  const { signal, terminal, isQuiet } = context;
  await prepareTraining(values);
  const defaults = defaultConfig();
  const options = withOptions(defaults.train, { ...values });
  if (options.lengthTerm > 0 && options.loss !== 'sigmoid' && options.loss !== 'sigmoid-norm') {
    throw new CreamError('USAGE', `--length-term has no effect with --loss ${options.loss}`);
  }
  const beta = values.beta ?? defaults.beta;
  const source = inputSource(values.input, signal);
  const { records } = await loadPairs(source.name, source.options);
  const tokenizer = await loadTokenizer(values.model, values);
  const tokenized = await encoding(source.name, values, context, (encodingOptions) =>
    tokenise(records, tokenizer, encodingOptions),
  );
  const { usable, leftOut } = teaching(tokenized, source.name);

  await using model = await loadTrainee(values.model, values, context);
  const progress = new Progress(terminal, { isQuiet });
  const log = new StepLog(progress, 'train');
  for (const [reason, count] of Object.entries(leftOut)) {
    log.warn(
      'left-out',
      `${count} of ${records.length} pairs ${LEFT_OUT[reason as LeftOut]} and are left out`,
    );
  }
  const unweighted = records.filter(
    ({ weight, consistency }) => weight === undefined && consistency === undefined,
  );
  if (unweighted.length > 0 && !isQuiet) {
    terminal.note(
      `${unweighted.length} of ${records.length} pairs have no weight or consistency: 1 is taken (plain DPO)`,
    );
  }
  try {
    const lengthOf = ({ promptIds, chosenIds, rejectedIds }: TokenizedPair): number =>
      promptIds.length + Math.max(chosenIds.length, rejectedIds.length);
    const fit = fitting(usable, lengthOf, values, model, (message) => log.warn('too-long', message));
    const pairs = await withReferences(fit, model, defaults.score.maxTokensPerBatch, progress, signal);
    const fitted = await fitTraining(model, options, {
      device: values.device ?? 'auto',
      rows: pairs.map((pair) => pair.promptIds.length + pair.chosenIds.length + pair.rejectedIds.length),
      warn: (code, message) => log.warn(code, message),
    });
    const trainer = await model.createTrainer({ ...fitted, seed: values.seed });
    const metrics = await train(pairs, trainer, {
      options: fitted,
      beta,
      dtype: model.dtype,
      adapter: model.adapter,
      seed: values.seed,
      stream: 'train',
      signal,
      onStep: (step, total, stepMetrics) => log.step(step, total, stepMetrics),
      onWarning: (code, message) => log.warn(code, message),
    });
    trainer.dispose();
    progress.stop();
    await finishTraining(model, log, { examples: pairs.length, leftOut, metrics }, values, context);
  } finally {
    progress.stop();
  }
}

type LeftOut = 'identical' | 'undefined-consistency';
const LEFT_OUT: Readonly<Record<LeftOut, string>> = {
  identical: 'have two equal responses (as tokens), which teach nothing,',
  'undefined-consistency': 'have a weight or consistency of null or NaN, which is not known,',
};

/**
 * The pairs that can teach something. Of two equal responses the gradient is exactly 0, and an optimizer makes steps out
 * of rounding noise; a weight that is not known is not 1.
 */
function teaching(
  pairs: readonly TokenizedPair[],
  name: string,
): { usable: TokenizedPair[]; leftOut: Partial<Record<LeftOut, number>> } {
  const reasonOf = ({ chosenIds, rejectedIds, weight }: TokenizedPair): LeftOut | undefined => {
    if (Number.isNaN(weight)) return 'undefined-consistency';
    return isDeepStrictEqual(chosenIds, rejectedIds) ? 'identical' : undefined;
  };
  const usable = pairs.filter((pair) => reasonOf(pair) === undefined);
  const leftOut = tally(pairs.map(reasonOf).filter((reason) => reason !== undefined));
  if (usable.length > 0) return { usable, leftOut };
  const counts = Object.entries(leftOut).map(([reason, count]) => `${count} ${reason}`);
  throw new CreamError(
    'NO_PAIRS',
    `${name}: none of ${pairs.length} pairs can be trained: ${counts.join(', ')}`,
  );
}

/** Ids that a row gives are used as they are; text is tokenised, with the token that ends a response. */
async function tokenise(
  records: readonly PairRecord[],
  tokenizer: Tokenizer,
  options: ExchangeOptions,
): Promise<TokenizedPair[]> {
  const idKeys = ['promptIds', 'chosenIds', 'rejectedIds'] as const;
  const isText = (record: PairRecord) => idKeys.some((key) => record[key] === undefined);
  const asked = records.filter(isText).map(({ id, prompt, chosen, rejected, ...row }) => ({
    id,
    prompt,
    responses: [chosen, rejected],
    ...templateInputsOf(row),
  }));
  const encoded = (await tokenizer.exchanges(asked, options)).values();
  return records.map((record) => {
    const { id, promptIds, chosenIds, rejectedIds } = record;
    for (const key of idKeys) {
      if (record[key] !== undefined) tokenizer.checkIds(record[key], `pair ${id}, ${key}`);
    }
    const exchange = isText(record) ? encoded.next().value! : undefined;
    if (exchange !== undefined && exchange.leftOut.length > 0 && (promptIds ?? chosenIds ?? rejectedIds)) {
      throw new CreamError(
        'INVALID_DATA',
        `pair ${id}: the chat template writes the prompt otherwise before a response, so text cannot stand beside ids; give all three as ids or none`,
      );
    }
    const weight = record.weight ?? record.consistency ?? 1;
    const consistency = Number.isNaN(record.consistency) ? weight : (record.consistency ?? weight);
    return {
      chosenReward: Number.NaN,
      rejectedReward: Number.NaN,
      ...record,
      chosen: responseText(record.chosen),
      rejected: responseText(record.rejected),
      consistency,
      weight,
      promptIds: promptIds ?? exchange!.promptIds,
      chosenIds: chosenIds ?? exchange!.responses[0]!,
      rejectedIds: rejectedIds ?? exchange!.responses[1]!,
    };
  });
}

/** The reference of the loss is the model before its first step: where a row has no log-probs, it gives them. */
async function withReferences(
  pairs: readonly TokenizedPair[],
  model: Model,
  maxTokensPerBatch: number,
  progress: Progress,
  signal: AbortSignal,
): Promise<PreferencePair[]> {
  const isMissing = ({ referenceChosenLogprob, referenceRejectedLogprob }: TokenizedPair): boolean =>
    referenceChosenLogprob === undefined || referenceRejectedLogprob === undefined;
  const missing = pairs.filter(isMissing);
  const found = new Map<string, readonly number[]>();
  for (let start = 0; start < missing.length; start += CHUNK) {
    const chunk = missing.slice(start, start + CHUNK);
    const groups = chunk.map(({ id, prompt, promptIds, chosenIds, rejectedIds }) => ({
      id,
      prompt,
      promptIds,
      responses: [chosenIds, rejectedIds].map((ids) => ({ ids, text: '', finishReason: 'stop' as const })),
    }));
    for (const { id, logprobs } of await score(groups, model, { maxTokensPerBatch, signal }))
      found.set(id, logprobs);
    const done = start + chunk.length;
    progress.event({
      type: 'progress',
      stage: 'score',
      iteration: 0,
      done,
      total: missing.length,
      unit: 'pairs',
    });
  }
  return pairs.map((pair) => {
    const [chosen, rejected] = found.get(pair.id) ?? [
      pair.referenceChosenLogprob,
      pair.referenceRejectedLogprob,
    ];
    return { ...pair, referenceChosenLogprob: chosen!, referenceRejectedLogprob: rejected! };
  });
}
