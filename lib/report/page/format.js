// Numbers as people read them. A value that is none is a dash: the folder may hold anything.

/** @param {unknown} value @returns {value is number} */
export const isNumber = (value) => typeof value === 'number' && Number.isFinite(value);

/** Significant digits, exponents where they would not do. @param {unknown} value @param {number} [digits] */
export function number(value, digits = 4) {
  if (!isNumber(value)) return '–';
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e6) return String(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2).replace('e+', 'e');
  return String(Number(value.toPrecision(digits)));
}

/** @param {unknown} value @param {number} [digits] */
export const fixed = (value, digits = 3) => (isNumber(value) ? value.toFixed(digits) : '–');

/** @param {unknown} value */
export const percent = (value) =>
  isNumber(value) ? `${(100 * value).toFixed(Math.abs(value) < 0.1 && value !== 0 ? 1 : 0)} %` : '–';

/** @param {unknown} value */
export const count = (value) => (isNumber(value) ? Math.round(value).toLocaleString('en') : '–');

/** 12 s, 3:05, 2:03:04. @param {unknown} seconds */
export function duration(seconds) {
  if (!isNumber(seconds)) return '–';
  if (seconds < 0.05) return '< 0.1 s';
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  const rest = String(whole % 60).padStart(2, '0');
  return hours > 0 ? `${hours}:${String(minutes).padStart(2, '0')}:${rest}` : `${minutes}:${rest}`;
}

/** @param {number} bytes */
export function size(bytes) {
  let value = bytes;
  for (const unit of ['B', 'KiB', 'MiB', 'GiB']) {
    if (value < 1024) return `${unit === 'B' ? value : value.toFixed(1)} ${unit}`;
    value /= 1024;
  }
  return `${value.toFixed(1)} TiB`;
}

/** @param {number | string} time */
export function dateTime(time) {
  const date = new Date(time);
  return Number.isNaN(date.getTime())
    ? '–'
    : date.toLocaleString([], { dateStyle: 'medium', timeStyle: 'medium' });
}

/** @param {number} time */
export const clock = (time) => new Date(time).toLocaleTimeString();

/** "iteration-2/train" -> "M2 → M3", "sft" -> "M0 → M1". @param {string} stream */
export function streamLabel(stream) {
  const iteration = Number(/^iteration-(\d+)\//.exec(stream)?.[1] ?? Number.NaN);
  return Number.isNaN(iteration) ? stream : `M${iteration} → M${iteration + 1}`;
}
