import { h, select } from './dom.js';
import { count, fixed, isNumber, number } from './format.js';
import { slopes } from './bars.js';

// A browser of groups: the prompt, its responses in the order of the reward, and both rankings.

/**
 * @typedef {import('../types.js').ReportRun} Run
 * @typedef {import('../types.js').SampleGroup} Group
 * @typedef {Group['responses'][number] & { times: number }} Shown
 * @typedef {{ run: number, iteration: number, query: string, filter: string, sort: string, page: number }} SampleState
 */

const PAGE = 10;

/** @type {Record<string, [text: string, test: (group: Group) => boolean]>} */
const FILTERS = {
  all: ['all', () => true],
  pairs: ['made a pair', ({ responses }) => responses.some(({ role }) => role === 'chosen')],
  dropped: ['made no pair', ({ dropped }) => dropped !== undefined],
  below: ['C below 1/2', ({ consistency }) => consistency !== null && consistency < 0.5],
  mistaken: [
    'a wrong one was chosen over a right one',
    ({ responses }) =>
      responses.some(({ role, correct }) => role === 'chosen' && correct === false) &&
      responses.some(({ correct }) => correct === true),
  ],
  truncated: ['with a truncated response', ({ responses }) => responses.some(({ truncated }) => truncated)],
};

const gap = (/** @type {Group} */ { responses }) => {
  const rewards = responses.flatMap(({ reward }) => (isNumber(reward) ? [reward] : []));
  return rewards.length === 0 ? -Infinity : Math.max(...rewards) - Math.min(...rewards);
};

/** @type {Record<string, [text: string, compare?: (a: Group, b: Group) => number]>} */
const SORTS = {
  file: ['as sampled'],
  lowest: ['lowest C first', (a, b) => (a.consistency ?? 2) - (b.consistency ?? 2)],
  highest: ['highest C first', (a, b) => (b.consistency ?? -1) - (a.consistency ?? -1)],
  widest: ['widest rewards first', (a, b) => gap(b) - gap(a)],
};

/** @param {Group} group @param {string} query */
function matches(group, query) {
  if (query === '') return true;
  const wanted = query.toLowerCase();
  return [
    group.id,
    group.label ?? '',
    ...group.prompt.map(({ text }) => text),
    ...group.responses.map(({ text }) => text),
  ].some((text) => text.toLowerCase().includes(wanted));
}

/** Places 1, 2, ... by falling value; equal values share the better place. @param {readonly (number | null)[]} values */
const places = (values) =>
  values.map((value) =>
    isNumber(value) ? 1 + values.filter((other) => isNumber(other) && other > value).length : undefined,
  );

/**
 * Equal responses as one, with their number; a role that one of them has is that of all.
 * @param {Group['responses']} responses
 */
function distinct(responses) {
  /** @type {Map<string, Shown>} */
  const found = new Map();
  for (const response of responses) {
    const key = JSON.stringify([response.text, response.reward, response.previousReward, response.truncated]);
    const before = found.get(key);
    if (before === undefined) found.set(key, { ...response, times: 1 });
    else {
      before.times += 1;
      before.role ??= response.role;
    }
  }
  return [...found.values()];
}

/**
 * @param {Shown} response @param {number | undefined} now @param {number | undefined} before
 * @param {string} [tag]
 */
function responseItem(response, now, before, tag) {
  const { text, tokens, truncated, reward, previousReward, correct, role, times } = response;
  const rewards = isNumber(previousReward)
    ? `${number(reward, 3)} · ${number(previousReward, 3)}`
    : number(reward, 3);
  const places = before === undefined ? `place ${now}` : `place ${now}, before ${before}`;
  return h(
    'li',
    { class: role ?? '' },
    h(
      'div',
      { class: 'meta' },
      role ? h('span', { class: `tag ${role}` }, tag ?? role) : null,
      times > 1 ? h('b', {}, `${times} ×`) : null,
      correct === undefined
        ? null
        : h('span', { class: correct ? 'right' : 'wrong' }, correct ? '✓ right' : '✕ wrong'),
      now === undefined ? null : h('span', { title: 'place by this reward, and by the one before' }, places),
      isNumber(reward) ? h('span', { title: 'reward, and the reward before' }, rewards) : null,
      h('span', {}, `${tokens} tokens${truncated ? ', cut' : ''}`),
    ),
    h('p', { class: 'text', dir: 'auto' }, text === '' ? h('em', {}, '(empty)') : text),
  );
}

/** @param {Group} group @param {number} iteration */
function groupCard(group, iteration) {
  const { id, prompt, label, tau, consistency, weight, dropped, rejectedOfBase: base } = group;
  const responses = distinct(group.responses);
  const now = places(responses.map(({ reward }) => reward));
  const before = places(responses.map(({ previousReward }) => previousReward));
  const order = responses.map((_, i) => i).sort((a, b) => (now[a] ?? 99) - (now[b] ?? 99));
  const isRanked =
    responses.length > 1 &&
    responses.every(({ reward, previousReward }) => isNumber(reward) && isNumber(previousReward));
  return h(
    'article',
    { class: 'card group' },
    h(
      'header',
      {},
      h('code', { dir: 'auto' }, id),
      isNumber(consistency) ? h('span', {}, `C ${fixed(consistency, 2)}`) : null,
      isNumber(tau) ? h('span', {}, `tau ${fixed(tau, 2)}`) : null,
      isNumber(weight) ? h('span', {}, `weight ${fixed(weight, 2)}`) : null,
      dropped ? h('span', { class: 'tag' }, `no pair: ${dropped}`) : null,
    ),
    h(
      'div',
      { class: 'prompt' },
      prompt.map(({ role, text }) => h('p', { dir: 'auto' }, role ? h('b', {}, `${role}: `) : null, text)),
      label === undefined ? null : h('p', { class: 'note', dir: 'auto' }, 'label: ', label),
    ),
    h(
      'div',
      { class: 'ranked' },
      isRanked
        ? h(
            'figure',
            {},
            slopes(
              responses.map(({ reward }) => Number(reward)),
              responses.map(({ previousReward }) => Number(previousReward)),
            ),
            h('figcaption', {}, h('span', {}, `M${iteration}`), h('span', {}, 'before')),
          )
        : null,
      h(
        'ol',
        {},
        order.map((i) => responseItem(/** @type {Shown} */ (responses[i]), now[i], before[i])),
        base ? responseItem({ ...base, times: 1 }, undefined, undefined, 'rejected, from M0') : null,
      ),
    ),
  );
}

/** @param {readonly Run[]} runs @param {SampleState} state @param {() => void} update */
export function samples(runs, state, update) {
  const run = runs[state.run] ?? /** @type {Run} */ (runs[0]);
  const { iterations } = run;
  if (iterations.length === 0) return [h('p', { class: 'empty' }, 'No responses have been sampled yet.')];
  const iteration =
    iterations.find((one) => one.iteration === state.iteration) ??
    /** @type {typeof iterations[number]} */ (iterations.at(-1));
  const set = (/** @type {Partial<SampleState>} */ change) => {
    Object.assign(state, { page: 0 }, change);
    update();
  };
  const list = h('div', { class: 'groups', 'aria-live': 'polite' });
  const show = () => {
    const [, test] = FILTERS[state.filter] ?? /** @type {any} */ (FILTERS['all']);
    const [, compare] = SORTS[state.sort] ?? /** @type {any} */ (SORTS['file']);
    const found = iteration.groups.filter((group) => test(group) && matches(group, state.query));
    if (compare) found.sort(compare);
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    state.page = Math.min(state.page, pages - 1);
    const turn = (/** @type {number} */ by) => () => {
      state.page += by;
      show();
      list.scrollIntoView({ block: 'start' });
    };
    const pager = () =>
      h(
        'nav',
        { class: 'pager', 'aria-label': 'pages' },
        h('button', { type: 'button', disabled: state.page === 0, click: turn(-1) }, 'previous'),
        h('span', {}, `page ${state.page + 1} of ${pages}, ${count(found.length)} groups`),
        h('button', { type: 'button', disabled: state.page >= pages - 1, click: turn(1) }, 'next'),
      );
    list.replaceChildren(
      pager(),
      ...(found.length === 0
        ? [h('p', { class: 'empty' }, 'No group is like that.')]
        : found
            .slice(state.page * PAGE, (state.page + 1) * PAGE)
            .map((group) => groupCard(group, iteration.iteration))),
      ...(found.length > PAGE ? [pager()] : []),
    );
  };
  show();
  const choices = (/** @type {Record<string, [string, ...any]>} */ of) =>
    Object.entries(of).map(([value, [text]]) => /** @type {const} */ ([value, text]));
  return [
    h(
      'div',
      { class: 'controls' },
      runs.length === 1
        ? null
        : select(
            'run',
            runs.map(({ name }, i) => [String(i), name]),
            String(runs.indexOf(run)),
            (value) => set({ run: Number(value) }),
          ),
      select(
        'iteration',
        iterations.map((one) => [String(one.iteration), `${one.iteration}: responses of M${one.iteration}`]),
        String(iteration.iteration),
        (value) => set({ iteration: Number(value) }),
      ),
      select('show', choices(FILTERS), state.filter, (value) => set({ filter: value })),
      select('order', choices(SORTS), state.sort, (value) => set({ sort: value })),
      h(
        'label',
        { class: 'field grow' },
        h('span', {}, 'search'),
        h('input', {
          type: 'search',
          value: state.query,
          placeholder: 'in prompts, responses, labels, ids',
          input: (event) => {
            state.query = event.target.value;
            state.page = 0;
            show();
          },
        }),
      ),
    ),
    iteration.groups.length < iteration.totalGroups
      ? h(
          'p',
          { class: 'note' },
          `${count(iteration.groups.length)} of ${count(iteration.totalGroups)} groups, chosen evenly by the digest of their id; the run folder has all of them (cream report --samples N shows more).`,
        )
      : null,
    list,
  ];
}
