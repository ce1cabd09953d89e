import type { AccuracyKind, ModelSummary } from '../run/summary.js';
import type { Accuracy } from '../types.js';

// One number per model: its accuracy over all held-out tasks, with an interval.

export interface ModelScore {
  model: string;
  accuracy: number;
  interval: [number, number];
}

export interface Outcome {
  kind: AccuracyKind;
  tasks: string[];
  scores: ModelScore[];
}

/** Two standard errors and a bit: 95 %. */
const Z = 1.96;

function scoreOf(model: string, found: readonly Accuracy[]): ModelScore {
  if (found.length === 1) {
    const [{ accuracy, interval }] = found as [Accuracy];
    return { model, accuracy, interval };
  }
  const mean = found.reduce((sum, { accuracy }) => sum + accuracy, 0) / found.length;
  const variance = found.reduce((sum, { accuracy, total }) => sum + (accuracy * (1 - accuracy)) / total, 0);
  const half = (Z * Math.sqrt(variance)) / found.length;
  return { model, accuracy: mean, interval: [Math.max(0, mean - half), Math.min(1, mean + half)] };
}

/** Sampled accuracy where every measured model has it, else greedy, else the harness's, else that of the likeliest options; undefined when nothing was measured. */
export function outcomeOf(models: readonly ModelSummary[]): Outcome | undefined {
  const measured = models.filter(({ tasks }) => tasks.length > 0);
  const names = [...new Set(measured.flatMap(({ tasks }) => tasks.map(({ name }) => name)))];
  for (const kind of ['sampled', 'greedy', 'flexible_extract', 'strict_match', 'acc_norm', 'acc'] as const) {
    const scores = measured.flatMap(({ model, tasks }) => {
      const found = names.flatMap((name) => tasks.find((task) => task.name === name)?.[kind] ?? []);
      return found.length === names.length && found.length > 0 ? [scoreOf(model, found)] : [];
    });
    if (scores.length > 0 && scores.length === measured.length) return { kind, tasks: names, scores };
  }
  return undefined;
}

/** better, worse: the intervals do not overlap. */
export function compareScores(a: ModelScore, b: ModelScore): 'better' | 'worse' | 'alike' {
  if (a.interval[0] > b.interval[1]) return 'better';
  return a.interval[1] < b.interval[0] ? 'worse' : 'alike';
}

/** What training is measured against: M1, where the iterations begin, or the first model that was measured. */
export const startOf = ({ scores }: Outcome): ModelScore =>
  scores.find(({ model }) => model === 'M1') ?? scores[0]!;
