/** The learning rate as a function of the step; `total` steps in all. */
export interface ScheduleOptions {
  learningRate: number;
  schedule: 'cosine' | 'linear' | 'constant';
  warmupRatio: number;
  minLearningRateRatio: number;
}

/**
 * Learning rate of step 0 .. total - 1. The warm-up rises linearly over ceil(warmupRatio * total) steps and
 * reaches the peak at its last step, so no step is spent at rate 0; then cosine or linear fall towards
 * minLearningRateRatio * learningRate, which would be reached one step after the last.
 */
export function learningRateAt(step: number, total: number, options: ScheduleOptions): number {
  const { learningRate, schedule, minLearningRateRatio } = options;
  const warmup = Math.ceil(options.warmupRatio * total);
  if (step < warmup) return (learningRate * (step + 1)) / warmup;
  if (schedule === 'constant') return learningRate;
  const progress = (step - warmup) / Math.max(1, total - warmup);
  const fall = schedule === 'linear' ? 1 - progress : (1 + Math.cos(Math.PI * progress)) / 2;
  return learningRate * (minLearningRateRatio + (1 - minLearningRateRatio) * fall);
}
