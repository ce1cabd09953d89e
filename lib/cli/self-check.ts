import { CreamError } from '../errors.js';
import { Model } from '../native/model.js';

const TINY = {
  vocabSize: 32,
  hiddenSize: 16,
  intermediateSize: 32,
  numLayers: 2,
  numHeads: 4,
  numKvHeads: 2,
  headDim: 4,
  maxPositionEmbeddings: 64,
  rmsNormEps: 1e-5,
  ropeTheta: 10000,
  ropeScaling: 'none' as const,
  ropeFactor: 1,
  ropeLowFreqFactor: 1,
  ropeHighFreqFactor: 4,
  ropeOriginalMaxPositionEmbeddings: 64,
  qkvBias: false,
  oBias: false,
  mlpBias: false,
  qkNorm: false,
  tieWordEmbeddings: true,
  slidingWindow: [0, 0],
};

const PROMPT_IDS = [1, 5, 9];
const CHOSEN_IDS = [4, 8, 2];
const REJECTED_IDS = [7, 2];

/**
 * Does on a tiny random model what a run does on a real one, and throws where the answer is not the known one:
 * log-probs are negative and finite, the loss starts at log 2, one step raises the margin.
 */
export async function selfCheck(signal: AbortSignal): Promise<{ seconds: number; loss: number }> {
  const startedMs = performance.now();
  const model = await Model.random(TINY, { seed: 1n, dtype: 'float32', device: 'cpu' });
  try {
    const before = await margin(model, signal);
    for await (const { ids } of model.generate({
      prompts: [{ id: 'self-check', ids: PROMPT_IDS }],
      maxNewTokens: 4,
      seed: 1,
      signal,
    })) {
      expect(ids.length === 4, `generated ${ids.length} of 4 tokens`);
    }
    const trainer = await model.createTrainer({ weightDecay: 0 });
    const step = await trainer.preferenceStep(
      [
        {
          promptIds: PROMPT_IDS,
          chosenIds: CHOSEN_IDS,
          rejectedIds: REJECTED_IDS,
          consistency: 0.9,
          referenceChosen: before.chosen,
          referenceRejected: before.rejected,
        },
      ],
      { loss: 'sigmoid', beta: 0.1, sftCoefficient: 0, learningRate: 1e-2, maxTokensPerBatch: 64, signal },
    );
    trainer.dispose();
    expect(Math.abs(step.loss - Math.LN2) < 1e-4, `the first loss is ${step.loss}, not log 2`);
    const after = await margin(model, signal);
    expect(
      after.chosen - after.rejected > before.chosen - before.rejected,
      'a preference step did not raise the chosen response above the rejected one',
    );
    return { seconds: (performance.now() - startedMs) / 1000, loss: step.loss };
  } finally {
    model.dispose();
  }
}

async function margin(model: Model, signal: AbortSignal): Promise<{ chosen: number; rejected: number }> {
  const scored = await model.score([{ promptIds: PROMPT_IDS, responses: [CHOSEN_IDS, REJECTED_IDS] }], {
    signal,
  });
  const [chosen, rejected] = scored[0]?.logprobs ?? [];
  expect(
    chosen !== undefined &&
      rejected !== undefined &&
      chosen < 0 &&
      rejected < 0 &&
      Number.isFinite(chosen + rejected),
    `log-probs are ${chosen} and ${rejected}`,
  );
  return { chosen: chosen!, rejected: rejected! };
}

function expect(holds: boolean, message: string): void {
  if (!holds) throw new CreamError('ENVIRONMENT', `the engine computes wrong numbers here: ${message}`);
}
