import { CreamError } from './errors.js';
import type { Accuracy } from './types.js';

// Shares of right answers and their intervals.

const Z = 1.959963984540054; // 97.5 % quantile of the normal distribution

/** Wilson's 95 % interval of a share, from a number of successes that may be fractional. */
export function wilsonInterval(successes: number, trials: number): [number, number] {
  if (!(trials > 0 && successes >= 0 && successes <= trials)) {
    throw new CreamError('INVALID_ARGUMENT', `no interval for ${successes} of ${trials}`);
  }
  const p = successes / trials;
  const scale = 1 + (Z * Z) / trials;
  const center = (p + (Z * Z) / (2 * trials)) / scale;
  const half = (Z / scale) * Math.sqrt((p * (1 - p)) / trials + (Z * Z) / (4 * trials * trials));
  // Rounding must not push a bound past what is possible at 0 and 1.
  return [
    successes === 0 ? 0 : Math.max(0, center - half),
    successes === trials ? 1 : Math.min(1, center + half),
  ];
}

/**
 * Accuracy over problems with one flag per answer. Answers to one problem resemble each other, so the interval is
 * Wilson's with the effective number of answers n / d, where d is the design effect: the variance of the problems'
 * means over that of independent answers, kept between 1 and the answers per problem.
 */
export function accuracyOf(flags: readonly (readonly boolean[])[]): Accuracy {
  const answersPerProblem = flags[0]?.length ?? 0;
  const numProblems = flags.length;
  const total = numProblems * answersPerProblem;
  if (total === 0 || flags.some((list) => list.length !== answersPerProblem)) {
    throw new CreamError(
      'INVALID_ARGUMENT',
      'an accuracy needs at least one answer, and as many for every problem',
    );
  }
  const correctOf = flags.map((list) => list.filter(Boolean).length);
  const correct = correctOf.reduce((sum, count) => sum + count, 0);
  const accuracy = correct / total;

  let designEffect = answersPerProblem;
  if (answersPerProblem > 1 && numProblems > 1 && accuracy > 0 && accuracy < 1) {
    const squares = correctOf.reduce((sum, count) => sum + (count / answersPerProblem - accuracy) ** 2, 0);
    const varianceOfMeans = squares / (numProblems - 1);
    const ofIndependent = (accuracy * (1 - accuracy)) / answersPerProblem;
    designEffect = Math.min(answersPerProblem, Math.max(1, varianceOfMeans / ofIndependent));
  }
  const effective = total / designEffect;
  return { correct, total, accuracy, interval: wilsonInterval(accuracy * effective, effective) };
}
