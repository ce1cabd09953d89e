import { isSameTokenizer } from '../data/same-tokenizer.js';
import type { EncodingOptions } from '../data/exchange-encoder.js';
import { loadRewardTokenizer, type Tokenizer } from '../data/tokenizer.js';
import { CreamError } from '../errors.js';
import { RewardModel } from '../native/reward-model.js';
import { modelRewards, type ReadAt, type RewardModelOptions } from '../stages/reward-model.js';
import type { Group } from '../types.js';
import type { Context } from './command.js';
import { defaultConfig } from './defaults.js';
import type { ResponsesRow } from './input.js';
import type { ModelValues } from './models.js';
import type { Progress } from './progress.js';
import { encoding, type TextValues } from './texts.js';

/** Groups between two reports of progress. */
const CHUNK = 32;

type ChunkOptions = Omit<RewardModelOptions, 'maxTokensPerBatch'> & { maxTokensPerBatch: number | undefined };

interface RewardValues extends ModelValues, TextValues {
  model: string;
  rewardModel: string | undefined;
  readAt: ReadAt;
  input: string;
  appendStop: boolean;
  maxTokensPerBatch: number | undefined;
}

/** `--reward-model`: one list per row, or undefined without the option. */
export async function scoreByRewardModel(
  rows: readonly ResponsesRow[],
  groups: readonly Group[],
  own: Tokenizer,
  {
    model: policy,
    rewardModel,
    appendStop,
    device,
    dtype,
    threads,
    maxTokensPerBatch,
    ...values
  }: RewardValues,
  context: Context,
  progress: Progress,
): Promise<number[][] | undefined> {
  if (rewardModel === undefined) return undefined;
  const { signal } = context;
  const isSame = await isSameTokenizer(policy, rewardModel);
  const asked = isSame ? groups : groups.map((group, i) => withText(group, rows[i]!, own, appendStop));
  const tokenizer = isSame ? own : await loadRewardTokenizer(rewardModel, values.chatTemplate);
  await using model = await RewardModel.load(rewardModel, {
    device: device ?? 'auto',
    dtype,
    ...(threads === undefined ? {} : { threads }),
    signal,
  });
  const { readAt } = values;
  const reading = { tokenizer, keepsIds: isSame, readAt, maxTokensPerBatch };
  const read = (options: EncodingOptions) =>
    rewardsInChunks(asked, model, { ...reading, chat: values.chat, ...options }, progress);
  // Of a tokenizer that is the policy's the surprises were told.
  return isSame
    ? await read({ chat: values.chat, signal })
    : await encoding(values.input, values, context, read);
}

/** A reward model's rewards of all groups, with progress. */
export async function rewardsInChunks(
  groups: readonly Group[],
  model: RewardModel,
  { maxTokensPerBatch = defaultConfig().score.maxTokensPerBatch, ...options }: ChunkOptions,
  progress: Progress,
): Promise<number[][]> {
  const rewards: number[][] = [];
  let tooLong = 0;
  for (let start = 0; start < groups.length; start += CHUNK) {
    const chunk = groups.slice(start, start + CHUNK);
    const scored = await modelRewards(chunk, model, { ...options, maxTokensPerBatch });
    rewards.push(...scored.map((group) => group.rewards));
    tooLong += scored.reduce((sum, group) => sum + group.tooLong, 0);
    const [done, total] = [rewards.length, groups.length];
    progress.event({ type: 'progress', stage: 'score', iteration: 0, done, total, unit: 'groups' });
  }
  if (tooLong > 0) {
    const limit = model.config.maxPositionEmbeddings;
    const message = `${tooLong} responses with their prompts are longer than the reward model's context of ${limit} tokens and have no reward (null)`;
    progress.event({ type: 'warning', code: 'too-long', message });
  }
  return rewards;
}

/** A row as text, for a tokenizer that is not the policy's. */
function withText(group: Group, row: ResponsesRow, own: Tokenizer, appendStop: boolean): Group {
  if (row.prompt === undefined) {
    throw new CreamError(
      'INVALID_DATA',
      `prompt ${group.id} has promptIds only, and the reward model has another tokenizer; give its text or messages`,
    );
  }
  const responses = group.responses.map((response, i) => {
    const isText = row.responses[i]!.ids === undefined;
    const isWhole = isText ? appendStop : own.eosIds.includes(response.ids.at(-1) ?? -1);
    const text = row.responses[i]!.text ?? own.decode(response.ids, { skipSpecialTokens: true });
    return { ...response, text, finishReason: isWhole ? ('stop' as const) : ('length' as const) };
  });
  return { ...group, responses };
}
