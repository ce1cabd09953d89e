import { type Facts, levelAbove, levelBelow, percent, trail, worst } from './light-rules.js';
import { noiseLight } from './noise-light.js';
import { compareScores, outcomeOf, startOf } from './outcome.js';
import { trainingLights } from './training-lights.js';
import type { Light } from './types.js';

// The traffic lights of a run. Every threshold is told in the light's own words.

const two = (value: number) => value.toFixed(2);
const last = <T>(values: readonly (T | undefined | null)[]): T | undefined =>
  values.findLast((value): value is T => value !== undefined && value !== null);
const first = <T>(values: readonly (T | undefined | null)[]): T | undefined =>
  values.find((value): value is T => value !== undefined && value !== null);

/** An iteration's mean tau is not told from that of random rankings within so many standard errors. */
const CHANCE_ERRORS = 2;

export function lightsOf(facts: Facts): Light[] {
  return [
    accuracyLight(facts),
    ...trainingLights(facts),
    ...agreementLights(facts),
    noiseLight(facts),
    ...rewardLights(facts),
    ...responseLights(facts),
  ];
}

function accuracyLight({ run }: Facts): Light {
  const light = { id: 'accuracy', title: 'Held-out accuracy' };
  const meaning =
    'Accuracy on the held-out tasks (their mean), M1 to the last model. Red: the last interval lies wholly below that of ' +
    'M1. Yellow: below that of a model in between, so an earlier checkpoint is the better one.';
  const outcome = outcomeOf(run.models);
  if (outcome === undefined || outcome.scores.length < 2) {
    return { ...light, level: 'unknown', value: outcome ? 'one model measured' : 'no task', meaning };
  }
  const end = outcome.scores.at(-1)!;
  const start = startOf(outcome);
  const isPassed = outcome.scores.some((score) => compareScores(end, score) === 'worse');
  const level = compareScores(end, start) === 'worse' ? 'bad' : isPassed ? 'watch' : 'good';
  return { ...light, level, value: `${percent(start.accuracy)} → ${percent(end.accuracy)}`, meaning };
}

function agreementLights({ run, config }: Facts): Light[] {
  const found = run.iterations.flatMap(({ consistency, iteration, chance }) =>
    consistency?.mean === null || consistency?.mean === undefined
      ? []
      : [{ ...consistency, mean: consistency.mean, iteration, chance }],
  );
  const likeChance = found.filter(({ tau, chance, groups }) => {
    if (tau === null || chance === undefined) return false;
    return tau < chance.mean + (CHANCE_ERRORS * chance.deviation) / Math.sqrt(groups);
  });
  const weight = config.consistency?.weight ?? 'dataset';
  const isUsed = weight === 'dataset' || weight === 'sample';
  const below = found.map(({ mean, belowHalf, groups }) =>
    weight === 'sample' ? belowHalf / Math.max(1, groups) : mean < 0.5 ? 1 : 0,
  );
  const mostBelow = below.length === 0 ? undefined : Math.max(...below);
  return [
    {
      id: 'consistency',
      title: 'Consistency',
      level: found.length === 0 ? 'unknown' : likeChance.length > 0 ? 'watch' : 'good',
      value:
        found.length === 0
          ? 'no ranking yet'
          : `C ${trail(
              found.map(({ mean }) => mean),
              two,
            )}`,
      meaning:
        'Mean agreement C of the ranking by M_t with that by the previous policy. Yellow: in an iteration it is no higher ' +
        'than that of random rankings (two standard errors). High is not the same as right: from the second iteration on ' +
        'both rewards share the base model, and two policies that agree can be wrong together.',
    },
    {
      id: 'below-half',
      title: 'C below 1/2',
      level: !isUsed ? 'good' : levelAbove(mostBelow, 1e-9, weight === 'sample' ? 0.25 : 0.5),
      value: !isUsed
        ? `weight ${weight}: not used`
        : found.length === 0
          ? 'no ranking yet'
          : weight === 'sample'
            ? `${percent(mostBelow!)} of groups at most`
            : mostBelow === 0
              ? 'in no iteration'
              : `in ${below.filter((share) => share > 0).length} of ${below.length} iterations`,
      meaning:
        'Pairs with C below 1/2 train towards the rejected response. With weight sample each group counts (red from a ' +
        'quarter of them), with weight dataset the mean of the slice. consistency.rule floor or theorem keeps C at 1/2 or ' +
        'above; in the experiment of docs/experiment.md both ended worse, and C below 1/2 in the first iteration did no harm.',
    },
  ];
}

function rewardLights({ run }: Facts): Light[] {
  const ranking = run.iterations.map(({ rankingAccuracy }) => rankingAccuracy);
  const correlation = run.iterations.map(({ rewardCorrelation }) => rewardCorrelation);
  const [now, before] = [last(correlation), first(correlation)];
  const hasCollapsed = now !== undefined && before !== undefined && before > 0.1 && now < before / 2;
  return [
    {
      id: 'ranking',
      title: 'Ranking accuracy',
      level: levelBelow(last(ranking), 0.62, 0.5),
      value: last(ranking) === undefined ? 'no labels' : trail(ranking, two),
      meaning:
        'Share of pairs of a right and a wrong response to one prompt that the reward orders right; 0.5 is chance. Yellow ' +
        'below 0.62 (docs/experiment.md), red below 0.5 in the last iteration: from there on training teaches mistakes. ' +
        'Needs labelled prompts.',
    },
    {
      id: 'correlation',
      title: 'Reward and correctness',
      level: worst(levelBelow(now, 0.1, 0), hasCollapsed ? 'bad' : 'unknown'),
      value: now === undefined ? 'no labels' : `r ${trail(correlation, two)}`,
      meaning:
        'Correlation of the reward with correctness among the responses to one prompt. Yellow below 0.1; red when it is ' +
        'negative or less than half of what it was: the reward no longer follows the answer. Needs labelled prompts.',
    },
  ];
}

function responseLights({ run }: Facts): Light[] {
  const { iterations } = run;
  const lengths = iterations.map(({ meanResponseTokens }) => meanResponseTokens);
  const [start, end] = [first(lengths), last(lengths)];
  const ratio = start === undefined || end === undefined || start === 0 ? undefined : end / start;
  const drift = ratio === undefined ? undefined : Math.max(ratio, 1 / Math.max(ratio, 1e-9));
  const longer = last(iterations.map((iteration) => iteration.lengths?.chosenLonger));
  const duplicates = iterations.map((iteration) => iteration.duplicates);
  const growth = (last(duplicates) ?? 0) - (first(duplicates) ?? 0);
  const tied = iterations.map(({ tiedGroups }) => tiedGroups);
  const truncated = iterations.map(({ truncatedResponses, responses }) =>
    truncatedResponses === undefined || !responses ? undefined : truncatedResponses / responses,
  );
  const usable = iterations.map(({ pairs, prompts }) =>
    pairs === undefined || !prompts ? undefined : pairs / prompts,
  );
  const none = 'no responses yet';
  return [
    {
      id: 'length',
      title: 'Length drift',
      level: worst(levelAbove(drift, 1.25, 2), longer !== undefined && longer > 0.7 ? 'watch' : 'unknown'),
      value:
        end === undefined
          ? none
          : `${trail(lengths, (value) => value.toFixed(value < 100 ? 1 : 0))} tokens` +
            (longer !== undefined && longer > 0.7 ? `; chosen longer in ${percent(longer)}` : ''),
      meaning:
        'Mean length of the sampled responses. Yellow from a factor of 1.25 between the first and the last iteration or ' +
        'when more than 70 % of chosen responses are the longer ones, red from a factor of 2. train.lengthTerm, ' +
        'pairing.lengthBand and score.lengthNormalize act against it.',
    },
    {
      id: 'duplicates',
      title: 'Duplicates',
      level: worst(levelAbove(last(duplicates), 0.5, 0.8), growth > 0.25 ? 'watch' : 'unknown'),
      value: last(duplicates) === undefined ? none : trail(duplicates, percent),
      meaning:
        'Responses that repeat another response to the same prompt. Yellow from half of them or when the share grows by a ' +
        'quarter, red from four fifths: little is left to compare. A higher temperature or top-p helps.',
    },
    {
      id: 'ties',
      title: 'Ties',
      level: levelAbove(last(tied), 0.05, 0.3),
      value: last(tied) === undefined ? 'no ranking yet' : `${trail(tied, percent)} of groups`,
      meaning:
        'Groups in which different responses have exactly the same reward. Yellow from 5 %, red from 30 %: the choice of ' +
        'the pair is then the order of sampling (pairing.ties).',
    },
    {
      id: 'truncation',
      title: 'Truncation',
      level: levelAbove(last(truncated), 0.05, 0.25),
      value: last(truncated) === undefined ? none : trail(truncated, percent),
      meaning:
        'Responses cut by the length limit. Yellow from 5 %, red from a quarter: rewards of unfinished texts. Raise ' +
        'sampling.maxNewTokens.',
    },
    {
      id: 'pairs',
      title: 'Usable prompts',
      level: levelBelow(last(usable), 0.8, 0.5),
      value: last(usable) === undefined ? 'no pairs yet' : trail(usable, percent),
      meaning:
        'Prompts that made a preference pair; the others are listed with their reason. Yellow below 80 %, red below half.',
    },
  ];
}
