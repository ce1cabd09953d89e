import { s } from './dom.js';
import { fixed, number } from './format.js';
import { seriesColor } from './colors.js';

// Small charts with few marks: SVG, which is sharp at any size and takes the colours of the theme by itself.

/**
 * @typedef {{ label: string, color: string, points: ({ value: number, low?: number, high?: number } | undefined)[] }} DotSeries
 */

/** Round values that cover a range. @param {number} low @param {number} high */
function ticksOf(low, high) {
  const rough = (high - low) / 4 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough) ?? rough;
  const ticks = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + 1e-9 * step; tick += step)
    ticks.push(tick);
  return ticks;
}

/** @param {number} width @param {number} height @param {string} label @param {...import('./dom.js').Child} children */
const frame = (width, height, label, ...children) =>
  s(
    'svg',
    { viewBox: `0 0 ${width} ${height}`, class: 'figure', role: 'img', 'aria-label': label },
    children,
  );

/** @param {number} x @param {number} y @param {string} anchor @param {string} words @param {string} [kind] */
const text = (x, y, anchor, words, kind = 'tick') =>
  s('text', { x, y, 'text-anchor': anchor, class: kind }, words);

/**
 * Dots with whiskers over a few categories, joined by a line; several series stand beside each other.
 * @param {string} label @param {readonly string[]} categories @param {readonly DotSeries[]} series
 * @param {{ band?: [number, number], bandLabel?: string, line?: number, format?: (value: number) => string }} [options]
 */
export function dots(
  label,
  categories,
  series,
  { band, bandLabel, line, format = (value) => number(value, 3) } = {},
) {
  const [width, height, left, right, top, bottom] = [420, 200, 46, 12, 12, 26];
  const values = [
    ...series.flatMap(({ points }) =>
      points.flatMap((point) =>
        point ? [point.value, point.low ?? point.value, point.high ?? point.value] : [],
      ),
    ),
    ...(band ?? []),
    ...(line === undefined ? [] : [line]),
  ];
  let low = Math.min(...values);
  let high = Math.max(...values);
  const air = high > low ? (high - low) * 0.08 : Math.max(0.05, Math.abs(high) * 0.1);
  low -= air;
  high += air;
  const x = (/** @type {number} */ place, /** @type {number} */ which) => {
    const slot = (width - left - right) / categories.length;
    return (
      left +
      slot * (place + 0.5) +
      (which - (series.length - 1) / 2) * Math.min(9, slot / (series.length + 1))
    );
  };
  const y = (/** @type {number} */ value) => top + ((high - value) / (high - low)) * (height - top - bottom);
  return frame(
    width,
    height,
    label,
    band === undefined
      ? null
      : [
          s('rect', {
            x: left,
            width: width - left - right,
            y: y(band[1]),
            height: Math.max(1, y(band[0]) - y(band[1])),
            class: 'band',
          }),
          bandLabel === undefined ? null : text(width - right - 4, y(band[1]) + 12, 'end', bandLabel),
        ],
    ticksOf(low, high).map((tick) => [
      s('line', { x1: left, x2: width - right, y1: y(tick), y2: y(tick), class: 'grid' }),
      text(left - 6, y(tick) + 4, 'end', format(tick)),
    ]),
    line === undefined
      ? null
      : s('line', { x1: left, x2: width - right, y1: y(line), y2: y(line), class: 'rule' }),
    categories.map((name, place) =>
      text(left + ((width - left - right) / categories.length) * (place + 0.5), height - 8, 'middle', name),
    ),
    series.map(({ label: name, color, points }, which) => {
      const places = points.flatMap((point, place) => (point ? [{ ...point, place }] : []));
      return [
        s('polyline', {
          points: places.map(({ place, value }) => `${x(place, which)},${y(value)}`).join(' '),
          class: 'join',
          stroke: color,
        }),
        places.map(({ place, value, low: from, high: to }) =>
          s(
            'g',
            {},
            s(
              'title',
              {},
              `${name} ${categories[place]}: ${format(value)}${from === undefined ? '' : ` [${format(from)}, ${format(to ?? value)}]`}`,
            ),
            from === undefined || to === undefined
              ? null
              : s('line', {
                  x1: x(place, which),
                  x2: x(place, which),
                  y1: y(from),
                  y2: y(to),
                  stroke: color,
                  class: 'whisker',
                }),
            s('circle', { cx: x(place, which), cy: y(value), r: 4, fill: color }),
          ),
        ),
      ];
    }),
  );
}

/**
 * tau of the groups, over the band of random rankings.
 * @param {import('../types.js').Histogram} histogram @param {{ mean: number, deviation: number } | undefined} chance
 * @param {number | null | undefined} mean @param {string} color
 */
export function tauBars({ edges, counts }, chance, mean, color) {
  const [width, height, left, right, top, bottom] = [420, 170, 36, 10, 16, 26];
  const low = edges[0] ?? -1;
  const high = edges.at(-1) ?? 1;
  const most = Math.max(1, ...counts);
  const x = (/** @type {number} */ value) =>
    left + ((Math.min(high, Math.max(low, value)) - low) / (high - low)) * (width - left - right);
  const y = (/** @type {number} */ value) => height - bottom - (value / most) * (height - top - bottom);
  return frame(
    width,
    height,
    'histogram of tau',
    chance === undefined
      ? null
      : [
          s('rect', {
            x: x(chance.mean - chance.deviation),
            width: x(chance.mean + chance.deviation) - x(chance.mean - chance.deviation),
            y: top,
            height: height - top - bottom,
            class: 'band',
          }),
          text(x(chance.mean), top - 4, 'middle', `random ±${fixed(chance.deviation)}`),
        ],
    ticksOf(0, most).map((tick) => [
      s('line', { x1: left, x2: width - right, y1: y(tick), y2: y(tick), class: 'grid' }),
      text(left - 5, y(tick) + 4, 'end', number(tick, 3)),
    ]),
    counts.map((count, i) => {
      const [start, end] = [edges[i] ?? 0, edges[i + 1] ?? 0];
      const [from, to] = [x(start), x(end)];
      const middle = (start + end) / 2;
      return s(
        'g',
        {},
        s('title', {}, `tau about ${fixed(middle, 2)}: ${count} groups`),
        s('rect', {
          x: from + 1,
          width: Math.max(1, to - from - 2),
          y: y(count),
          height: Math.max(0, height - bottom - y(count)),
          fill: color,
          class: 'bar',
        }),
      );
    }),
    [-1, -0.5, 0, 0.5, 1]
      .filter((tick) => tick >= low && tick <= high)
      .map((tick) => text(x(tick), height - 8, 'middle', String(tick))),
    mean === null || mean === undefined
      ? null
      : [
          s('line', { x1: x(mean), x2: x(mean), y1: top, y2: height - bottom, class: 'mean' }),
          s('title', {}, `mean ${fixed(mean)}`),
        ],
  );
}

/** Lengths of chosen and rejected responses as two outlines. @param {import('../types.js').PairLengths} lengths */
export function lengthBars({ edges, chosen, rejected, meanChosen, meanRejected }) {
  const [width, height, left, right, top, bottom] = [420, 150, 36, 10, 10, 26];
  const low = edges[0] ?? 0;
  const high = edges.at(-1) ?? 1;
  const most = Math.max(1, ...chosen, ...rejected);
  const x = (/** @type {number} */ value) =>
    left + ((value - low) / (high - low || 1)) * (width - left - right);
  const y = (/** @type {number} */ value) => height - bottom - (value / most) * (height - top - bottom);
  const outline = (/** @type {number[]} */ counts) => {
    let path = `M${x(low)},${y(0)}`;
    counts.forEach((count, i) => {
      path += `V${y(count)}H${x(edges[i + 1] ?? high)}`;
    });
    return `${path}V${y(0)}Z`;
  };
  const first = Math.ceil(low);
  const last = Math.floor(high);
  const ticks =
    last - first <= 8 ? Array.from({ length: last - first + 1 }, (_, i) => first + i) : ticksOf(first, last);
  return frame(
    width,
    height,
    'lengths of chosen and rejected responses in tokens',
    ticksOf(0, most).map((tick) => [
      s('line', { x1: left, x2: width - right, y1: y(tick), y2: y(tick), class: 'grid' }),
      text(left - 5, y(tick) + 4, 'end', number(tick, 3)),
    ]),
    s('path', { d: outline(rejected), stroke: seriesColor(1), fill: seriesColor(1), class: 'outline' }),
    s('path', { d: outline(chosen), stroke: seriesColor(0), fill: seriesColor(0), class: 'outline' }),
    [
      [meanChosen, seriesColor(0)],
      [meanRejected, seriesColor(1)],
    ].map(([mean, stroke]) =>
      s('line', {
        x1: x(Number(mean)),
        x2: x(Number(mean)),
        y1: top,
        y2: height - bottom,
        stroke,
        class: 'mean',
      }),
    ),
    ticks.map((tick) => text(x(tick), height - 8, 'middle', number(tick, 3))),
  );
}

/** One group's two rankings, joined by lines: crossings are disagreements. @param {readonly number[]} now @param {readonly number[]} before */
export function slopes(now, before) {
  const [width, height] = [96, 14 * now.length + 8];
  const ranks = (/** @type {readonly number[]} */ values) =>
    values.map(
      (value) =>
        values.filter((other) => other > value).length +
        (values.filter((other) => other === value).length - 1) / 2,
    );
  const [a, b] = [ranks(now), ranks(before)];
  const y = (/** @type {number} */ rank) => 11 + 14 * rank;
  return s(
    'svg',
    { viewBox: `0 0 ${width} ${height}`, class: 'slopes', role: 'img', 'aria-label': 'ranks now and before' },
    a.map((rank, i) => {
      const isFirst = rank === Math.min(...a);
      return [
        s('line', {
          x1: 14,
          x2: width - 14,
          y1: y(rank),
          y2: y(/** @type {number} */ (b[i])),
          class: isFirst ? 'best' : 'other',
        }),
        s('circle', { cx: 14, cy: y(rank), r: 3.5, class: isFirst ? 'best' : 'other' }),
        s('circle', {
          cx: width - 14,
          cy: y(/** @type {number} */ (b[i])),
          r: 3.5,
          class: isFirst ? 'best' : 'other',
        }),
      ];
    }),
  );
}
