import { meanOf, varianceOf } from '../statistics.js';

// How much of a ranking is rounding. The sampler and a scoring pass compute the same log-probs in batches of other shapes,
// so what they differ by is what a log-prob is off by, in two independent draws.

export interface RewardNoise {
  /** Standard deviation of the rewards of a group's distinct responses, mean over groups; null when no group has two. */
  spread: number | null;
  /** Standard deviation of what rounding adds to one reward; null where no log-prob was computed twice. */
  noise: number | null;
  /** Kendall's tau to expect of two readings of such rewards; null where spread or noise is not known or all rewards tie. */
  repeatTau: number | null;
  /** Groups whose log-probs were computed twice. */
  groups: number;
}

/** The rewards of one group by the sampler's log-probs and by those of a scoring pass, and the group itself. */
export interface RewardReadings {
  responses: readonly { ids: readonly number[] }[];
  sampler: readonly number[];
  scored: readonly number[];
}

/** Places of a group's distinct responses that have tokens. Equal ones have equal rewards, which says nothing of either. */
function distinctPlaces(responses: readonly { ids: readonly number[] }[]): number[] {
  const first = new Map<string, number>();
  for (const [place, { ids }] of responses.entries()) {
    const key = ids.join();
    if (ids.length > 0 && !first.has(key)) first.set(key, place);
  }
  return [...first.values()];
}

const pick = (values: readonly number[], places: readonly number[]) =>
  places.map((place) => values[place]!).filter(Number.isFinite);

/**
 * Kendall's tau to expect of two readings of normal rewards. Each reading has the noise, so of the variance that is seen
 * the share 1 - (noise / spread)^2 is common to both: their correlation rho. tau = 2/pi asin(rho).
 */
export function expectedTau(noise: number, spread: number): number {
  return (2 / Math.PI) * Math.asin(Math.max(0, 1 - (noise / spread) ** 2));
}

/**
 * Spread of the rewards of `groups`, and their noise by `readings`, some of the groups or all. The difference of two
 * readings has twice the variance of one log-prob's rounding. `subtracts` tells that a reward is the difference of two
 * log-probs, the policy's and M0's, so that it has twice that variance, too: the difference of the readings then is its
 * noise. M0's own rounding is taken to be as large as the policy's; no second reading of it exists. What a group's responses
 * share moves no rank, so all is taken from the group's mean.
 */
export function rewardNoise(
  groups: readonly { responses: readonly { ids: readonly number[] }[]; rewards: readonly number[] }[],
  readings: readonly RewardReadings[],
  { subtracts }: { subtracts: boolean },
): RewardNoise {
  const spreads = groups.flatMap(({ responses, rewards }) => {
    const values = pick(rewards, distinctPlaces(responses));
    return values.length < 2 ? [] : [Math.sqrt(varianceOf(values))];
  });
  let squares = 0;
  let freedoms = 0;
  for (const { responses, sampler, scored } of readings) {
    const differences = sampler.map((reward, i) => reward - scored[i]!);
    const values = pick(differences, distinctPlaces(responses));
    if (values.length < 2) continue;
    squares += varianceOf(values) * (values.length - 1);
    freedoms += values.length - 1;
  }
  const spread = spreads.length === 0 ? null : meanOf(spreads);
  const noise = freedoms === 0 ? null : Math.sqrt(squares / freedoms / (subtracts ? 1 : 2));
  const repeatTau = spread === null || noise === null || spread === 0 ? null : expectedTau(noise, spread);
  return { spread, noise, repeatTau, groups: readings.length };
}
