import { card, h, table } from './dom.js';
import { clock, dateTime, duration, size } from './format.js';

// Where everything comes from: settings, files, time.

/** @typedef {import('../types.js').ReportRun} Run */

/** @param {readonly Run[]} runs @param {{ changedOnly: boolean }} state @param {() => void} update */
export function settings(runs, state, update) {
  const names = [...new Set(runs.flatMap((run) => run.settings.map(({ name }) => name)))];
  const find = (/** @type {Run} */ run, /** @type {string} */ name) =>
    run.settings.find((row) => row.name === name);
  const differs = (/** @type {string} */ name) => new Set(runs.map((run) => find(run, name)?.value)).size > 1;
  const isShown = (/** @type {string} */ name) =>
    !state.changedOnly ||
    (runs.length > 1 ? differs(name) : find(/** @type {Run} */ (runs[0]), name)?.origin !== 'default');
  const rows = names.filter(isShown).map((name) => [
    h('code', {}, name),
    ...runs.flatMap((run) => {
      const row = find(run, name);
      const value = h(
        'span',
        { class: runs.length > 1 && differs(name) ? 'differs' : '' },
        row?.value ?? '–',
      );
      if (runs.length > 1) return [value];
      return [value, row?.origin ?? '–', row?.standard ?? ''];
    }),
  ]);
  return [
    h(
      'div',
      { class: 'controls' },
      h(
        'label',
        { class: 'field' },
        h('input', {
          type: 'checkbox',
          checked: state.changedOnly,
          change: (event) => {
            state.changedOnly = event.target.checked;
            update();
          },
        }),
        h('span', {}, runs.length > 1 ? 'only what differs between the runs' : 'only what is not a default'),
      ),
    ),
    card(
      '',
      rows.length === 0
        ? h('p', { class: 'empty' }, 'Nothing.')
        : table(
            runs.length > 1
              ? ['setting', ...runs.map(({ name }) => name)]
              : ['setting', 'value', 'from', 'default, where it differs'],
            rows,
            'settings',
          ),
    ),
  ];
}

/** @param {readonly Run[]} runs */
export const lineage = (runs) =>
  runs.flatMap((run) => [
    runs.length > 1 ? h('h2', {}, run.name) : null,
    card(
      'Made from',
      h(
        'p',
        { class: 'note' },
        `begun ${dateTime(run.created)} · ${Object.entries(run.versions)
          .map(([name, version]) => `${name} ${version}`)
          .join(' · ')}`,
      ),
      table(
        ['input', 'sha256'],
        run.inputs.map(({ name, sha256 }) => [h('code', {}, name), h('code', { class: 'hash' }, sha256)]),
        'inputs',
      ),
    ),
    card(
      'What each stage wrote',
      table(
        ['stage', 'file', 'size', 'sha256'],
        run.outputs.map(({ stage, name, sha256, bytes }) => [
          stage,
          h('code', {}, name),
          size(bytes),
          h('code', { class: 'hash' }, sha256),
        ]),
        'outputs',
      ),
    ),
  ]);

/** @param {readonly Run[]} runs @param {string} generated */
export const timeline = (runs, generated) =>
  runs.flatMap((run) => {
    const times = run.timeline.flatMap(({ start, end }) => [start, end ?? start]);
    if (times.length === 0) return [h('p', { class: 'empty' }, `${run.name}: nothing has happened yet.`)];
    const first = Math.min(...times);
    // What goes on has no end yet: it is drawn up to now.
    const now = run.status === 'running' ? Date.parse(generated) : first + 1;
    const last = Math.max(...times, first + 1, now || 0);
    const share = (/** @type {number} */ time) => `${((100 * (time - first)) / (last - first)).toFixed(3)}%`;
    const stages = new Map();
    for (const { stage, start, end, isMark } of run.timeline) {
      if (!isMark && end !== null) stages.set(stage, (stages.get(stage) ?? 0) + (end - start) / 1000);
    }
    return [
      runs.length > 1 ? h('h2', {}, run.name) : null,
      card(
        'Where the time went',
        h(
          'p',
          { class: 'note' },
          [...stages]
            .sort((a, b) => b[1] - a[1])
            .map(([stage, seconds]) => `${stage} ${duration(seconds)}`)
            .join(' · '),
        ),
        h(
          'div',
          { class: 'timeline' },
          run.timeline.map(({ label, stage, start, end, isMark, isCut }) => {
            const bar = h('span', { class: isMark ? 'mark' : `bar stage-${stage}` });
            bar.style.left = share(start);
            if (!isMark) bar.style.width = `max(3px, ${share(first + ((end ?? last) - start))})`;
            return h(
              'div',
              { class: isMark ? 'row event' : 'row' },
              h('span', { class: 'label' }, label),
              h('span', { class: 'track' }, bar),
              h(
                'span',
                { class: 'time', title: dateTime(start) },
                isMark
                  ? clock(start)
                  : `${duration(((end ?? last) - start) / 1000)}${isCut ? ', cut off' : end === null ? ' so far' : ''}`,
              ),
            );
          }),
        ),
      ),
    ];
  });
