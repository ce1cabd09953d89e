import type { ChatMode, EncodingOptions, WholeConversation, WholeInput } from '../data/exchange-encoder.js';
import { templateInputsOf } from '../data/messages.js';
import type { TextNotices } from '../data/text-notices.js';
import { commonPrefixLength } from '../data/turns.js';
import type { Group } from '../types.js';

/** What scoring by a reward model needs of it. */
export interface RewardScorer {
  readonly config: { maxPositionEmbeddings: number };
  rewards(
    groups: { promptIds: readonly number[]; responses: (readonly number[])[] }[],
    options?: { maxTokensPerBatch?: number; signal?: AbortSignal },
  ): Promise<number[][]>;
}

/** The reward model's tokenizer: `Tokenizer` of lib/data/tokenizer.ts has it. */
export interface RewardTokenizer {
  conversations(
    inputs: readonly WholeInput[],
    options: EncodingOptions,
  ): Promise<Pick<WholeConversation, 'ids' | 'end'>[]>;
}

/**
 * The token at which the logit is read. conversation-end: the last that the chat template writes of the whole
 * conversation, which may be a newline behind the end of the turn, as in TRL's RewardTrainer. turn-end: the token that
 * ends the turn.
 */
export type ReadAt = 'conversation-end' | 'turn-end';

export interface RewardModelOptions {
  tokenizer: RewardTokenizer;
  /** The groups' ids are of the same tokenizer and chat template: sampled ids are what is scored. */
  keepsIds: boolean;
  readAt: ReadAt;
  chat: ChatMode;
  maxTokensPerBatch: number;
  signal?: AbortSignal | undefined;
  notices?: TextNotices;
}

/** Index i belongs to responses[i]. */
export interface ModelRewards {
  id: string;
  /** NaN: prompt and response are longer than the reward model's context. */
  rewards: number[];
  /** Distinct responses that are. */
  tooLong: number;
}

/**
 * The reward that a model of its own gives every response to its prompt. Equal responses are scored once, so that they
 * tie. Where the tokenizer is another one, prompt and response are encoded anew, in the reward model's chat template; a
 * response that was cut by the length limit gets no end of turn.
 */
export async function modelRewards(
  groups: readonly Group[],
  model: RewardScorer,
  options: RewardModelOptions,
): Promise<ModelRewards[]> {
  const { maxTokensPerBatch, signal } = options;
  const distinct = groups.map(({ responses }) => {
    const places = new Map<string, number>();
    const firsts: number[] = [];
    const indices = responses.map(({ ids, text, messages }, i) => {
      const key = ids.length > 0 ? ids.join() : JSON.stringify(messages ?? text);
      const place = places.get(key) ?? firsts.push(i) - 1;
      places.set(key, place);
      return place;
    });
    return { indices, firsts };
  });
  const encoded = await encode(
    groups,
    distinct.map(({ firsts }) => firsts),
    options,
  );
  const limit = model.config.maxPositionEmbeddings;
  const fits = encoded.map(({ promptIds, responses }) =>
    responses.map((ids) => promptIds.length + ids.length <= limit),
  );
  const asked = encoded
    .map(({ promptIds, responses }, g) => ({ promptIds, responses: responses.filter((_, i) => fits[g]![i]) }))
    .map((request, g) => ({ request, g }))
    .filter(({ request }) => request.responses.length > 0);
  const scored = await model.rewards(
    asked.map(({ request }) => request),
    { maxTokensPerBatch, ...(signal === undefined ? {} : { signal }) },
  );
  const byGroup = new Map(asked.map(({ g }, i) => [g, scored[i]!]));

  return groups.map(({ id }, g) => {
    const found = [...(byGroup.get(g) ?? [])];
    const own = fits[g]!.map((fitting) => (fitting ? found.shift()! : Number.NaN));
    return {
      id,
      rewards: distinct[g]!.indices.map((place) => own[place]!),
      tooLong: fits[g]!.filter((fitting) => !fitting).length,
    };
  });
}

/** What the reward model reads of the responses at the given places, behind what all of a group begin with. */
async function encode(
  groups: readonly Group[],
  places: readonly (readonly number[])[],
  { tokenizer, keepsIds, readAt, chat, signal, notices }: RewardModelOptions,
): Promise<{ promptIds: number[]; responses: number[][] }[]> {
  const asked = groups.flatMap(({ id, prompt, responses, ...group }, g) =>
    places[g]!.map((i) => {
      const { ids, text, messages, finishReason } = responses[i]!;
      const isKept = keepsIds && ids.length > 0;
      const isCut = finishReason === 'length';
      const input = { id, prompt, response: messages ?? text, isCut, ...templateInputsOf(group) };
      // Of ids that are kept only what stands behind a finished turn is asked for.
      return { g, ids, isKept, input, isAsked: !isKept || (readAt === 'conversation-end' && !isCut) };
    }),
  );
  const wholes = await tokenizer.conversations(
    asked.filter(({ isAsked }) => isAsked).map(({ input }) => input),
    { chat, ...(signal === undefined ? {} : { signal }), ...(notices === undefined ? {} : { notices }) },
  );
  const rest = wholes.values();
  const read = groups.map(() => [] as number[][]);
  for (const { g, ids, isKept, isAsked } of asked) {
    const whole = isAsked ? rest.next().value! : { ids: [], end: 0 };
    if (isKept) {
      const behind = whole.ids[whole.end - 1] === ids.at(-1) ? whole.ids.slice(whole.end) : [];
      read[g]!.push([...groups[g]!.promptIds, ...ids, ...behind]);
    } else {
      read[g]!.push(readAt === 'turn-end' ? whole.ids.slice(0, whole.end) : [...whole.ids]);
    }
  }
  return read.map((sequences) => {
    // The pass shares what all begin with; each needs a token of its own, whose logit is read.
    const shortest = Math.min(...sequences.map(({ length }) => length));
    const first = sequences[0] ?? [];
    const shared = sequences.reduce(
      (least, one) => Math.min(least, commonPrefixLength(first, one)),
      shortest - 1,
    );
    return { promptIds: first.slice(0, shared), responses: sequences.map((ids) => ids.slice(shared)) };
  });
}
