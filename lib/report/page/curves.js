import { h } from './dom.js';
import { streamLabel } from './format.js';
import { column, rowsOf } from './decode.js';
import { seriesVariable } from './colors.js';
import { lineChart } from './lines.js';

// The optimizer steps. Several runs lie over each other: the colour is then the run, the dashes are the series.

/** @typedef {import('../types.js').ReportRun} Run */

/** @type {readonly { title: string, note?: string, names: readonly (readonly [name: string, label: string])[], isLog?: boolean, isExact?: boolean }[]} */
const PREFERENCE = [
  {
    title: 'Rewards',
    note: 'beta × the change of the log-prob in this training',
    names: [
      ['rewards/chosen', 'chosen'],
      ['rewards/rejected', 'rejected'],
      ['rewards/margins', 'margin'],
    ],
  },
  {
    title: 'Log-probs',
    note: 'sum over the response, in nats',
    names: [
      ['logps/chosen', 'chosen'],
      ['logps/rejected', 'rejected'],
    ],
  },
  { title: 'Loss', names: [['loss', 'loss']] },
  {
    title: 'Pairs ranked right',
    note: 'share of the batch whose margin is positive',
    names: [['rewards/accuracies', 'accuracy']],
  },
  { title: 'Gradient norm', note: 'before clipping', names: [['grad_norm', 'gradient norm']], isLog: true },
  { title: 'Learning rate', names: [['learning_rate', 'learning rate']], isExact: true },
  {
    title: 'Weight and consistency',
    note: 'mean over the batch',
    names: [
      ['cream/weight', 'weight C of the loss'],
      ['cream/consistency', 'C of the groups'],
    ],
  },
  {
    title: 'Weights moved',
    note: 'share of the parameters that a step changed',
    names: [['cream/weights_moved', 'moved']],
  },
  {
    title: 'Throughput',
    note: 'response tokens per second of training',
    names: [['system/tokens_per_second', 'tokens/s']],
  },
  {
    title: 'Memory',
    note: 'resident, of the engine’s process, in MiB',
    names: [['system/memory_mib', 'MiB']],
    isExact: true,
  },
];

/** @type {typeof PREFERENCE} */
const SFT = [
  { title: 'SFT: loss', note: 'nats per response token', names: [['loss', 'loss']] },
  { title: 'SFT: gradient norm', names: [['grad_norm', 'gradient norm']], isLog: true },
  { title: 'SFT: learning rate', names: [['learning_rate', 'learning rate']], isExact: true },
];

/** Beyond so many steps a curve is a band of noise, and is smoothed until somebody says otherwise. */
const NOISY_ROWS = 300;
const SMOOTHING = 0.9;

const DASHES = [undefined, [6, 4], [2, 3]];

/** @param {readonly Run[]} runs @param {'sft' | 'train'} kind */
function axisOf(runs, kind) {
  const all = runs.map((run) => rowsOf(run, kind));
  const rows = Math.max(0, ...all.map((one) => one.rows));
  const every = runs[0]?.steps.every ?? 1;
  const shape = (/** @type {typeof all[number]} */ one) => one.borders.map(({ at }) => at).join();
  const isShared = all.every((one) => shape(one) === shape(/** @type {typeof all[number]} */ (all[0])));
  const borders = (isShared ? all.slice(0, 1) : all).flatMap((one, which) =>
    kind === 'sft'
      ? []
      : one.borders.map(({ name, at }) => ({
          at: at * every + 1,
          label: which === 0 ? streamLabel(name) : '',
          ...(isShared ? {} : { variable: seriesVariable(which) }),
        })),
  );
  return { rows, borders, x: Array.from({ length: rows }, (_, row) => row * every + 1) };
}

/** A range of more than two powers of ten needs a logarithm. @param {readonly (readonly (number | null)[])[]} lists */
function isWide(lists) {
  let least = Infinity;
  let most = 0;
  for (const values of lists) {
    for (const value of values) {
      if (value === null) continue;
      if (value <= 0) return false;
      if (value < least) least = value;
      if (value > most) most = value;
    }
  }
  return most / least > 100;
}

/** @param {readonly Run[]} runs @param {{ smoothing?: number }} state @param {() => void} update */
export function curves(runs, state, update) {
  const smoothingOf = (/** @type {'sft' | 'train'} */ kind) =>
    state.smoothing ?? (runs.some((run) => rowsOf(run, kind).rows > NOISY_ROWS) ? SMOOTHING : 0);
  const charts = /** @type {const} */ (['train', 'sft']).flatMap((kind) => {
    const { rows, borders, x } = axisOf(runs, kind);
    if (rows === 0) return [];
    return (kind === 'sft' ? SFT : PREFERENCE).flatMap(({ title, note, names, isLog, isExact }) => {
      const smoothing = isExact ? 0 : smoothingOf(kind);
      const lines = runs.flatMap((run, which) =>
        names.flatMap(([name, label], place) => {
          const values = column(run, name, kind, smoothing);
          if (values === undefined) return [];
          // Several runs over each other are enough to look at.
          const raw = smoothing > 0 && runs.length === 1 ? column(run, name, kind) : undefined;
          while (values.length < rows) values.push(null);
          const dash = runs.length === 1 ? undefined : DASHES[place % DASHES.length];
          return [
            {
              label: runs.length === 1 ? label : names.length === 1 ? run.name : `${run.name} ${label}`,
              variable: seriesVariable(runs.length === 1 ? place : which),
              ...(dash === undefined ? {} : { dash }),
              values,
              ...(raw === undefined ? {} : { raw }),
            },
          ];
        }),
      );
      if (lines.length === 0) return [];
      const useLog = isLog === true && isWide(lines.map(({ values, raw }) => raw ?? values));
      return [
        lineChart({ title, ...(note === undefined ? {} : { note }), x, lines, borders, isLog: useLog }),
      ];
    });
  });
  if (charts.length === 0) return [h('p', { class: 'empty' }, 'No optimizer step has been made yet.')];
  const thinned = runs.find(({ steps }) => steps.every > 1);
  return [
    h(
      'div',
      { class: 'controls' },
      h(
        'label',
        { class: 'field' },
        h('span', {}, 'smoothing'),
        h('input', {
          type: 'range',
          min: 0,
          max: 0.98,
          step: 0.02,
          value: smoothingOf('train'),
          change: (event) => {
            state.smoothing = Number(event.target.value);
            update();
          },
        }),
      ),
      h(
        'span',
        { class: 'note' },
        'Drag to zoom, double-click to see all. A click on a name hides its curve.',
      ),
      thinned
        ? h(
            'span',
            { class: 'note' },
            `Every ${thinned.steps.every}th step is drawn; the lights look at all of them.`,
          )
        : null,
    ),
    h('div', { class: 'grid' }, charts),
  ];
}
