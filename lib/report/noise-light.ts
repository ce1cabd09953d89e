import { type Facts, levelBelow, percent, trail } from './light-rules.js';
import type { Light } from './types.js';

/** Tau of two readings of the same rewards below which ranks are partly, and mostly, rounding. */
const WATCH_TAU = 0.9;
const BAD_TAU = 0.7;

/** Whether the rewards of an iteration differ by more than what they are off by. */
export function noiseLight({ run }: Facts): Light {
  const shares: number[] = [];
  const taus: number[] = [];
  for (const { rewardNoise } of run.iterations) {
    const { spread, noise, repeatTau } = rewardNoise ?? {};
    if (!spread || noise === null || noise === undefined || repeatTau === null || repeatTau === undefined)
      continue;
    shares.push(noise / spread);
    taus.push(repeatTau);
  }
  return {
    id: 'noise',
    title: 'Rounding of rewards',
    level: levelBelow(taus.length === 0 ? undefined : Math.min(...taus), WATCH_TAU, BAD_TAU),
    value: shares.length === 0 ? 'not measured' : `${trail(shares, shareText)} of the spread`,
    meaning:
      'What rounding adds to a reward, as a share of the spread of rewards in a group: the standard deviation of the ' +
      "difference between the sampler's log-probs and those of a scoring pass, beside that of the rewards. Yellow from 11 %, " +
      'where two readings of the same rewards are to be expected to agree with tau below 0.9; red from 33 %, below 0.7: ' +
      'ranks, pairs and C are then partly rounding. What both readings share does not show, so in bfloat16 on the CPU it is a ' +
      'lower bound. dtype: float32 ends it. More supervised fine-tuning or a higher ' +
      'train.learningRate moves the policy farther from M0, and a higher sampling.temperature its responses farther from ' +
      'each other, which widens the spread. beta changes both alike.',
  };
}

function shareText(share: number): string {
  return share !== 0 && share < 0.001 ? '< 0.1 %' : percent(share);
}
