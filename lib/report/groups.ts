import { sha256 } from '../run/storage.js';
import { histogram, lengthEdges, tauEdges } from './histogram.js';
import { eachRecord, type Fields, finite, isFields, listOf, textOf } from './lines.js';
import type { Histogram, PairLengths, SampleGroup, SampleResponse } from './types.js';

// What the record files of one iteration say: distributions over all groups, and some groups whole.

/** Texts in the page are cut here; the record files have all of it. */
const MAX_TEXT = 4000;

export interface GroupFiles {
  samples?: string;
  ranks?: string;
  correct?: string;
  pairs?: string;
  dropped?: string;
}

export interface GroupDigest {
  totalGroups: number;
  groups: SampleGroup[];
  tau?: Histogram;
  responsesPerGroup?: number;
  duplicates?: number;
  tiedGroups?: number;
  lengths?: PairLengths;
  faulty: number;
}

const cut = (text: string) =>
  text.length <= MAX_TEXT ? text : `${text.slice(0, MAX_TEXT)} … (${text.length - MAX_TEXT} more characters)`;

function promptOf(prompt: unknown): SampleGroup['prompt'] {
  if (typeof prompt === 'string') return [{ text: cut(prompt) }];
  if (Array.isArray(prompt) && typeof prompt[0] === 'number') return [{ text: cut(prompt.join(' ')) }];
  return listOf(prompt).map((turn) =>
    isFields(turn)
      ? { role: textOf(turn['role']), text: cut(textOf(turn['content'])) }
      : { text: cut(String(turn)) },
  );
}

const idsOf = (response: unknown) => (isFields(response) ? listOf(response['ids']).join(' ') : '');

function responsesOf(record: Fields, correct: readonly unknown[]): SampleResponse[] {
  const at = (list: unknown, place: number) => finite(listOf(list)[place]) ?? null;
  return listOf(record['responses']).map((response, place) => {
    const { text, ids, finishReason } = isFields(response) ? response : {};
    const isRight = correct[place];
    return {
      text: cut(textOf(text)),
      tokens: listOf(ids).length,
      truncated: finishReason === 'length',
      reward: at(record['pairRewards'] ?? record['rewards'], place),
      previousReward: at(record['previousRewards'], place),
      ...(typeof isRight === 'boolean' ? { correct: isRight } : {}),
    };
  });
}

/**
 * The `count` groups with the lowest digest of their id: an even choice that is the same whenever it is made and does
 * not depend on the order of the file.
 */
class Choice {
  readonly #count: number;
  #kept: { digest: string; place: number; record: Fields }[] = [];
  #limit = '~';

  constructor(count: number) {
    this.#count = count;
  }

  offer(record: Fields, place: number): void {
    if (this.#count === 0) return;
    const digest = sha256(textOf(record['id']));
    if (this.#kept.length >= this.#count && digest >= this.#limit) return;
    this.#kept.push({ digest, place, record });
    // Sorted now and then: a sort for every group would cost more than the groups.
    if (this.#kept.length >= 2 * this.#count) this.#shrink();
  }

  #shrink(): void {
    this.#kept = this.#kept.toSorted((a, b) => (a.digest < b.digest ? -1 : 1)).slice(0, this.#count);
    this.#limit = this.#kept.at(-1)?.digest ?? '~';
  }

  /** In the order of the file. */
  records(): Fields[] {
    this.#shrink();
    return this.#kept.toSorted((a, b) => a.place - b.place).map(({ record }) => record);
  }
}

/** Reads the files of an iteration that are there. `shown` groups are taken whole. */
export async function readGroups(
  files: GroupFiles,
  { shown, metric }: { shown: number; metric: string },
): Promise<GroupDigest> {
  const correct = new Map<string, readonly unknown[]>();
  let faulty = 0;
  if (files.correct !== undefined) {
    faulty += await eachRecord(files.correct, (record) =>
      correct.set(textOf(record['id']), listOf(record['correct'])),
    );
  }
  const source = files.ranks ?? files.samples;
  if (source === undefined) return { totalGroups: 0, groups: [], faulty };

  const choice = new Choice(shown);
  const taus: number[] = [];
  const sizes = new Set<number>();
  let total = 0;
  let responses = 0;
  let duplicates = 0;
  let tied = 0;
  faulty += await eachRecord(source, (record) => {
    choice.offer(record, total);
    total += 1;
    const tau = finite(record['tau']);
    if (tau !== undefined) taus.push(tau);
    const ids = listOf(record['responses']).map(idsOf);
    sizes.add(ids.length);
    responses += ids.length;
    const distinct = new Set(ids).size;
    duplicates += ids.length - distinct;
    const rewards = listOf(record['rewards']);
    // Equal responses have equal rewards; a tie is one between different responses.
    if (rewards.length > 0 && new Set(rewards).size < distinct) tied += 1;
  });
  const groups = choice.records().map((record): SampleGroup => {
    const id = textOf(record['id']);
    return {
      id,
      prompt: promptOf(record['prompt']),
      ...(typeof record['label'] === 'string' ? { label: cut(record['label']) } : {}),
      tau: finite(record['tau']) ?? null,
      consistency: finite(record['consistency']) ?? null,
      responses: responsesOf(record, correct.get(id) ?? []),
    };
  });
  const size = sizes.size === 1 ? [...sizes][0]! : undefined;
  const isRanked = files.ranks !== undefined;
  const paired = await readPairs(files, groups, choice.records());
  return {
    totalGroups: total,
    groups,
    ...(isRanked && taus.length > 0 ? { tau: histogram(taus, tauEdges(metric, size ?? 100)) } : {}),
    ...(size === undefined ? {} : { responsesPerGroup: size }),
    ...(responses === 0 ? {} : { duplicates: duplicates / responses }),
    ...(isRanked && total > 0 ? { tiedGroups: tied / total } : {}),
    ...(paired.lengths === undefined ? {} : { lengths: paired.lengths }),
    faulty: faulty + paired.faulty,
  };
}

/** Marks chosen and rejected responses in `groups` and tells the lengths of all pairs. */
async function readPairs(
  files: GroupFiles,
  groups: readonly SampleGroup[],
  records: readonly Fields[],
): Promise<{ lengths?: PairLengths; faulty: number }> {
  const byId = new Map(groups.map((group, place) => [group.id, { group, record: records[place]! }]));
  const chosen: number[] = [];
  const rejected: number[] = [];
  let longer = 0;
  let faulty = 0;
  if (files.pairs !== undefined) {
    faulty += await eachRecord(files.pairs, (pair) => {
      const chosenIds = listOf(pair['chosenIds']);
      const rejectedIds = listOf(pair['rejectedIds']);
      chosen.push(chosenIds.length);
      rejected.push(rejectedIds.length);
      if (chosenIds.length > rejectedIds.length) longer += 1;
      const found = byId.get(textOf(pair['id']));
      if (found === undefined) return;
      const weight = finite(pair['weight']);
      if (weight !== undefined) found.group.weight = weight;
      const ids = listOf(found.record['responses']).map(idsOf);
      const mark = (role: 'chosen' | 'rejected', wanted: string) => {
        const response = found.group.responses[ids.indexOf(wanted)];
        if (response !== undefined) response.role = role;
      };
      mark('chosen', chosenIds.join(' '));
      if (pair['rejectedFrom'] !== 'base') mark('rejected', rejectedIds.join(' '));
      else {
        found.group.rejectedOfBase = {
          text: cut(textOf(pair['rejected'])),
          tokens: rejectedIds.length,
          truncated: false,
          reward: finite(pair['rejectedReward']) ?? null,
          previousReward: null,
          role: 'rejected',
        };
      }
    });
  }
  if (files.dropped !== undefined) {
    faulty += await eachRecord(files.dropped, (record) => {
      const found = byId.get(textOf(record['id']));
      if (found !== undefined) found.group.dropped = textOf(record['reason']);
    });
  }
  if (chosen.length === 0) return { faulty };
  const edges = lengthEdges([...chosen, ...rejected]);
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  return {
    lengths: {
      edges,
      chosen: histogram(chosen, edges).counts,
      rejected: histogram(rejected, edges).counts,
      meanChosen: mean(chosen),
      meanRejected: mean(rejected),
      chosenLonger: longer / chosen.length,
    },
    faulty,
  };
}
