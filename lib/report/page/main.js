import { append, h } from './dom.js';
import { dateTime } from './format.js';
import { setTheme, startTheme, storedTheme } from './colors.js';
import { clearLines, redrawLines } from './lines.js';
import { overview, verdicts } from './overview.js';
import { curves } from './curves.js';
import { rankings } from './rankings.js';
import { samples } from './samples.js';
import { lineage, settings, timeline } from './details.js';

// The frame: header, tabs, and new data where the page is watched.

/** @typedef {import('../types.js').ReportData} Data */

const TABS = {
  overview: 'Overview',
  curves: 'Curves',
  rankings: 'Rankings',
  samples: 'Samples',
  settings: 'Settings',
  lineage: 'Lineage',
  timeline: 'Timeline',
};

const state = {
  tab: 'overview',
  /** @type {{ smoothing?: number }} */
  curves: {},
  samples: { run: 0, iteration: -1, query: '', filter: 'all', sort: 'file', page: 0 },
  settings: { changedOnly: true },
};

/** @type {Data} */
let data;
let isLive = false;
let connection = '';

/** @returns {import('./dom.js').Child} */
function content() {
  const { runs } = data;
  try {
    switch (state.tab) {
      case 'curves':
        return curves(runs, state.curves, drawTab);
      case 'rankings':
        return rankings(runs);
      case 'samples':
        return samples(runs, state.samples, drawTab);
      case 'settings':
        return settings(runs, state.settings, drawTab);
      case 'lineage':
        return lineage(runs);
      case 'timeline':
        return timeline(runs, data.generated);
      default:
        return overview(runs);
    }
  } catch (error) {
    // A damaged folder must not cost the rest of the page.
    return h(
      'p',
      { class: 'empty' },
      `This part could not be drawn: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

function drawTab() {
  clearLines();
  const panel = /** @type {HTMLElement} */ (document.getElementById('panel'));
  panel.replaceChildren();
  append(panel, [content()]);
}

function drawHeader() {
  const header = /** @type {HTMLElement} */ (document.getElementById('verdicts'));
  header.replaceChildren();
  append(header, [verdicts(data.runs, data.comparison)]);
  const stamp = /** @type {HTMLElement} */ (document.getElementById('stamp'));
  stamp.textContent = `cream-lm ${data.version} · ${isLive ? connection : `written ${dateTime(data.generated)}`}`;
}

/** @param {string} tab */
function choose(tab) {
  state.tab = Object.hasOwn(TABS, tab) ? tab : 'overview';
  for (const button of document.querySelectorAll('[role=tab]')) {
    const isChosen = button.id === `tab-${state.tab}`;
    button.setAttribute('aria-selected', String(isChosen));
    button.setAttribute('tabindex', isChosen ? '0' : '-1');
  }
  document.getElementById('panel')?.setAttribute('aria-labelledby', `tab-${state.tab}`);
  drawTab();
}

function drawFrame() {
  const names = Object.keys(TABS);
  const tabs = Object.entries(TABS).map(([name, label]) =>
    h(
      'button',
      {
        type: 'button',
        role: 'tab',
        id: `tab-${name}`,
        'aria-controls': 'panel',
        click: () => {
          history.replaceState(null, '', `#${name}`);
          choose(name);
        },
        keydown: (event) => {
          const by = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
          if (by === 0) return;
          const next = names[(names.indexOf(name) + by + names.length) % names.length];
          const button = document.getElementById(`tab-${next}`);
          button?.focus();
          button?.click();
        },
      },
      label,
    ),
  );
  const themes = ['auto', 'light', 'dark'];
  const theme = h(
    'button',
    {
      type: 'button',
      class: 'theme',
      title: 'light, dark, or as the system says',
      click: () => {
        const next = themes[(themes.indexOf(storedTheme()) + 1) % themes.length] ?? 'auto';
        setTheme(next);
        theme.textContent = `theme: ${next}`;
        redrawLines();
      },
    },
    `theme: ${storedTheme()}`,
  );
  const app = /** @type {HTMLElement} */ (document.getElementById('app'));
  app.replaceChildren(
    h(
      'header',
      { class: 'top' },
      h('div', { class: 'brand' }, h('h1', {}, 'cream'), h('span', { id: 'stamp', class: 'note' }), theme),
      h('div', { id: 'verdicts' }),
    ),
    h('div', { role: 'tablist', class: 'tabs', 'aria-label': 'parts of the report' }, tabs),
    h('main', { id: 'panel', role: 'tabpanel' }),
  );
}

/** Asks for the data whenever the server says that it has changed. */
function watch() {
  const load = async () => {
    const response = await fetch('data');
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    data = await response.json();
    document.title = `${data.runs.map(({ name }) => name).join(', ')} · cream watch`;
    drawHeader();
    // Somebody who types or reads is not disturbed; the header has moved on.
    const { activeElement } = document;
    const isBusy = activeElement instanceof HTMLInputElement || activeElement instanceof HTMLSelectElement;
    if (!isBusy || !document.getElementById('panel')?.hasChildNodes()) {
      const { scrollY } = window;
      drawTab();
      window.scrollTo(0, scrollY);
    }
  };
  let queue = Promise.resolve();
  const update = () => {
    queue = queue.then(load).catch((error) => {
      connection = `no data: ${error instanceof Error ? error.message : String(error)}`;
      if (data !== undefined) drawHeader();
    });
  };
  const events = new EventSource('events');
  events.addEventListener('change', update);
  events.addEventListener('open', () => {
    connection = 'live';
    update();
  });
  events.addEventListener('error', () => {
    connection = 'not connected: cream watch has ended, this is what it showed last';
    if (data !== undefined) drawHeader();
  });
}

export function start() {
  startTheme(redrawLines);
  drawFrame();
  const tab = location.hash.slice(1);
  if (Object.hasOwn(TABS, tab)) state.tab = tab;
  const given = JSON.parse(document.getElementById('data')?.textContent ?? '"live"');
  isLive = given === 'live';
  for (const button of document.querySelectorAll('[role=tab]')) {
    button.setAttribute('aria-selected', String(button.id === `tab-${state.tab}`));
  }
  if (isLive) {
    watch();
  } else {
    data = given;
    drawHeader();
    choose(state.tab);
  }
  addEventListener('hashchange', () => {
    if (data !== undefined) choose(location.hash.slice(1));
  });
}
