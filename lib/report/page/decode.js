// Columns of steps: base64 of little-endian float32.

/** @typedef {import('../types.js').ReportRun} Run */

/** @type {WeakMap<object, Map<string, Float32Array>>} */
const decoded = new WeakMap();

/** One series of a run, decoded once; undefined when the run has none of that name. @param {Run} run @param {string} name */
export function series(run, name) {
  const text = run.steps.series[name];
  if (typeof text !== 'string') return undefined;
  const known = decoded.get(run.steps) ?? new Map();
  decoded.set(run.steps, known);
  let values = known.get(name);
  if (values === undefined) {
    const binary = atob(text);
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
    values = new Float32Array(bytes.buffer, 0, bytes.length >> 2);
    known.set(name, values);
  }
  return values;
}

/**
 * Rows of the run's trainings of one kind, in order, and where each training begins among them.
 * @param {Run} run @param {'sft' | 'train'} kind
 */
export function rowsOf(run, kind) {
  const streams = run.steps.streams.filter(({ name }) => (name === 'sft') === (kind === 'sft'));
  let start = 0;
  const borders = streams.map((stream) => {
    const border = { name: stream.name, at: start, from: stream.start, rows: stream.rows };
    start += stream.rows;
    return border;
  });
  return { borders, rows: start };
}

/**
 * Values of those rows, null where there is none, as uPlot wants them.
 * @param {Run} run @param {string} name @param {'sft' | 'train'} kind @param {number} [smoothing] share of the value before
 */
export function column(run, name, kind, smoothing = 0) {
  const values = series(run, name);
  if (values === undefined) return undefined;
  const { borders, rows } = rowsOf(run, kind);
  /** @type {(number | null)[]} */
  const found = new Array(rows).fill(null);
  let any = false;
  for (const { at, from, rows: count } of borders) {
    // A training is smoothed by itself, and without the pull of its first value.
    let mean = 0;
    let weight = 0;
    for (let i = 0; i < count; i++) {
      const value = values[from + i] ?? Number.NaN;
      if (Number.isNaN(value)) continue;
      any = true;
      mean = smoothing * mean + (1 - smoothing) * value;
      weight = smoothing * weight + (1 - smoothing);
      found[at + i] = smoothing === 0 ? value : mean / weight;
    }
  }
  return any ? found : undefined;
}
