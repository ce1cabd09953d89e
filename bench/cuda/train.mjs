// Rows of preference steps.
import { adamwBytes, trainFlop, trainFlopUnshared } from './floors.mjs';
import { ADAMW, groupsOf, TERA } from './jobs.mjs';
import { binding, load, time, token, whereTimeWent } from './measure.mjs';
import { planStep } from './plan.mjs';
import { SHAPES, sizes } from './shapes.mjs';

export const ADAPTER = {
  rank: 32,
  alpha: 64,
  dropout: 0,
  rankStabilized: false,
  targetModules: ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'],
};

const pairsOf = (config, { P, T }, pairs) =>
  groupsOf(config, { P, T, N: 2 }, pairs).map(({ promptIds, responses: [chosenIds, rejectedIds] }, i) => ({
    promptIds,
    chosenIds,
    rejectedIds,
    consistency: [1, 0.9, 0.8, 0.6][i % 4],
    referenceChosen: -11 * T,
    referenceRejected: -11 * T,
  }));

/** A preference step: TFLOP/s of the work done, pairs/s, memory, and the gain over the same step without sharing. */
export async function train(
  { shape, device, caps, quick, memory },
  { P, T, pairs, maxTokens, lora = false, wanted, wantedPairs, wantedSharing, most },
) {
  const config = SHAPES[shape];
  const adapter = lora ? ADAPTER : undefined;
  const longest = 2 * (P + T); // of a pair whose prompt is not shared, which is measured too
  const plan = planStep(
    { config, device, lora: adapter, memory },
    { longest, batchRows: pairs * longest, maxTokens, most },
  );
  if (plan.skipped !== undefined) return plan;
  const { plannedBytes, maxTokensPerBatch, ...settings } = plan;
  const base = await load(shape, device);
  const model = lora ? await base.addAdapter(ADAPTER, 1n) : base;
  const trainer = await model.createTrainer({ ...ADAMW, ...settings });
  const batch = pairsOf(config, { P, T }, pairs);
  const loss = { loss: 'sigmoid', beta: 0.1, sftCoefficient: 0 };
  let metrics;
  const step = (sharePrompts) => async () => {
    metrics = await trainer.preferenceStep(
      batch,
      { ...loss, sharePrompts },
      1e-7,
      metrics?.maxTokensPerBatch ?? maxTokensPerBatch,
      token,
    );
  };
  await step(true)();
  await binding.deviceMemory(device, true);
  const rounds = quick ? 1 : 5;
  const { seconds, spread } = await time(device, step(true), { rounds, budget: 40, warmUps: 0 });
  const { peak } = await binding.deviceMemory(device, false);
  const { microBatches, tokens } = metrics;
  const where = await whereTimeWent(device, step(true));
  const unshared = await time(device, step(false), { rounds: quick ? 1 : 3, budget: 30 });
  trainer.dispose();
  model.dispose();
  if (lora) base.dispose();

  const size = sizes(config);
  const flop = trainFlop(size, { P, T }, pairs, { lora });
  const updateBytes = lora ? 0 : adamwBytes(settings.gradientsDtype) * size.parameters;
  const update = caps.bandwidth ? updateBytes / caps.bandwidth : 0;
  return {
    value: flop / seconds / TERA,
    unit: 'TFLOP/s',
    floor: caps.flops && flop / (flop / caps.flops + update) / TERA,
    wanted,
    seconds,
    spread,
    where,
    peakBytes: peak,
    plannedBytes,
    work: {
      P,
      T,
      pairs,
      lora,
      ...settings,
      maxTokensPerBatch: metrics.maxTokensPerBatch,
      microBatches,
      tokens,
    },
    extra: {
      pairsPerSecond: pairs / seconds,
      pairsPerSecondWanted: wantedPairs,
      peakBytesWanted: most,
      sharingGain: unshared.seconds / seconds,
      sharingGainWanted: wantedSharing,
      sharingGainOfWork: trainFlopUnshared(size, { P, T }, 1) / trainFlop(size, { P, T }, 1),
      unsharedSeconds: unshared.seconds,
      optimizerBandwidth: !lora && where.optimizer > 0 ? updateBytes / where.optimizer / TERA : undefined,
    },
  };
}
