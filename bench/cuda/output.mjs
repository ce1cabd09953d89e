// Results as a table for people.
import { PEERS } from './rows.mjs';

const TERA = 1e12;

const short = (number) =>
  number === undefined || number === null || Number.isNaN(number)
    ? '-'
    : Math.abs(number) >= 1000
      ? Math.round(number).toLocaleString('en')
      : number.toPrecision(3);
const percent = (share) => `${(100 * share).toFixed(0)} %`;
const gigabytes = (bytes) => `${(bytes / 1e9).toFixed(1)} GB`;

function shares({ total, ...parts }) {
  return Object.entries(parts)
    .filter(([, seconds]) => seconds > 0.005 * total)
    .sort((a, b) => b[1] - a[1])
    .map(([part, seconds]) => `${part} ${percent(seconds / total)}`)
    .join(', ');
}

function notesOf({ where, whereOf, extra = {}, work = {}, ...row }) {
  const settings = [
    work.recompute !== undefined && work.recompute !== 'selective' && `recompute ${work.recompute}`,
    work.momentsDtype === 'bfloat16' && 'bfloat16 moments',
  ];
  return [
    where && `${shares(where)}${whereOf ? ` (${whereOf})` : ''}`,
    extra.minutes &&
      Object.entries(extra.minutes)
        .map(([part, minutes]) => `${part} ${minutes.toFixed(1)}`)
        .join(', '),
    extra.fixedSeconds && `once ${short(Object.values(extra.fixedSeconds).reduce((a, b) => a + b, 0))} s`,
    extra.idleShare !== undefined && `GPU idle ${percent(extra.idleShare)}`,
    row.ratio &&
      `ours is ${short(row.ratio)}x (${row.slowerThan ? `${row.slowerThan} is faster` : `wanted ${row.wantedRatio}x`})`,
    row.batch && `batch ${row.batch}`,
    row.attention && `attention ${row.attention}`,
    row.note,
    extra.products &&
      Object.entries(extra.products)
        .map(([name, { burst }]) => `${name} ${short(burst / TERA)} in a burst`)
        .join(', '),
    extra.copy && `copy ${short(extra.copy.sustained / TERA)} TB/s`,
    extra.host &&
      `host ${short(extra.host.in.sustained / 1e9)} GB/s in, ${short(extra.host.out.sustained / 1e9)} out`,
    row.peakBytes && `peak ${gigabytes(row.peakBytes)}`,
    row.plannedBytes && `planned ${gigabytes(row.plannedBytes)}`,
    extra.sharingGain &&
      `sharing ${extra.sharingGain.toFixed(2)}x of ${extra.sharingGainOfWork.toFixed(2)}x less work` +
        (extra.sharingGainWanted ? ` (wanted ${extra.sharingGainWanted}x)` : ''),
    extra.ratioToFullSlots &&
      `${extra.ratioToFullSlots.toFixed(2)} of full slots at the same mean context (${short(extra.fullSlotsTokensPerSecond)}), ` +
        `${extra.steadyRatio.toFixed(2)} while prompts wait`,
    extra.pairsPerSecond && `${short(extra.pairsPerSecond)} pairs/s`,
    extra.awayGBs && `away ${short(extra.awayGBs)} GB/s with taking host memory`,
    work.because && `LoRA, because all weights: ${work.because}`,
    ...settings,
  ]
    .filter(Boolean)
    .join('; ');
}

function describe(name, row) {
  if (row.error !== undefined) return [name, 'failed', '', '', '', row.error.split('\n').at(-1)];
  if (row.skipped !== undefined) return [name, 'left out', '', '', '', row.skipped];
  const ofLimit = row.isLess ? row.floor / row.value : row.value / row.floor;
  return [
    name,
    `${short(row.value)} ${row.unit}`,
    row.floor ? short(row.floor) : '-',
    row.floor ? percent(ofLimit) : '-',
    row.wanted ? short(row.wanted) : '-',
    notesOf(row),
  ];
}

function aligned(lines) {
  const widths = lines[0].map((_, column) => Math.max(...lines.map((line) => line[column].length)));
  return lines
    .map((line) =>
      line
        .map((cell, c) =>
          c === 0 || c === line.length - 1 ? cell.padEnd(widths[c]) : cell.padStart(widths[c]),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

export const table = (results) =>
  aligned([
    ['row', 'measured', 'limit', 'of it', 'wanted', 'where the time went, and more'],
    ...Object.entries(results).map(([name, row]) => describe(name, row)),
  ]);

/** What each row is expected to take, and after which a command of `total` seconds ends. */
export function schedule(names, expected, total) {
  let [sum, command] = [0, 1];
  const lines = names.map((name) => {
    const seconds = expected(name) ?? 0;
    if (sum > 0 && sum + seconds > total) [sum, command] = [0, command + 1];
    sum += seconds;
    return [name, seconds.toFixed(0), String(command)];
  });
  return aligned([['row', 'seconds', 'command'], ...lines]);
}

/** Ratios to the peers, for rows that came together from one or more commands. */
export function withRatios(results) {
  return Object.fromEntries(
    Object.entries(results).map(([name, row]) => {
      const peer = PEERS[name];
      const ours = peer && results[peer.against];
      if (row.value === undefined || ours?.value === undefined) return [name, row];
      const { slowerThan: _, ...kept } = row;
      const ratio = peer.of(ours) / row.value;
      const faster = Object.keys(PEERS).find(
        (other) => PEERS[other].against === peer.against && results[other]?.value > row.value,
      );
      return [
        name,
        {
          ...kept,
          ratio,
          wantedRatio: peer.wanted,
          against: peer.against,
          ...(faster !== undefined && { slowerThan: faster }),
        },
      ];
    }),
  );
}
