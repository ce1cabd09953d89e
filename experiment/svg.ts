// Charts as SVG text: lines with error bars, and intervals beside dots. Text is black on white, so that they can be
// read in light and dark pages alike.

export interface Point {
  x: number;
  y: number;
  /** Half of an error bar. */
  error?: number;
}

export interface Line {
  name: string;
  /** Chooses colour and dashes: the same number, the same look in every chart. */
  look: number;
  points: readonly Point[];
}

export interface LineChart {
  title: string;
  xLabel: (x: number) => string;
  yLabel: string;
  lines: readonly Line[];
  /** Limits of y; found from the data where they are left out. */
  y?: readonly [number, number];
}

/** Told apart by colour-blind readers too, with the marks: Okabe & Ito's palette, then greys. */
const COLORS = ['#000000', '#e69f00', '#56b4e9', '#009e73', '#0072b2', '#d55e00', '#cc79a7', '#a6761d'];
const DASHES = ['', '6 3', '2 2'];

const escaped = (text: string) =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
const n = (value: number) => Number(value.toFixed(1)).toString();

const styleOf = (index: number) => {
  const dash = DASHES[Math.floor(index / COLORS.length) % DASHES.length]!;
  return { color: COLORS[index % COLORS.length]!, dash: dash === '' ? '' : ` stroke-dasharray="${dash}"` };
};

function text(x: number, y: number, content: string, more = ''): string {
  return `<text x="${n(x)}" y="${n(y)}"${more}>${escaped(content)}</text>`;
}

function page(width: number, height: number, title: string, parts: readonly string[]): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" font-family="sans-serif" font-size="12">`,
    `<title>${escaped(title)}</title>`,
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    text(12, 20, title, ' font-size="14" font-weight="bold"'),
    ...parts,
    '</svg>\n',
  ].join('\n');
}

/** Round steps: 1, 2 or 5 times a power of ten, five or so of them. */
export function ticks(low: number, high: number): number[] {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough)!;
  const first = Math.ceil(low / step - 1e-9);
  const count = Math.floor(high / step + 1e-9) - first + 1;
  return Array.from({ length: count }, (_, index) => Number(((first + index) * step).toPrecision(12)));
}

function limits(values: readonly number[]): [number, number] {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = high > low ? (high - low) * 0.05 : 0.5;
  return [low - room, high + room];
}

export function lineChart({ title, xLabel, yLabel, lines, y }: LineChart): string {
  const [width, height] = [640, 380];
  const box = { left: 56, right: 470, top: 36, bottom: 340 };
  const points = lines.flatMap((line) => line.points);
  const [yLow, yHigh] =
    y ?? limits(points.flatMap(({ y: value, error = 0 }) => [value - error, value + error]));
  const xs = [...new Set(points.map(({ x }) => x))].toSorted((a, b) => a - b);
  const [xLow, xHigh] = [xs[0] ?? 0, xs.at(-1) ?? 1];
  const px = (x: number) =>
    box.left + 12 + ((x - xLow) / Math.max(xHigh - xLow, 1e-9)) * (box.right - box.left - 24);
  const py = (value: number) => box.bottom - ((value - yLow) / (yHigh - yLow)) * (box.bottom - box.top);
  const grid = ticks(yLow, yHigh).flatMap((value) => [
    `<line x1="${box.left}" x2="${box.right}" y1="${n(py(value))}" y2="${n(py(value))}" stroke="#ddd"/>`,
    text(box.left - 6, py(value) + 4, String(value), ' text-anchor="end"'),
  ]);
  const axis = xs.map((x) => text(px(x), box.bottom + 18, xLabel(x), ' text-anchor="middle"'));
  const drawn = lines.flatMap((line, index) => {
    const { color, dash } = styleOf(line.look);
    const path = line.points.map((point) => `${n(px(point.x))},${n(py(point.y))}`).join(' ');
    const bars = line.points.flatMap(({ x, y: value, error }) => {
      // Side by side, or bars of one model would hide each other.
      const at = n(px(x) + (index - lines.length / 2) * 1.5);
      return error === undefined || error === 0
        ? []
        : [
            `<line x1="${at}" x2="${at}" y1="${n(py(value - error))}" y2="${n(py(value + error))}" stroke="${color}" stroke-opacity="0.6"/>`,
          ];
    });
    const legend = box.top + 12 + index * 20;
    return [
      `<polyline points="${path}" fill="none" stroke="${color}" stroke-width="2"${dash}/>`,
      ...bars,
      `<line x1="${box.right + 14}" x2="${box.right + 38}" y1="${legend - 4}" y2="${legend - 4}" stroke="${color}" stroke-width="2"${dash}/>`,
      text(box.right + 44, legend, line.name),
    ];
  });
  const label = text(
    0,
    0,
    yLabel,
    ` text-anchor="middle" transform="translate(14 ${(box.top + box.bottom) / 2}) rotate(-90)"`,
  );
  return page(width, height, title, [...grid, ...axis, label, ...drawn]);
}

export interface IntervalRow {
  name: string;
  values: readonly number[];
  mean: number;
  interval: readonly [number, number] | null;
}

/** One row each: every seed a dot, the mean and its interval below. */
export function intervalChart({ title, rows }: { title: string; rows: readonly IntervalRow[] }): string {
  const rowHeight = 34;
  const box = { left: 150, right: 620, top: 40 };
  const bottom = box.top + rows.length * rowHeight;
  const [low, high] = limits([
    0,
    ...rows.flatMap(({ values, interval }) => [...values, ...(interval ?? [])]),
  ]);
  const px = (value: number) => box.left + ((value - low) / (high - low)) * (box.right - box.left);
  const grid = ticks(low, high).flatMap((value) => [
    `<line x1="${n(px(value))}" x2="${n(px(value))}" y1="${box.top}" y2="${bottom}" stroke="${value === 0 ? '#555' : '#ddd'}"/>`,
    text(px(value), bottom + 16, String(value), ' text-anchor="middle"'),
  ]);
  const drawn = rows.flatMap(({ name, values, mean, interval }, index) => {
    const top = box.top + index * rowHeight;
    const middle = top + 23;
    return [
      text(box.left - 8, top + 21, name, ' text-anchor="end"'),
      ...values.map(
        (value) => `<circle cx="${n(px(value))}" cy="${top + 11}" r="3" fill="#0072b2" fill-opacity="0.45"/>`,
      ),
      ...(interval === null
        ? []
        : [
            `<line x1="${n(px(interval[0]))}" x2="${n(px(interval[1]))}" y1="${middle}" y2="${middle}" stroke="#d55e00" stroke-width="3"/>`,
          ]),
      `<circle cx="${n(px(mean))}" cy="${middle}" r="4" fill="#d55e00"/>`,
    ];
  });
  return page(640, bottom + 28, title, [...grid, ...drawn]);
}
