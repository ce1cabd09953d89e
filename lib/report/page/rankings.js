import { card, h, table } from './dom.js';
import { count, fixed, number, percent } from './format.js';
import { lengthBars, tauBars } from './bars.js';
import { consistencyTrend, dotLegend, trend } from './overview.js';
import { seriesColor } from './colors.js';

// What the two rankings of every iteration say, and which responses they chose.

/** @typedef {import('../types.js').ReportRun} Run */

/** @param {readonly Run[]} runs */
export function rankings(runs) {
  const some = runs.some(({ iterations }) => iterations.length > 0);
  if (!some) return [h('p', { class: 'empty' }, 'No iteration has been ranked yet.')];
  const unit = { format: (/** @type {number} */ value) => number(value, 3) };
  return [
    h(
      'div',
      { class: 'grid' },
      consistencyTrend(runs),
      trend(runs, 'Ranking accuracy of the reward', ({ rankingAccuracy }) => ({ value: rankingAccuracy }), {
        ...unit,
        line: 0.5,
      }),
      trend(
        runs,
        'Correlation of reward and correctness',
        ({ rewardCorrelation }) => ({ value: rewardCorrelation }),
        { ...unit, line: 0 },
      ),
      trend(runs, 'Right among the sampled responses', ({ sampleAccuracy }) => ({ value: sampleAccuracy }), {
        format: percent,
      }),
      trend(
        runs,
        'Mean length of a response, tokens',
        ({ meanResponseTokens }) => ({ value: meanResponseTokens }),
        unit,
      ),
      trend(runs, 'Duplicates among the responses', ({ duplicates }) => ({ value: duplicates }), {
        format: percent,
      }),
    ),
    h('h2', {}, 'Rank correlation of every group'),
    h(
      'p',
      { class: 'note' },
      'tau compares the ranking of a group’s responses by M_t with that by the policy before. The grey band is what random ' +
        'rankings give for one group: mean and one standard deviation. The line is the mean.',
    ),
    h(
      'div',
      { class: 'grid' },
      runs.flatMap((run, which) =>
        run.iterations.flatMap(({ iteration, tau, chance, consistency }) =>
          tau === undefined
            ? []
            : [
                card(
                  `${runs.length === 1 ? '' : `${run.name}: `}responses of M${iteration}`,
                  tauBars(tau, chance, consistency?.tau, seriesColor(which)),
                  h(
                    'p',
                    { class: 'note' },
                    `mean tau ${fixed(consistency?.tau)}, C ${fixed(consistency?.mean)}, ${count(consistency?.groups)} groups` +
                      (consistency?.belowHalf ? `, ${count(consistency.belowHalf)} with C below 1/2` : ''),
                  ),
                ),
              ],
        ),
      ),
    ),
    earlierPolicies(runs),
    rounding(runs),
    h('h2', {}, 'Length of chosen and rejected responses'),
    dotLegend([
      { label: 'chosen', color: seriesColor(0) },
      { label: 'rejected', color: seriesColor(1) },
    ]),
    h(
      'div',
      { class: 'grid' },
      runs.flatMap((run) =>
        run.iterations.flatMap(({ iteration, lengths }) =>
          lengths === undefined
            ? []
            : [
                card(
                  `${runs.length === 1 ? '' : `${run.name}: `}pairs of iteration ${iteration}`,
                  lengthBars(lengths),
                  h(
                    'p',
                    { class: 'note' },
                    `mean ${number(lengths.meanChosen)} and ${number(lengths.meanRejected)} tokens; the chosen one is longer in ${percent(lengths.chosenLonger)}`,
                  ),
                ),
              ],
        ),
      ),
    ),
    h('h2', {}, 'Prompts without a pair'),
    card(
      '',
      table(
        ['run', 'iteration', 'prompts', 'pairs', 'reasons'],
        runs.flatMap((run) =>
          run.iterations.map(({ iteration, prompts, pairs, droppedGroups }) => [
            run.name,
            String(iteration),
            count(prompts),
            count(pairs),
            Object.entries(droppedGroups ?? {})
              .map(([reason, times]) => `${reason} ${count(times)}`)
              .join(', ') || '–',
          ]),
        ),
        'dropped',
      ),
    ),
  ];
}

/** With consistency.history: agreement with the policies before the one before. @param {readonly Run[]} runs */
function earlierPolicies(runs) {
  const rows = runs.flatMap((run) =>
    run.iterations.flatMap(({ iteration, history }) =>
      (history ?? []).map(({ model, tau, groups }) => [
        run.name,
        `M${iteration}`,
        model,
        fixed(tau),
        count(groups),
      ]),
    ),
  );
  if (rows.length === 0) return null;
  return [
    h('h2', {}, 'Agreement with earlier policies'),
    card('', table(['run', 'policy', 'compared with', 'mean tau', 'groups'], rows, 'history')),
  ];
}

/** Spread of the rewards and what they are off by. @param {readonly Run[]} runs */
function rounding(runs) {
  const rows = runs.flatMap((run) =>
    run.iterations.flatMap(({ iteration, rewardNoise, policyFrom, sampler }) =>
      rewardNoise === undefined
        ? []
        : [
            [
              run.name,
              `M${iteration}`,
              number(rewardNoise.spread),
              number(rewardNoise.noise),
              fixed(rewardNoise.repeatTau),
              fixed(sampler?.tau),
              count(rewardNoise.groups),
              policyFrom === 'generation' ? 'the sampler' : 'a scoring pass',
            ],
          ],
    ),
  );
  if (rows.length === 0) return null;
  return [
    h('h2', {}, 'Spread and rounding of the rewards'),
    card('', [
      table(
        [
          'run',
          'policy',
          'spread',
          'rounding',
          'tau of two readings',
          'tau of sampler and pass',
          'groups read twice',
          'log-probs of',
        ],
        rows,
        'rounding',
      ),
      h(
        'p',
        { class: 'note' },
        'Spread: standard deviation of the rewards in a group, mean over groups. Rounding: standard deviation of what a ' +
          'reward is off by, from the log-probs that both the sampler and a scoring pass have; M0’s share is taken to be ' +
          'as large as the policy’s. Tau of two readings: the agreement of two rankings by such rewards that rounding ' +
          'leaves, if both are normal. Tau of sampler and pass: the agreement found, where M0’s log-probs are the same.',
      ),
    ]),
  ];
}
