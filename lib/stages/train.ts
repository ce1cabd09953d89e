import type { CreamConfig } from '../config.js';
import { CreamError } from '../errors.js';
import { boundOf, boundWatch } from '../run/training-memory.js';
import { runTraining, type StepResult, type Training } from '../run/training.js';
import type { PreferencePair } from '../types.js';

/** What preference training needs of an optimizer over a model. */
export interface PreferenceTrainer {
  preferenceStep(
    batch: {
      promptIds: readonly number[];
      chosenIds: readonly number[];
      rejectedIds: readonly number[];
      consistency: number;
      referenceChosen: number;
      referenceRejected: number;
      implicitMargin?: number;
      judgeMargin?: number;
    }[],
    options: {
      loss: CreamConfig['train']['loss'];
      beta: number;
      sftCoefficient: number;
      lengthTerm: number;
      agreementCoefficient: number;
      agreementEntropy: number;
      learningRate: number;
      maxTokensPerBatch: number;
    },
  ): Promise<PreferenceStepMetrics>;
  saveState(path: string): Promise<void>;
  loadState(path: string): Promise<void>;
}

export interface PreferenceStepMetrics {
  loss: number;
  gradNorm: number;
  applied: boolean;
  targetTokens: number;
  microBatches: number;
  /** The bound that was kept to; less than asked for where memory ran out. */
  maxTokensPerBatch?: number;
  weightsMoved: number;
  rewardsChosen: number;
  rewardsRejected: number;
  rewardsMargins: number;
  rewardsAccuracies: number;
  logpsChosen: number;
  logpsRejected: number;
}

export type PreferenceTraining = Pick<
  Training<PreferencePair>,
  'seed' | 'stream' | 'signal' | 'checkpoints' | 'onStep' | 'onWarning'
> & {
  options: CreamConfig['train'];
  beta: number;
  dtype: 'float32' | 'bfloat16';
  /** The adapter in training, if there is one. Its dropout makes the first loss a random number, which no check knows. */
  adapter?: { dropout: number } | undefined;
};

/**
 * How far a token's log-prob may differ between scoring and training, which pack the same tokens into other
 * batches. float32: rounding, about 1e-6. bfloat16: 0.03 to 0.05 (matrix products round differently by shape).
 */
const TOKEN_TOLERANCE = { float32: 1e-4, bfloat16: 0.05 } as const;

const softplus = (x: number) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

const usesAgreement = ({ agreementCoefficient, agreementEntropy }: CreamConfig['train']) =>
  agreementCoefficient > 0 || agreementEntropy > 0;

/** What the agreement term knows of a pair: the implicit reward's margin at the reference, and the judge's. */
function agreementMargins(
  pair: PreferencePair,
  beta: number,
): { implicitMargin: number; judgeMargin: number } {
  const { baseChosenLogprob, baseRejectedLogprob, judgeMargin } = pair;
  if (baseChosenLogprob === undefined || baseRejectedLogprob === undefined || judgeMargin === undefined) {
    throw new CreamError(
      'MISSING_SCORES',
      `pair ${pair.id} has no ${judgeMargin === undefined ? 'judgeMargin' : 'log-probs of the base model'}: the ` +
        'agreement term (train.agreementCoefficient, train.agreementEntropy) needs groups that a judge scored',
    );
  }
  const chosen = pair.referenceChosenLogprob - baseChosenLogprob;
  const rejected = pair.referenceRejectedLogprob - baseRejectedLogprob;
  return { implicitMargin: beta * (chosen - rejected), judgeMargin };
}

/** One pair's loss at z = 0: what does not depend on the pair's lengths, weight and judge is log 2 (sigmoid). */
function pairLossAtStart(pair: PreferencePair, options: CreamConfig['train'], beta: number): number {
  const { loss, lengthTerm, agreementCoefficient, agreementEntropy } = options;
  const u = lengthTerm * (pair.chosenIds.length - pair.rejectedIds.length);
  const sigmoidLoss = u === 0 ? Math.LN2 : softplus(-u) + (1 - pair.weight) * u;
  const family = { sigmoid: sigmoidLoss, 'sigmoid-norm': sigmoidLoss, hinge: 1, ipo: 1 / (4 * beta * beta) };
  if (!usesAgreement(options)) return family[loss];
  const { implicitMargin: v, judgeMargin: g } = agreementMargins(pair, beta);
  const divergence = (sigmoid(v) - sigmoid(g)) * (v - g);
  const entropy = softplus(-Math.abs(v)) + Math.abs(v) * sigmoid(-Math.abs(v));
  return family[loss] + agreementCoefficient * divergence + agreementEntropy * entropy;
}

/** The loss of pairs whose policy is still the reference, z = 0: without options the same for every C. */
export function lossAtStart(
  batch: readonly PreferencePair[],
  options: CreamConfig['train'],
  beta: number,
): number {
  const atZero = batch.reduce((sum, pair) => sum + pairLossAtStart(pair, options, beta), 0) / batch.length;
  const nll =
    batch.reduce((sum, pair) => sum - pair.referenceChosenLogprob / pair.chosenIds.length, 0) / batch.length;
  return atZero + options.sftCoefficient * nll;
}

/**
 * At the first step the policy is the reference, so the loss is known: log 2 for the sigmoid. A run that does not
 * start there compares other tokens, masks or weights than it scored, and must stop.
 */
export function checkStart(
  batch: readonly PreferencePair[],
  loss: number,
  { options, beta, dtype }: Pick<PreferenceTraining, 'options' | 'beta' | 'dtype'>,
): void {
  const expected = lossAtStart(batch, options, beta);
  const tokens =
    batch.reduce((sum, pair) => sum + pair.chosenIds.length + pair.rejectedIds.length, 0) / batch.length;
  // Errors of single tokens are independent: their sum grows with the root of the length; three deviations.
  const sumError = 3 * TOKEN_TOLERANCE[dtype] * Math.sqrt(tokens);
  const meanError = 2 * TOKEN_TOLERANCE[dtype];
  const slope = {
    sigmoid: beta * sumError,
    hinge: beta * sumError,
    'sigmoid-norm': beta * meanError,
    ipo: meanError / beta,
  };
  const agreementSlope = !usesAgreement(options)
    ? 0
    : batch.reduce((sum, pair) => {
        const { implicitMargin, judgeMargin } = agreementMargins(pair, beta);
        const steepest = options.agreementCoefficient * (1 + Math.abs(implicitMargin - judgeMargin) / 4);
        return sum + steepest + options.agreementEntropy / 4;
      }, 0) / batch.length;
  const tolerance =
    slope[options.loss] + agreementSlope * beta * sumError + options.sftCoefficient * meanError;
  if (Math.abs(loss - expected) <= tolerance) return;
  throw new CreamError(
    'DIVERGED',
    `the first preference step has loss ${loss} in place of ${expected} (+- ${tolerance.toPrecision(2)}): the ` +
      'log-probs in the pairs are not those of the model in training; score the responses with this very model',
  );
}

/** Which bound against collapse a step is past. The reference of the fall is the same batch under the policy. */
export function collapseOf(
  batch: readonly PreferencePair[],
  metrics: Readonly<Record<string, number>>,
  { maxChosenDrop, maxMargin }: Pick<CreamConfig['train'], 'maxChosenDrop' | 'maxMargin'>,
): string | undefined {
  const before = batch.reduce((sum, pair) => sum + pair.referenceChosenLogprob, 0) / batch.length;
  const drop = before - metrics['logps/chosen']!;
  const margin = metrics['rewards/margins']!;
  if (maxChosenDrop !== undefined && drop > maxChosenDrop) {
    return `the chosen responses lost ${drop.toFixed(2)} nats, train.maxChosenDrop is ${maxChosenDrop}`;
  }
  if (maxMargin !== undefined && margin > maxMargin) {
    return `rewards/margins is ${margin.toFixed(3)}, train.maxMargin is ${maxMargin}`;
  }
  return undefined;
}

/** M_t -> M_{t+1} in place: preference training on pairs, each with its weight C. Metrics of the last step. */
export async function train(
  pairs: readonly PreferencePair[],
  trainer: PreferenceTrainer,
  training: PreferenceTraining,
): Promise<Record<string, number>> {
  const { options, beta } = training;
  if (pairs.length === 0)
    throw new CreamError('NO_PAIRS', `${training.stream}: there is no preference pair to train on`);
  const maxTokensPerBatch = boundOf(options);
  const watchBound = boundWatch(maxTokensPerBatch, training.onWarning);
  const step = async (batch: PreferencePair[], learningRate: number): Promise<StepResult> => {
    const metrics = await trainer.preferenceStep(
      batch.map((pair) => ({
        promptIds: pair.promptIds,
        chosenIds: pair.chosenIds,
        rejectedIds: pair.rejectedIds,
        consistency: pair.weight,
        referenceChosen: pair.referenceChosenLogprob,
        referenceRejected: pair.referenceRejectedLogprob,
        ...(usesAgreement(options) ? agreementMargins(pair, beta) : {}),
      })),
      {
        loss: options.loss,
        beta,
        sftCoefficient: options.sftCoefficient,
        lengthTerm: options.lengthTerm,
        agreementCoefficient: options.agreementCoefficient,
        agreementEntropy: options.agreementEntropy,
        learningRate,
        maxTokensPerBatch,
      },
    );
    watchBound(metrics.maxTokensPerBatch ?? maxTokensPerBatch);
    const mean = (of: (pair: PreferencePair) => number) =>
      batch.reduce((sum, pair) => sum + of(pair), 0) / batch.length;
    return {
      applied: metrics.applied,
      metrics: {
        loss: metrics.loss,
        grad_norm: metrics.gradNorm,
        'rewards/chosen': metrics.rewardsChosen,
        'rewards/rejected': metrics.rewardsRejected,
        'rewards/margins': metrics.rewardsMargins,
        'rewards/accuracies': metrics.rewardsAccuracies,
        'logps/chosen': metrics.logpsChosen,
        'logps/rejected': metrics.logpsRejected,
        ...(batch.every(({ consistency }) => consistency !== null)
          ? { 'cream/consistency': mean(({ consistency }) => consistency!) }
          : {}),
        ...(batch.every(({ tau }) => tau !== undefined) ? { 'cream/tau': mean(({ tau }) => tau!) } : {}),
        'cream/weight': mean((pair) => pair.weight),
        'cream/weights_moved': metrics.weightsMoved,
        'cream/tokens': metrics.targetTokens,
        'cream/micro_batches': metrics.microBatches,
      },
    };
  };
  return runTraining<PreferencePair>({
    ...training,
    examples: pairs,
    key: (pair) => pair.id,
    optimizer: {
      step,
      saveState: (path) => trainer.saveState(path),
      loadState: (path) => trainer.loadState(path),
    },
    stopWhen: (batch, { metrics }) => collapseOf(batch, metrics, options),
    checkFirstStep: (batch, result) => {
      const isKnown = (training.adapter?.dropout ?? 0) === 0;
      if (result.applied && isKnown) checkStart(batch, result.metrics['loss']!, training);
    },
  });
}
