import { type JsonlRow, rowError } from '../data/jsonl.js';
import { templateInputsOf } from '../data/messages.js';
import { finiteNumber, has, idsField } from '../data/rows.js';
import { CreamError } from '../errors.js';
import { tally } from '../run/summary.js';
import { pair, type PairOptions } from '../stages/pair.js';
import type { RankedGroup, Response, UndefinedConsistency } from '../types.js';
import type { Context } from './command.js';
import { numberList, parseResponses, readInput } from './input.js';
import { prepareOutputFile, writeRecords } from './output.js';

export interface PairValues extends PairOptions {
  input: string;
  output: string | undefined;
  baseResponses: string | undefined;
}

/** `cream pair`: from ranked rows to what `cream train` reads. */
export async function pairGroups(values: PairValues, { terminal, signal, isQuiet }: Context): Promise<void> {
  if (values.weight === 'constant' && values.constant === undefined) {
    throw new CreamError('USAGE', '--weight constant needs --constant');
  }
  if (values.weight !== 'constant' && values.constant !== undefined) {
    throw new CreamError('USAGE', `--constant has no effect with --weight ${values.weight}`);
  }
  if ((values.ties === 'margin') !== (values.margin !== undefined)) {
    throw new CreamError('USAGE', '--ties margin and --margin need each other');
  }
  if ((values.lengthBand ?? 0) > 0 && values.baseResponses !== undefined) {
    throw new CreamError('USAGE', '--length-band and --base-responses both choose the rejected response');
  }
  if ((values.lengthBand ?? 0) > 0 && values.ties === 'drop') {
    throw new CreamError('USAGE', '--ties drop has no effect with --length-band, which decides by length');
  }
  await prepareOutputFile(values.output);
  const groups = await readInput(values.input, parseRanked, signal);
  const base =
    values.baseResponses === undefined
      ? undefined
      : await readInput(values.baseResponses, (row) => parseScored(row, ['rewards', 'logprobs']), signal);
  const { pairs, dropped, meanConsistency, choices } = pair(groups, values, base);
  const reasons = Object.entries(tally(dropped.map(({ reason }) => reason)));
  const counts = reasons.map(([reason, count]) => `${count} ${reason}`).join(', ');
  if (pairs.length === 0) throw new CreamError('NO_PAIRS', `${groups.length} groups made no pair: ${counts}`);
  await writeRecords(values.output, pairs, terminal);
  if (isQuiet) return;
  terminal.note(`${pairs.length} pairs of ${groups.length} groups, mean C ${meanConsistency?.toFixed(3)}`);
  const { tiedBest, tiedWorst, rejectedFromBase, movedByLength } = choices;
  const decided = Object.entries({
    'tied best': tiedBest,
    'tied worst': tiedWorst,
    'rejected from the base model': rejectedFromBase,
    'moved by length': movedByLength,
  }).flatMap(([what, count]) => (count === 0 ? [] : [`${count} ${what}`]));
  if (decided.length > 0) terminal.note(`among the pairs: ${decided.join(', ')}`);
  if (counts !== '') terminal.note(`without a pair: ${counts}`);
}

/** A row with the responses' ids and its lists of numbers, of which `needed` must be there. */
function parseScored(row: JsonlRow, needed: readonly ('rewards' | 'previousRewards' | 'logprobs')[]) {
  const { id, prompt, promptIds, responses, ...fields } = parseResponses(row);
  if (promptIds === undefined) throw rowError(row, 'promptIds is missing; cream score adds it');
  const numbers = (
    name: 'rewards' | 'previousRewards' | 'logprobs' | 'baseLogprobs' | 'judgeRewards' | 'pairRewards',
  ) => {
    const list = numberList(row, name);
    if (list === undefined) {
      if (needed.some((one) => one === name)) throw rowError(row, `${name} is missing; cream score adds it`);
      return undefined;
    }
    if (list.length === responses.length) return list;
    throw rowError(row, `there are ${responses.length} responses but ${list.length} ${name}`);
  };
  const logprobs = numbers('logprobs') ?? [];
  const [rewards, previousRewards] = [numbers('rewards'), numbers('previousRewards')];
  const [baseLogprobs, judgeRewards, pairRewards] = [
    numbers('baseLogprobs'),
    numbers('judgeRewards'),
    numbers('pairRewards'),
  ];
  const responseIds = has(row, 'responseIds') ? (row.value['responseIds'] as unknown[]) : [];
  const tokenised = responses.map(({ ids, text }, i): Response => {
    const known = ids ?? idsOrNone(row, responseIds[i]);
    if (known === undefined) throw rowError(row, `responses[${i}] has no ids; cream score adds responseIds`);
    return { ids: known, text: text ?? '', finishReason: 'stop' };
  });
  return {
    id,
    prompt: prompt ?? '',
    promptIds,
    ...templateInputsOf(fields),
    responses: tokenised,
    logprobs,
    numTokens: tokenised.map(({ ids }) => ids.length),
    ...(rewards !== undefined && { rewards }),
    ...(previousRewards !== undefined && { previousRewards }),
    ...(pairRewards !== undefined && { pairRewards }),
    ...(baseLogprobs !== undefined && { baseLogprobs }),
    ...(judgeRewards !== undefined && { judgeRewards }),
  };
}

function parseRanked(row: JsonlRow): RankedGroup {
  // Responses that a reward model or a module of one's own ranks need no ranks of two policies.
  const isOwn = has(row, 'pairRewards');
  const scored = parseScored(row, isOwn ? ['logprobs'] : ['rewards', 'previousRewards', 'logprobs']);
  const reason = row.value['undefinedBecause'] ?? (isOwn ? 'not-measured' : undefined);
  if (!has(row, 'consistency') && typeof reason !== 'string') {
    throw rowError(row, 'consistency is missing; cream rank adds it');
  }
  const consistency = has(row, 'consistency') ? finiteNumber(row, 'consistency') : null;
  if (consistency !== null && (consistency < 0 || consistency > 1)) {
    throw rowError(row, `consistency must be in [0, 1], got ${consistency}`);
  }
  return {
    ...scored,
    tau: has(row, 'tau') ? finiteNumber(row, 'tau') : null,
    consistency,
    ...(consistency === null && { undefinedBecause: reason as UndefinedConsistency }),
  };
}

function idsOrNone(row: JsonlRow, ids: unknown): number[] | undefined {
  return ids === undefined ? undefined : idsField({ ...row, value: { ids } }, 'ids');
}
