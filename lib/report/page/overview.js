import { h, card, table } from './dom.js';
import { count, duration, fixed, isNumber, number, percent } from './format.js';
import { dots } from './bars.js';
import { seriesColor } from './colors.js';

// What a person wants to know first: the verdict, the lights, the models.

/**
 * @typedef {import('../types.js').ReportRun} Run
 * @typedef {import('../types.js').Light} Light
 * @typedef {import('../types.js').ReportIteration} Iteration
 */

const MARKS = { good: '✓', watch: '!', bad: '✕', unknown: '–' };
const WORDS = { good: 'good', watch: 'look', bad: 'bad', unknown: 'not known' };
const ORDER = ['bad', 'watch', 'good', 'unknown'];

/** @param {Light['level']} level */
const lamp = (level) =>
  h('span', { class: `lamp ${level}`, role: 'img', 'aria-label': WORDS[level] ?? '' }, MARKS[level] ?? '?');

/** @param {readonly Run[]} runs */
function lights(runs) {
  if (runs.length === 1) {
    const [run] = /** @type {[Run]} */ (runs);
    const sorted = [...run.lights].sort((a, b) => ORDER.indexOf(a.level) - ORDER.indexOf(b.level));
    return h(
      'div',
      { class: 'lights' },
      sorted.map((light) =>
        h(
          'details',
          { class: `light ${light.level}` },
          h(
            'summary',
            {},
            lamp(light.level),
            h('span', { class: 'title' }, light.title),
            h('span', { class: 'value' }, light.value),
          ),
          h('p', {}, light.meaning),
        ),
      ),
    );
  }
  const first = /** @type {Run} */ (runs[0]);
  return card(
    '',
    table(
      ['', ...runs.map(({ name }) => name)],
      first.lights.map(({ id, title, meaning }) => [
        h('span', { title: meaning }, title),
        ...runs.map((run) => {
          const light = run.lights.find((one) => one.id === id);
          return light ? h('span', { class: 'cell' }, lamp(light.level), ' ', light.value) : '–';
        }),
      ]),
      'lights-table',
    ),
  );
}

/** @param {import('../../types.js').Accuracy | undefined} accuracy */
function accuracyCell(accuracy) {
  if (!accuracy || !isNumber(accuracy.accuracy)) return '–';
  const [low, high] = accuracy.interval ?? [];
  return [fixed(accuracy.accuracy), ' ', h('small', {}, `[${fixed(low, 2)}, ${fixed(high, 2)}]`)];
}

/** @param {{ mean: number, interval: [number, number] | null } | undefined} found */
function meanCell(found) {
  if (!found) return '–';
  const { mean, interval } = found;
  return [
    fixed(mean),
    ' ',
    interval ? h('small', {}, `[${fixed(interval[0], 2)}, ${fixed(interval[1], 2)}]`) : '',
  ];
}

/** Ways of measuring a task. */
const KINDS = /** @type {const} */ ([
  'greedy',
  'sampled',
  'acc',
  'acc_norm',
  'strict_match',
  'flexible_extract',
]);

/** The kind to show where there is room for one. @param {readonly string[]} kinds */
const first = (kinds) =>
  ['sampled', 'greedy', 'flexible_extract', 'strict_match', 'acc_norm', 'acc'].find((kind) =>
    kinds.includes(kind),
  );

/** Names of all tasks. @param {readonly Run[]} runs */
const tasksOf = (runs) => [
  ...new Set(runs.flatMap(({ models }) => models.flatMap(({ tasks }) => tasks.map(({ name }) => name)))),
];

/** @param {Run} run @param {number} place @param {string} task */
const measured = (run, place, task) => run.models[place]?.tasks.find(({ name }) => name === task);

/** @param {readonly Run[]} runs */
function accuracyCharts(runs) {
  const models = Math.max(...runs.map((run) => run.models.length));
  const categories = Array.from({ length: models }, (_, place) => `M${place}`);
  return tasksOf(runs).map((task) => {
    const kinds = KINDS.filter((kind) =>
      runs.some((run) => categories.some((_, place) => measured(run, place, task)?.[kind])),
    );
    // One run: both kinds. Several: one kind, or the chart says too much at once.
    const shown = runs.length === 1 ? kinds : kinds.filter((kind) => kind === first(kinds));
    const series = runs.flatMap((run, which) =>
      shown.map((kind, k) => ({
        label: runs.length === 1 ? kind : run.name,
        color: seriesColor(runs.length === 1 ? k : which),
        points: categories.map((_, place) => {
          const found = measured(run, place, task)?.[kind];
          return found && isNumber(found.accuracy)
            ? { value: found.accuracy, low: found.interval?.[0], high: found.interval?.[1] }
            : undefined;
        }),
      })),
    );
    return card(
      `${task}: accuracy${runs.length === 1 ? '' : ` (${shown[0] ?? ''})`}`,
      dots(`accuracy on ${task} by model`, categories, series, { format: (value) => percent(value) }),
      dotLegend(series),
    );
  });
}

/** @param {readonly { label: string, color: string }[]} series */
export const dotLegend = (series) =>
  h(
    'div',
    { class: 'legend' },
    series.map(({ label, color }) => {
      const swatch = h('i', { class: 'dot' });
      swatch.style.background = color;
      return h('span', {}, swatch, label);
    }),
  );

/** One chart of a number per iteration. @param {readonly Run[]} runs @param {string} title @param {(it: Iteration) => any} of @param {object} [options] */
export function trend(runs, title, of, options = {}) {
  const last = Math.max(0, ...runs.flatMap(({ iterations }) => iterations.map(({ iteration }) => iteration)));
  const categories = Array.from({ length: last }, (_, i) => `M${i + 1}`);
  const series = runs.map((run, which) => ({
    label: run.name,
    color: seriesColor(which),
    points: categories.map((_, i) => {
      const found = run.iterations.find(({ iteration }) => iteration === i + 1);
      const point = found && of(found);
      return point && isNumber(point.value) ? point : undefined;
    }),
  }));
  if (!series.some(({ points }) => points.some(Boolean))) return null;
  return card(title, dots(title, categories, series, options), runs.length > 1 ? dotLegend(series) : null);
}

/** C of every iteration over the band of random rankings. @param {readonly Run[]} runs */
export function consistencyTrend(runs) {
  const band = runs
    .flatMap(({ iterations }) => iterations.map(({ consistency }) => consistency?.nullBand))
    .find((found) => found !== null && found !== undefined);
  return trend(
    runs,
    'Consistency C',
    ({ consistency }) => ({
      value: consistency?.mean,
      low: consistency?.interval?.[0],
      high: consistency?.interval?.[1],
    }),
    {
      format: (/** @type {number} */ value) => number(value, 3),
      ...(band ? { band, bandLabel: 'one group, random rankings' } : {}),
    },
  );
}

/** M0 ... Mn. @param {readonly Run[]} runs */
function modelTable(runs) {
  const tasks = tasksOf(runs);
  const kinds = tasks.flatMap((task) =>
    KINDS.filter((kind) =>
      runs.some((run) => run.models.some((_, place) => measured(run, place, task)?.[kind])),
    ).map((kind) => ({ task, kind })),
  );
  const means = KINDS.filter((kind) => runs.some((run) => run.models.some(({ mean }) => mean?.[kind])));
  const header = [
    'model',
    ...kinds.map(({ task, kind }) => `${task} ${kind}`),
    ...means.map((kind) => `mean ${kind}`),
    'C',
    'random C',
    'tau',
    'noise',
    'ranked right',
    'r with right',
    'pairs',
    'margin',
    'tokens',
  ];
  const rows = runs.flatMap((run) => [
    ...(runs.length === 1 ? [] : [[h('strong', {}, run.name), ...header.slice(1).map(() => '')]]),
    ...run.models.map((model, place) => {
      // M_t's own responses are ranked in iteration t; the training that made M_t is that of iteration t - 1.
      const own = run.iterations.find(({ iteration }) => iteration === place && place > 0);
      const made = run.iterations.find(({ iteration }) => iteration === model.iteration);
      const { mean, interval, nullBand, tau } = own?.consistency ?? {};
      return [
        h('strong', { title: model.directory }, model.model),
        ...kinds.map(({ task, kind }) => accuracyCell(measured(run, place, task)?.[kind])),
        ...means.map((kind) => meanCell(model.mean?.[kind])),
        isNumber(mean)
          ? [
              fixed(mean),
              ' ',
              interval ? h('small', {}, `[${fixed(interval[0], 2)}, ${fixed(interval[1], 2)}]`) : '',
            ]
          : '–',
        nullBand ? `${fixed(nullBand[0], 2)}–${fixed(nullBand[1], 2)}` : '–',
        fixed(tau),
        noiseShare(own?.rewardNoise),
        fixed(own?.rankingAccuracy),
        fixed(own?.rewardCorrelation),
        own?.pairs === undefined ? '–' : `${count(own.pairs)} of ${count(own.prompts)}`,
        number(made?.metrics?.['rewards/margins']),
        number(own?.meanResponseTokens),
      ];
    }),
  ]);
  const isEmpty = (/** @type {number} */ column) =>
    column > 0 && rows.every((row) => row[column] === '–' || row[column] === '');
  const kept = header.map((_, column) => column).filter((column) => !isEmpty(column));
  const pick = (/** @type {readonly any[]} */ row) => kept.map((column) => row[column]);
  return [
    table(pick(header), rows.map(pick), 'models'),
    h(
      'p',
      { class: 'note' },
      'Brackets are 95 % intervals. C and tau: agreement of the ranking of a model’s own responses with that of the model ' +
        'before. Random C: one group under random rankings, mean ∓ one standard deviation. Noise: rounding of a reward as a ' +
        'share of the spread of rewards in a group. Ranked right: pairs of a right ' +
        'and a wrong response that the reward orders right. Margin: chosen minus rejected reward at the end of the training ' +
        'that made the model.',
    ),
  ];
}

/** @param {import('../types.js').ReportIteration['rewardNoise']} found */
function noiseShare(found) {
  return found?.spread && isNumber(found.noise) ? percent(found.noise / found.spread) : '–';
}

/** @param {readonly Run[]} runs */
export function overview(runs) {
  const warned = runs.filter((run) => run.warnings.length + run.faults.length > 0);
  return [
    h('h2', {}, 'Traffic lights'),
    runs.length === 1 ? h('p', { class: 'note' }, 'Open one to see how it is judged and what to do.') : null,
    lights(runs),
    h('h2', {}, 'Models'),
    h(
      'div',
      { class: 'grid' },
      accuracyCharts(runs),
      consistencyTrend(runs),
      trend(runs, 'Ranking accuracy of the reward', ({ rankingAccuracy }) => ({ value: rankingAccuracy }), {
        format: (/** @type {number} */ value) => number(value, 3),
        line: 0.5,
      }),
    ),
    card('', modelTable(runs)),
    warned.length === 0
      ? null
      : [
          h('h2', {}, 'Warnings'),
          warned.map((run) =>
            card(
              runs.length === 1 ? '' : run.name,
              h(
                'ul',
                { class: 'warnings' },
                run.faults.map((fault) => h('li', {}, h('code', {}, 'unreadable'), ' ', fault)),
                run.warnings.map(({ code, message, count: times }) =>
                  h('li', {}, h('code', {}, code), ' ', message, times > 1 ? ` (${times} times)` : ''),
                ),
              ),
            ),
          ),
        ],
  ];
}

/** The verdict of every run, and how they compare. @param {readonly Run[]} runs @param {string} [comparison] */
export const verdicts = (runs, comparison = '') => [
  comparison === '' ? null : h('p', { class: 'comparison' }, comparison),
  runs.map((run) =>
    h(
      'div',
      { class: 'verdict' },
      h(
        'p',
        { class: 'facts' },
        h('span', { class: `chip ${run.status}` }, run.status),
        h('b', { title: run.directory }, run.name),
        [
          run.method,
          run.seed === null ? '' : `seed ${run.seed}`,
          run.seconds > 0 ? duration(run.seconds) : '',
        ]
          .filter((word) => word !== '')
          .map((word) => h('span', {}, word)),
      ),
      h('p', { class: 'line' }, run.verdict),
      progressOf(run),
    ),
  ),
];

/** @param {Run} run */
function progressOf({ progress }) {
  if (!progress || !(progress.total > 0)) return null;
  const { stage, iteration, done, total, unit, perSecond } = progress;
  const rest = perSecond ? ` · ${number(perSecond, 3)}/s · ${duration((total - done) / perSecond)} left` : '';
  return h(
    'div',
    { class: 'progress' },
    h('progress', { value: done, max: total }),
    h(
      'span',
      {},
      `${stage}${iteration > 0 ? ` ${iteration}` : ''}: ${count(done)} of ${count(total)} ${unit}${rest}`,
    ),
  );
}
