import t, { type Test } from 'tap';
import type {
  NativeModel,
  NativePairExample,
  NativeTensor,
  NativeTrainer,
} from '../../lib/native/binding.js';
import { close, closeInNorm } from '../helpers/close.js';
import { CHECKPOINTS, readGolden, toFloats } from '../helpers/golden.js';
import type {
  GoldenArray,
  GoldenExample,
  GoldenGradients,
  GoldenModel,
  GoldenPair,
} from '../helpers/golden.js';
import { nativeModel, neverCancelled, ROUNDING } from '../helpers/native-model.js';

// Losses, gradients and optimizer steps against PyTorch and TRL, in float32 (test/golden/models.py,
// preference_trl.py, steps.py).

// Relative to the norm of each parameter's gradient: both sides sum some hundred float32 products per value in
// different orders, and transformers' own gradients carry the same error.
const GRADIENT_RELATIVE = ROUNDING;
// Losses near 1 to 10, from sums of about 30 log-probs of up to 15 nats.
const LOSS_RELATIVE = ROUNDING;

// All sequences in one micro-batch; a few; hardly more than one.
const TOKEN_BUDGETS = [10_000, 40, 20];

const OPTIMIZER = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01, maxGradNorm: 1, seed: 0n };

const toExamples = (batch: GoldenExample[]) =>
  batch.map(({ promptIds, responseIds }) => ({
    promptIds: Int32Array.from(promptIds),
    responseIds: Int32Array.from(responseIds),
  }));

const toPairs = (pairs: GoldenPair[], consistency: readonly number[]): NativePairExample[] =>
  pairs.map((pair, index) => ({
    promptIds: Int32Array.from(pair.promptIds),
    chosenIds: Int32Array.from(pair.chosenIds),
    rejectedIds: Int32Array.from(pair.rejectedIds),
    consistency: consistency[index]!,
    referenceChosen: pair.referenceChosen,
    referenceRejected: pair.referenceRejected,
  }));

const norm = (values: Float32Array) => Math.sqrt(values.reduce((total, value) => total + value * value, 0));

function checkGradients(t: Test, actual: NativeTensor[], golden: GoldenGradients, what: string) {
  const byName = new Map(actual.map((tensor) => [tensor.name, tensor.data]));
  t.strictSame(
    [...byName.keys()].sort(),
    Object.keys(golden.norms).sort(),
    `${what}: every parameter, no other`,
  );
  // A norm can agree while directions differ; the arrays below tell.
  const names = Object.keys(golden.norms);
  const norms = names.map((name) => norm(byName.get(name) ?? new Float32Array()));
  const expected = names.map((name) => golden.norms[name]!);
  // k_proj biases of Qwen2 and Llama have gradients near zero (softmax ignores a shift), hence relative to the largest.
  const largest = Math.max(...expected);
  close(
    t,
    norms,
    expected,
    { rtol: GRADIENT_RELATIVE, atol: GRADIENT_RELATIVE * 0.1 * largest },
    `${what}: norms`,
  );
  for (const [name, array] of Object.entries(golden.arrays)) {
    closeInNorm(t, byName.get(name)!, toFloats(array), GRADIENT_RELATIVE, `${what}: ${name}`);
  }
}

async function withTrainer(
  name: string,
  options: Partial<typeof OPTIMIZER>,
  use: (trainer: NativeTrainer, model: NativeModel) => Promise<void>,
) {
  const model = await nativeModel(name);
  const trainer = await model.createTrainer({ ...OPTIMIZER, ...options });
  try {
    await use(trainer, model);
  } finally {
    trainer.dispose();
    model.dispose();
  }
}

for (const name of CHECKPOINTS) {
  const golden = readGolden<GoldenModel>(`model-${name}`);

  t.test(`${name}: SFT loss and gradients equal transformers', however the batch is split`, async (t) => {
    await withTrainer(name, {}, async (trainer) => {
      const batch = toExamples(golden.sft.batch);
      for (const budget of TOKEN_BUDGETS) {
        const gradients = await trainer._sftGradients(batch, budget);
        checkGradients(t, gradients, golden.sft.gradients, `${budget} tokens`);
        // A step without a learning rate changes nothing and returns the loss.
        const metrics = await trainer.sftStep(batch, 0, budget, neverCancelled());
        close(t, [metrics.loss], [golden.sft.loss], { rtol: LOSS_RELATIVE }, `${budget} tokens: loss`);
      }
    });
  });

  t.test(
    `${name}: preference losses and gradients equal autograd's for every C and every loss`,
    async (t) => {
      await withTrainer(name, {}, async (trainer) => {
        for (const { loss, beta, sftCoefficient, consistency, value, gradients } of golden.preference.cases) {
          const batch = toPairs(golden.preference.pairs, consistency);
          const options = { loss, beta, sftCoefficient };
          for (const budget of loss === 'sigmoid' ? TOKEN_BUDGETS : [10_000]) {
            const what = `${loss}, C ${consistency.join(' ')}, ${budget} tokens`;
            checkGradients(t, await trainer._preferenceGradients(batch, options, budget), gradients, what);
            const metrics = await trainer.preferenceStep(batch, options, 0, budget, neverCancelled());
            close(t, [metrics.loss], [value], { rtol: LOSS_RELATIVE }, `${what}: loss`);
          }
        }
      });
    },
  );
}

interface TrlGolden {
  policy: string;
  cases: {
    trlLoss: string;
    labelSmoothing: number;
    loss: 'sigmoid' | 'hinge' | 'ipo' | 'sigmoid-norm';
    beta: number;
    pairs: (GoldenPair & { consistency: number })[];
    value: number;
    metrics: Record<string, number>;
    gradients: GoldenGradients;
  }[];
}

const trl = readGolden<TrlGolden>('preference-trl');

for (const { trlLoss, labelSmoothing, loss, beta, pairs, value, metrics, gradients } of trl.cases) {
  t.test(
    `TRL's DPOTrainer, ${trlLoss} with label smoothing ${labelSmoothing}: loss, metrics, gradients`,
    async (t) => {
      await withTrainer(trl.policy, {}, async (trainer) => {
        const consistency = pairs.map((pair) => pair.consistency);
        const batch = toPairs(pairs, consistency);
        const options = { loss, beta, sftCoefficient: 0 };
        const step = await trainer.preferenceStep(batch, options, 0, 10_000, neverCancelled());
        const actual = {
          'rewards/chosen': step.rewardsChosen,
          'rewards/rejected': step.rewardsRejected,
          'rewards/margins': step.rewardsMargins,
          'rewards/accuracies': step.rewardsAccuracies,
          'logps/chosen': step.logpsChosen,
          'logps/rejected': step.logpsRejected,
        };
        t.strictSame(Object.keys(actual).sort(), Object.keys(metrics).sort());
        for (const [key, number] of Object.entries(actual)) {
          close(t, [number], [metrics[key]!], { rtol: LOSS_RELATIVE, atol: LOSS_RELATIVE }, key);
        }
        close(t, [step.loss], [value], { rtol: LOSS_RELATIVE }, 'loss');
        checkGradients(t, await trainer._preferenceGradients(batch, options, 10_000), gradients, 'gradients');
      });
    },
  );
}

interface StepsGolden {
  checkpoint: string;
  optimizer: typeof OPTIMIZER;
  sft: Steps<GoldenExample>;
  preference: Steps<GoldenPair & { consistency: number }> & { loss: 'sigmoid'; beta: number };
}
interface Steps<Item> {
  steps: { learningRate: number; batch: Item[]; loss: number; gradNorm: number }[];
  largestChange: number;
  final: Record<string, GoldenArray>;
}

const steps = readGolden<StepsGolden>('steps');

/**
 * AdamW divides by the root of the second moment, so a gradient value that is nearly zero, mostly rounding, moves its
 * weight as far as any other: single weights may differ by a part of the way, the whole only by its rounding.
 */
async function checkFinalWeights(t: Test, model: NativeModel, { final, largestChange }: Steps<unknown>) {
  const tensors = await model._tensors();
  t.strictSame(tensors.map(({ name }) => name).sort(), Object.keys(final).sort());
  for (const { name, data } of tensors) {
    const expected = toFloats(final[name]!);
    closeInNorm(t, data, expected, 2e-6, name);
    close(t, data, expected, { atol: 0.005 * largestChange }, `${name}: each weight`);
  }
}

t.test('ten SFT steps give the losses, gradient norms and weights of PyTorch', async (t) => {
  await withTrainer(steps.checkpoint, steps.optimizer, async (trainer, model) => {
    for (const { learningRate, batch, loss, gradNorm } of steps.sft.steps) {
      const metrics = await trainer.sftStep(toExamples(batch), learningRate, 60, neverCancelled());
      t.equal(metrics.applied, true);
      close(t, [metrics.loss, metrics.gradNorm], [loss, gradNorm], { rtol: LOSS_RELATIVE });
    }
    await checkFinalWeights(t, model, steps.sft);
  });
});

t.test('ten preference steps give the losses, gradient norms and weights of PyTorch', async (t) => {
  await withTrainer(steps.checkpoint, steps.optimizer, async (trainer, model) => {
    const { loss, beta } = steps.preference;
    for (const step of steps.preference.steps) {
      const pairs = toPairs(
        step.batch,
        step.batch.map((pair) => pair.consistency),
      );
      const options = { loss, beta, sftCoefficient: 0 };
      const metrics = await trainer.preferenceStep(pairs, options, step.learningRate, 60, neverCancelled());
      t.equal(metrics.applied, true);
      close(t, [metrics.loss, metrics.gradNorm], [step.loss, step.gradNorm], { rtol: LOSS_RELATIVE });
    }
    await checkFinalWeights(t, model, steps.preference);
  });
});
