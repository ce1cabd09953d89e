/** 12 s, 3:05, 2:03:04 */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '?';
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  const rest = String(whole % 60).padStart(2, '0');
  return hours > 0 ? `${hours}:${String(minutes).padStart(2, '0')}:${rest}` : `${minutes}:${rest}`;
}

export function formatCount(count: number): string {
  return String(Math.round(count)).replaceAll(/\B(?=(\d{3})+$)/g, ',');
}

export function formatRate(perSecond: number): string {
  return perSecond >= 10
    ? `${formatCount(perSecond)}/s`
    : perSecond >= 0.1
      ? `${perSecond.toFixed(1)}/s`
      : `${formatDuration(1 / perSecond)} each`;
}

export function formatBytes(bytes: number): string {
  let value = bytes;
  for (const unit of ['B', 'KiB', 'MiB', 'GiB']) {
    if (value < 1024) return `${unit === 'B' ? value : value.toFixed(1)} ${unit}`;
    value /= 1024;
  }
  return `${value.toFixed(1)} TiB`;
}

/** Four digits, and exponents where they would not do. */
export function formatNumber(value: number): string {
  if (Number.isInteger(value) && Math.abs(value) < 1e7) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
  return value.toPrecision(4);
}

/** What is worth a place in one line, in this order, under the names that people say. */
const SHOWN: readonly (readonly [key: string, label: string])[] = [
  ['loss', 'loss'],
  ['rewards/margins', 'margin'],
  ['rewards/accuracies', 'ranked right'],
  ['cream/consistency', 'C'],
  ['cream/tau', 'tau'],
  ['consistency', 'C'],
  ['tau', 'tau'],
  ['cream/reward_spread', 'spread of rewards'],
  ['cream/reward_noise', 'noise'],
  ['pairs', 'pairs'],
  ['accuracy', 'accuracy'],
  ['greedy', 'greedy'],
  ['sampled', 'sampled'],
  ['gradNorm', 'grad norm'],
  ['grad_norm', 'grad norm'],
  ['meanResponseTokens', 'tokens per response'],
  ['tokensPerSecond', 'tokens/s'],
];

/** Known metrics in a fixed order; all of them when none is known. */
export function formatMetrics(metrics: Readonly<Record<string, number>>): string {
  const known = SHOWN.filter(([key]) => metrics[key] !== undefined);
  const shown =
    known.length > 0
      ? known
      : Object.keys(metrics)
          .slice(0, 4)
          .map((key) => [key, key] as const);
  return shown.map(([key, label]) => `${label} ${formatNumber(metrics[key]!)}`).join('  ');
}

/** Columns padded to their widest cell; numbers to the right. */
export function formatTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((name, column) =>
    Math.max(name.length, ...rows.map((row) => (row[column] ?? '').length)),
  );
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
      .join('  ')
      .trimEnd();
  return [line(header), widths.map((width) => '-'.repeat(width)).join('  '), ...rows.map(line)].join('\n');
}
