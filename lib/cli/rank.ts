import { type JsonlRow, rowError } from '../data/jsonl.js';
import { rowId } from '../data/rows.js';
import { summarizeConsistency, summarizeHistory } from '../run/summary.js';
import { consistencyOf, rank, type RankOptions } from '../stages/rank.js';
import type { EarlierRewards, RankedGroup, ScoredGroup, UndefinedConsistency } from '../types.js';
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
  history: EarlierRewards[];
  fields: Readonly<Record<string, unknown>>;
}

/** `cream rank`: the stage on rows that need no more than two lists of rewards. */
export async function rankRows(values: RankValues, { terminal, signal, isQuiet }: Context): Promise<void> {
  await prepareOutputFile(values.output);
  const rows = await readInput(values.input, parseRewards, signal);
  const groups = rows.map(
    ({ id, rewards, previousRewards, history }): ScoredGroup => ({
      id,
      prompt: '',
      promptIds: [],
      // Ranking looks at rewards alone; there is one response per reward.
      responses: rewards.map(() => ({ ids: [], text: '', finishReason: 'stop' })),
      logprobs: [],
      numTokens: [],
      rewards,
      previousRewards,
      history,
    }),
  );
  const ranked = rank(groups, values);
  const records = ranked.map(({ tau, consistency, undefinedBecause, historyTau }, i) => {
    const { undefinedBecause: _, ...fields } = rows[i]!.fields;
    return {
      ...fields,
      id: fields['id'] ?? rows[i]!.id,
      tau,
      consistency,
      ...(historyTau !== undefined && { historyTau }),
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
  return { id, rewards, previousRewards, history: parseHistory(row, rewards.length), fields: row.value };
}

/** `history` of a run's scores: what earlier policies gave the same responses. */
function parseHistory(row: JsonlRow, numResponses: number): EarlierRewards[] {
  const { history } = row.value as { history?: unknown };
  if (history === undefined) return [];
  if (!Array.isArray(history)) throw rowError(row, 'history must be a list of {model, rewards}');
  return history.map((earlier: unknown, i) => {
    const inner = { ...row, value: Object(earlier) as Record<string, unknown> };
    const rewards = numberList(inner, 'rewards');
    const { model } = inner.value;
    if (!Number.isSafeInteger(model) || rewards?.length !== numResponses) {
      throw rowError(
        row,
        `history[${i}] must be {model, rewards}, a whole number and ${numResponses} numbers`,
      );
    }
    return { model: model as number, logprobs: [], rewards };
  });
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
    ...summarizeHistory(groups).map(({ model, tau: earlier, groups: count }) =>
      earlier === null
        ? `${model}: no group has a ${name}`
        : `${model}: mean ${name} ${earlier.toFixed(3)} over ${count} groups`,
    ),
    ...(belowHalf > 0 ? [`${belowHalf} groups have C below 1/2`] : []),
    ...reasons(undefinedGroups),
  ];
}

function reasons(undefinedGroups: Readonly<Partial<Record<UndefinedConsistency, number>>>): string[] {
  const counts = Object.entries(undefinedGroups).map(([reason, count]) => `${count} ${reason}`);
  return counts.length === 0 ? [] : [`without C: ${counts.join(', ')}`];
}
