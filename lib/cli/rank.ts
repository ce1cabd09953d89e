import { type JsonlRow, rowError } from '../data/jsonl.js';
import { rowId } from '../data/rows.js';
import { summarizeConsistency } from '../run/summary.js';
import { consistencyOf, rank, type RankOptions } from '../stages/rank.js';
import type { RankedGroup, ScoredGroup, UndefinedConsistency } from '../types.js';
import type { Context } from './command.js';
import { numberList, readInput } from './input.js';
import { prepareOutputFile, writeRecords } from './output.js';

export interface RankValues extends RankOptions {
  input: string;
  output: string | undefined;
}

/** What ranking needs of a row, and the row. */
interface RewardedRow {
  id: string;
  rewards: number[];
  previousRewards: number[];
  fields: Readonly<Record<string, unknown>>;
}

/** `cream rank`: the stage on rows that need no more than two lists of rewards. */
export async function rankRows(values: RankValues, { terminal, signal, isQuiet }: Context): Promise<void> {
  await prepareOutputFile(values.output);
  const rows = await readInput(values.input, parseRewards, signal);
  const groups = rows.map(
    ({ id, rewards, previousRewards }): ScoredGroup => ({
      id,
      prompt: '',
      promptIds: [],
      // Ranking looks at rewards alone; there is one response per reward.
      responses: rewards.map(() => ({ ids: [], text: '', finishReason: 'stop' })),
      logprobs: [],
      numTokens: [],
      rewards,
      previousRewards,
    }),
  );
  const ranked = rank(groups, values);
  const records = ranked.map(({ tau, consistency, undefinedBecause }, i) => {
    const { undefinedBecause: _, ...fields } = rows[i]!.fields;
    return {
      ...fields,
      id: fields['id'] ?? rows[i]!.id,
      tau,
      consistency,
      ...(undefinedBecause !== undefined && { undefinedBecause }),
    };
  });
  await writeRecords(values.output, records, terminal);
  if (!isQuiet) for (const line of summarise(ranked, values)) terminal.note(line);
}

function parseRewards(row: JsonlRow): RewardedRow {
  const id = rowId(row);
  const rewards = numberList(row, 'rewards');
  const previousRewards = numberList(row, 'previousRewards');
  if (rewards === undefined || previousRewards === undefined) {
    const name = rewards === undefined ? 'rewards' : 'previousRewards';
    throw rowError(row, `${name} is missing; cream score adds it with --base and --previous`);
  }
  if (rewards.length !== previousRewards.length) {
    throw rowError(row, `there are ${rewards.length} rewards but ${previousRewards.length} previousRewards`);
  }
  const { responses } = row.value as { responses?: unknown };
  if (Array.isArray(responses) && responses.length !== rewards.length) {
    throw rowError(row, `there are ${responses.length} responses but ${rewards.length} rewards`);
  }
  return { id, rewards, previousRewards, fields: row.value };
}

/** Mean C with its interval beside what random rankings would give, and what has no C and why. */
function summarise(groups: readonly RankedGroup[], { metric, rule }: RankValues): string[] {
  const summary = summarizeConsistency(groups, {
    metric,
    toC: (tau) => consistencyOf(tau, rule),
    seed: 0,
    stream: 'rank',
  });
  const { mean, interval, tau, nullBand, undefinedGroups, belowHalf } = summary;
  if (mean === null || tau === null) {
    return [`no group has a consistency (${groups.length} groups)`, ...reasons(undefinedGroups)];
  }
  const range = interval === null ? '' : ` [${interval.map((bound) => bound.toFixed(3)).join(', ')}]`;
  const name = { kendall: 'tau', spearman: 'rho', topOrder: 'agreement' }[metric];
  return [
    `consistency C ${mean.toFixed(3)}${range}, mean ${name} ${tau.toFixed(3)}, over ${summary.groups} of ${groups.length} groups`,
    ...(nullBand === null
      ? []
      : [`random rankings: C ${nullBand.map((bound) => bound.toFixed(3)).join(' to ')} in one group`]),
    ...(belowHalf > 0 ? [`${belowHalf} groups have C below 1/2`] : []),
    ...reasons(undefinedGroups),
  ];
}

function reasons(undefinedGroups: Readonly<Partial<Record<UndefinedConsistency, number>>>): string[] {
  const counts = Object.entries(undefinedGroups).map(([reason, count]) => `${count} ${reason}`);
  return counts.length === 0 ? [] : [`without C: ${counts.join(', ')}`];
}
