import type { CreamConfig } from './config-schema.js';

/** What the score stage has to find out beside the policy's own log-probs, for the pairs or for the report. */
export interface ScoringNeeds {
  /** Log-probs under M0. */
  base: boolean;
  /** The previous policy's reward. */
  previous: boolean;
  /** Points that the policy gives as a judge. */
  judge: boolean;
}

/**
 * Which passes the settings ask for. M0's own responses (pairing.rejectedFrom: base) are only ranked by the reward that
 * makes the pairs: `author` base needs no measurement of consistency.
 */
export function scoringNeeds(
  { consistency, pairing, reward, train }: CreamConfig,
  author: 'policy' | 'base' = 'policy',
): ScoringNeeds {
  const measures = consistency.measure && author === 'policy';
  const agrees = train.agreementCoefficient > 0 || train.agreementEntropy > 0;
  const isImplicit = reward.source === 'implicit' || reward.source === 'worst-of';
  return {
    base: measures || isImplicit || agrees,
    previous: measures || (reward.source === 'worst-of' && author === 'policy'),
    judge: reward.source === 'judge' || pairing.agreement === 'judge' || agrees,
  };
}
