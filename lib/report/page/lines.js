import { h } from './dom.js';
import { number } from './format.js';
import { color } from './colors.js';

// Curves over optimizer steps, drawn by uPlot when they come into view.

/**
 * @typedef {{ label: string, variable: string, dash?: number[], values: (number | null)[], raw?: (number | null)[] }} Line
 * @typedef {{ at: number, label: string, variable?: string }} Border
 * @typedef {{ title: string, note?: string, x: number[], lines: Line[], borders: Border[], isLog?: boolean }} LineChart
 */

const HEIGHT = 220;
/** Charts of one group zoom and point together. */
const SYNC = 'steps';

/** @type {{ chart: any, box: HTMLElement, draw: () => void }[]} */
let drawn = [];

/** @type {IntersectionObserver | undefined} */
let watcher;

/** Forgets all charts: they are about to be replaced. */
export function clearLines() {
  for (const { chart } of drawn) chart?.destroy();
  drawn = [];
  watcher?.disconnect();
  watcher = undefined;
}

/** Draws all charts anew, in the colours of the theme. */
export function redrawLines() {
  for (const entry of drawn) {
    if (entry.chart === undefined) continue;
    entry.chart.destroy();
    entry.chart = undefined;
    entry.draw();
  }
}

/** @param {any} u @param {Border[]} borders */
function drawBorders(u, borders) {
  const { ctx } = u;
  const { top, height, left, width } = u.bbox;
  const ratio = devicePixelRatio;
  ctx.save();
  ctx.font = `${11 * ratio}px system-ui, sans-serif`;
  ctx.textBaseline = 'bottom';
  ctx.textAlign = 'left';
  let free = -Infinity;
  for (const { at, label, variable } of borders) {
    const x = Math.round(u.valToPos(at, 'x', true));
    if (x < left - 1 || x > left + width) continue;
    ctx.strokeStyle = color(variable ?? 'border-strong');
    ctx.setLineDash([4 * ratio, 4 * ratio]);
    ctx.beginPath();
    ctx.moveTo(x, top);
    ctx.lineTo(x, top + height);
    ctx.stroke();
    const wide = ctx.measureText(label).width;
    if (label === '' || x < free || x + wide > left + width) continue;
    ctx.fillStyle = color(variable ?? 'muted');
    ctx.fillText(label, x, top - 3 * ratio);
    free = x + wide + 8 * ratio;
  }
  ctx.restore();
}

/** With as many digits as tell it from its neighbour. @param {number} tick @param {number} step */
function tickLabel(tick, step) {
  const size = Math.abs(tick);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return number(tick, 3);
  const digits = step > 0 ? Math.min(8, Math.max(0, -Math.floor(Math.log10(step) + 1e-9))) : 3;
  return Number(tick.toFixed(digits)).toLocaleString('en', { maximumFractionDigits: digits });
}

/** Charts that nobody has scrolled to are drawn when there is nothing else to do. */
function drawRest() {
  const next = drawn.find(({ chart, box }) => chart === undefined && box.clientWidth > 0);
  if (next === undefined) return;
  next.draw();
  requestIdleCallback(drawRest);
}

/** @param {LineChart} chart @returns {HTMLElement} */
export function lineChart({ title, note, x, lines, borders, isLog = false }) {
  const box = h('div', { class: 'plot' });
  const values = lines.map(() => h('b', {}, ''));
  const hidden = new Set();
  const behind = lines.filter(({ raw }) => raw !== undefined);
  /** @type {{ chart: any, box: HTMLElement, draw: () => void }} */
  const entry = { chart: undefined, box, draw };
  const legend = h(
    'div',
    { class: 'legend' },
    lines.map((line, i) => {
      const swatch = h('i', { class: line.dash ? 'dashed' : '' });
      swatch.style.borderColor = `var(--${line.variable})`;
      const button = h(
        'button',
        {
          type: 'button',
          'aria-pressed': 'true',
          click: () => {
            if (hidden.has(i)) hidden.delete(i);
            else hidden.add(i);
            button.setAttribute('aria-pressed', String(!hidden.has(i)));
            entry.chart?.setSeries(behind.length + i + 1, { show: !hidden.has(i) });
            const place = behind.indexOf(line);
            if (place !== -1) entry.chart?.setSeries(place + 1, { show: !hidden.has(i) });
          },
        },
        swatch,
        h('span', {}, line.label),
        values[i],
      );
      return button;
    }),
  );

  function show(/** @type {any} */ u) {
    const at = u.cursor.idx;
    lines.forEach((line, i) => {
      const place = at ?? line.values.findLastIndex((value) => value !== null);
      /** @type {HTMLElement} */ (values[i]).textContent = number(line.values[place]);
    });
  }

  function draw() {
    const axis = {
      stroke: () => color('muted'),
      grid: { stroke: () => color('grid'), width: 1 },
      ticks: { stroke: () => color('grid'), width: 1 },
      font: '11px system-ui, sans-serif',
    };
    entry.chart = new uPlot(
      {
        width: Math.max(200, box.clientWidth),
        height: HEIGHT,
        legend: { show: false },
        padding: [18, 8, 0, 0],
        cursor: { sync: { key: SYNC }, points: { size: 6 }, drag: { x: true, y: false } },
        scales: { x: { time: false }, y: isLog ? { distr: 3 } : {} },
        axes: [
          { ...axis, size: 30 },
          {
            ...axis,
            size: 62,
            values: (
              /** @type {any} */ _u,
              /** @type {(number | null)[]} */ ticks,
              /** @type {number} */ _axis,
              /** @type {number} */ _space,
              /** @type {number} */ step,
            ) => ticks.map((tick) => (tick === null ? '' : tickLabel(tick, step))),
          },
        ],
        series: [
          {},
          // Behind the smoothed curves, what they were made from.
          ...behind.map((line) => ({
            stroke: () => color(line.variable),
            width: 1,
            alpha: 0.18,
            points: { show: false },
          })),
          ...lines.map((line, i) => ({
            label: line.label,
            stroke: () => color(line.variable),
            width: 1.5,
            show: !hidden.has(i),
            ...(line.dash === undefined ? {} : { dash: line.dash }),
            points: { show: line.values.length < 40, size: 4 },
          })),
        ],
        hooks: {
          drawAxes: [(/** @type {any} */ u) => drawBorders(u, borders)],
          setCursor: [show],
        },
      },
      [x, ...behind.map(({ raw }) => raw), ...lines.map((line) => line.values)],
      box,
    );
    show(entry.chart);
  }

  drawn.push(entry);
  if (drawn.length === 1) requestIdleCallback(drawRest, { timeout: 2000 });
  watcher ??= new IntersectionObserver(
    (seen) => {
      for (const { isIntersecting, target } of seen) {
        const found = drawn.find((one) => one.box === target);
        if (!isIntersecting || found === undefined || found.chart !== undefined) continue;
        found.draw();
      }
    },
    { rootMargin: '200px' },
  );
  watcher.observe(box);
  new ResizeObserver(() => {
    const width = box.clientWidth;
    if (entry.chart !== undefined && width > 0 && width !== entry.chart.width) {
      entry.chart.setSize({ width, height: HEIGHT });
    }
  }).observe(box);
  return h(
    'section',
    { class: 'card chart' },
    h('h3', {}, title),
    note === undefined ? null : h('p', { class: 'note' }, note),
    box,
    legend,
  );
}
