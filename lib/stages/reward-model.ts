import type { ChatMode } from '../data/tokenizer.js';
import type { Group, PromptInput } from '../types.js';

/** What scoring by a reward model needs of it. */
export interface RewardScorer {
  readonly config: { maxPositionEmbeddings: number };
  rewards(
    groups: { promptIds: readonly number[]; responses: (readonly number[])[] }[],
    options?: { maxTokensPerBatch?: number; signal?: AbortSignal },
  ): Promise<number[][]>;
}

/** The reward model's own tokenizer, where it is not the policy's. */
export interface RewardTokenizer {
  promptIdsAll(
    prompts: readonly { id: string; prompt: PromptInput }[],
    options: { chat?: ChatMode; signal?: AbortSignal },
  ): Promise<number[][]>;
  responseIdsAll(
    responses: readonly { id: string; text: string; prompt: PromptInput }[],
    options: { chat?: ChatMode; stop?: boolean; signal?: AbortSignal },
  ): Promise<number[][]>;
}

export interface RewardModelOptions {
  /** Left out where both tokenizers are the same: then the sampled ids are what is scored. */
  tokenizer?: RewardTokenizer;
  chat: ChatMode;
  maxTokensPerBatch: number;
  signal?: AbortSignal | undefined;
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
 * tie. With a tokenizer, prompt and response are encoded anew, in the reward model's chat template; a response that was
 * cut by the length limit gets no end of turn.
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
    const indices = responses.map(({ ids }, i) => {
      const key = ids.join();
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

/** Ids of the prompts and of the responses at the given places, as the reward model reads them. */
async function encode(
  groups: readonly Group[],
  places: readonly (readonly number[])[],
  { tokenizer, chat, signal }: RewardModelOptions,
): Promise<{ promptIds: number[]; responses: number[][] }[]> {
  if (tokenizer === undefined) {
    return groups.map(({ promptIds, responses }, g) => ({
      promptIds,
      responses: places[g]!.map((i) => responses[i]!.ids),
    }));
  }
  const encoding = { chat, ...(signal === undefined ? {} : { signal }) };
  const prompts = await tokenizer.promptIdsAll(groups, encoding);
  const texts = groups.flatMap(({ id, prompt, responses }, g) =>
    places[g]!.map((i) => ({ g, id, prompt, text: responses[i]!.text, isCut: isCut(responses[i]!) })),
  );
  const result = prompts.map((promptIds) => ({ promptIds, responses: [] as number[][] }));
  const [whole, cut] = await Promise.all([
    tokenizer.responseIdsAll(
      texts.filter((text) => !text.isCut),
      { ...encoding, stop: true },
    ),
    tokenizer.responseIdsAll(
      texts.filter((text) => text.isCut),
      { ...encoding, stop: false },
    ),
  ]);
  for (const { g, isCut: open } of texts) result[g]!.responses.push((open ? cut : whole).shift()!);
  return result;
}

const isCut = ({ finishReason }: Group['responses'][number]) => finishReason === 'length';
