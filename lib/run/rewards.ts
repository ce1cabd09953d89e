import { readFile } from 'node:fs/promises';
import type { CreamConfig } from '../config.js';
import { readCheckpoint } from '../data/checkpoint.js';
import { checkJudgeTemplate } from '../data/judge-prompt.js';
import { isSameTokenizer } from '../data/same-tokenizer.js';
import { loadRewardTokenizer } from '../data/tokenizer.js';
import { RewardModel } from '../native/reward-model.js';
import { scoringNeeds } from '../scoring-needs.js';
import { judgeStream, type JudgedGroup } from '../stages/judge.js';
import { modelRewards } from '../stages/reward-model.js';
import { withPairRewards } from '../stages/reward.js';
import type { ScoredGroup } from '../types.js';
import { advancing, allOf } from './chunks.js';
import { loadRewardModule } from './reward-module.js';
import type { StageInfo } from './run.js';
import { ioError } from './storage.js';
import type { World } from './world.js';

// The rewards of a run that are not made of the policies' log-probs: a judge's, a verifier's, a reward model's, a
// module's. Judgements and a reward model's numbers are kept chunk by chunk.

/** What can be known of the reward before anything is computed. Throws INVALID_CHECKPOINT, INVALID_DATA. */
export async function checkRewardSettings(config: CreamConfig): Promise<void> {
  const { model } = config.reward;
  if (config.iterations === 0) return;
  if (model !== undefined) {
    await readCheckpoint(model, 'reward');
    await loadRewardTokenizer(model, config.chatTemplate);
  }
  await judgeTemplate(config);
}

async function judgeTemplate({ reward }: CreamConfig): Promise<string | undefined> {
  const { template } = reward.judge;
  if (template === undefined) return undefined;
  try {
    return checkJudgeTemplate(await readFile(template, 'utf8'), template);
  } catch (cause) {
    throw ioError('read', template, cause);
  }
}

/** What a stage's record says of rewards that were asked for. */
export interface RewardCounts {
  judge?: {
    /** Of distinct responses. */
    judgements: number;
    /** That ended with no score. */
    unparsable: number;
    /** Responses that leave no room for a judgement. */
    tooLong: number;
    /** Responses without points, for either reason. */
    unjudged: number;
    /** Mean points of those that have some; null when none has. */
    mean: number | null;
  };
  rewardModel?: {
    /** Whether prompts and responses were encoded anew, by the reward model's tokenizer. */
    reencoded: boolean;
    /** Distinct responses that do not fit its context. */
    tooLong: number;
    mean: number | null;
  };
}

const meanOfFinite = (values: readonly number[]) => {
  const finite = values.filter(Number.isFinite);
  return finite.length === 0 ? null : finite.reduce((sum, value) => sum + value, 0) / finite.length;
};

/** `pairRewards` and `judgeRewards` of the groups that M_t, or M_0, has sampled, as the settings ask. */
export async function rewardGroups(
  world: World,
  info: StageInfo,
  scored: readonly ScoredGroup[],
  t: number,
): Promise<{ groups: ScoredGroup[]; counts: RewardCounts; metrics: Record<string, number> }> {
  const { run, correctness, fineTuned } = world;
  const { config } = run;
  const { reward, beta } = config;
  const counts: RewardCounts = {};
  let groups = [...scored];
  let given = new Map<string, readonly number[]>();
  if (scoringNeeds(config).judge) {
    const judged = await judgeGroups(world, info, groups, t);
    counts.judge = judgeCounts(judged);
    given = new Map(judged.map(({ id, rewards }) => [id, rewards]));
    groups = groups.map((group) => ({ ...group, judgeRewards: [...given.get(group.id)!] }));
    warnUnreadable(world, info, counts.judge);
  }
  if (reward.source === 'model') {
    const { rewards, ...count } = await askRewardModel(world, info, groups);
    counts.rewardModel = count;
    given = rewards;
  }
  const rewarded = await withPairRewards(groups, {
    source: reward.source,
    hasPreviousReward: t > 2 || (t === 2 && fineTuned),
    beta,
    lengthNormalize: config.score.lengthNormalize,
    given,
    correct: reward.source === 'verifier' ? await correctness(t, groups) : new Map(),
    ...(reward.module === undefined ? {} : { reward: await loadRewardModule(reward.module) }),
  });
  return { groups: rewarded, counts, metrics: metricsOf(counts) };
}

function metricsOf({ judge: judged, rewardModel }: RewardCounts): Record<string, number> {
  return {
    ...(judged && judged.judgements > 0 && { 'judge/unparsable': judged.unparsable / judged.judgements }),
    ...(judged && judged.mean !== null && { 'judge/points': judged.mean }),
    ...(rewardModel && rewardModel.mean !== null && { 'reward_model/mean': rewardModel.mean }),
  };
}

async function judgeGroups(
  { run, models, tokenizer, maxLength }: World,
  info: StageInfo,
  groups: readonly ScoredGroup[],
  t: number,
): Promise<JudgedGroup[]> {
  const { config, signal } = run;
  const { samples, minReadable, maxNewTokens, temperature, topP } = config.reward.judge;
  const template = await judgeTemplate(config);
  const rate = run.rate(info, groups.length, 'prompts');
  const policy = await models.policy(t);
  const work = (missing: readonly ScoredGroup[]) =>
    advancing(
      judgeStream(missing, policy, tokenizer, {
        judgements: samples,
        minReadable,
        maxNewTokens,
        temperature,
        topP,
        maxLength,
        chat: config.data.chat,
        seed: config.seed,
        stream: `iteration-${t}/${info.model === `M${t}` ? '' : 'base-'}judge`,
        ...(template === undefined ? {} : { template }),
        signal,
      }),
      () => rate.advance(1),
    );
  const { results } = await run.stream(info, groups, work, {
    part: 'judge',
    chunkSize: config.sampling.chunkSize,
    onFound: rate.found,
  });
  return allOf(results());
}

function judgeCounts(judged: readonly JudgedGroup[]): NonNullable<RewardCounts['judge']> {
  const sum = (of: (group: JudgedGroup) => number) => judged.reduce((total, group) => total + of(group), 0);
  const points = judged.flatMap(({ rewards }) => rewards);
  return {
    judgements: sum(({ asked }) => asked),
    unparsable: sum(({ unparsable }) => unparsable),
    tooLong: sum(({ tooLong }) => tooLong),
    unjudged: points.filter((value) => !Number.isFinite(value)).length,
    mean: meanOfFinite(points),
  };
}

function warnUnreadable(
  { run }: World,
  info: StageInfo,
  { judgements, unparsable, tooLong }: NonNullable<RewardCounts['judge']>,
): void {
  if (unparsable * 2 > judgements) {
    run.warn(
      'judge-unreadable',
      `iteration ${info.iteration}: ${unparsable} of ${judgements} judgements do not end with a score; a model that ` +
        'was not taught to judge seldom does. More room (reward.judge.maxNewTokens) or judging examples in data.sft help',
      info,
    );
  }
  if (tooLong > 0) {
    run.warn(
      'judge-too-long',
      `iteration ${info.iteration}: ${tooLong} responses leave no room for a judgement within maxLength; raise it or ` +
        'lower sampling.maxNewTokens or reward.judge.maxNewTokens',
      info,
    );
  }
}

async function askRewardModel(
  { run, tokenizer: own }: World,
  info: StageInfo,
  groups: readonly ScoredGroup[],
): Promise<{ rewards: Map<string, readonly number[]> } & NonNullable<RewardCounts['rewardModel']>> {
  const { config, record, signal } = run;
  const directory = config.reward.model!;
  const isSame = await isSameTokenizer(config.model, directory);
  const tokenizer = isSame
    ? own
    : await loadRewardTokenizer(directory, config.chatTemplate, { now: new Date(record.created) });
  const lacksTemplate = !tokenizer.hasChatTemplate && config.data.chat === true;
  if (lacksTemplate) {
    run.warn('reward-model-chat', `${directory} has no chat template; prompts are given to it as text`, info);
  }
  const { device, dtype } = config;
  await using model = await RewardModel.load(directory, { device, dtype, threads: record.threads, signal });
  const rate = run.rate(info, groups.length, 'prompts');
  const scored = await run.chunks(
    info,
    groups,
    (chunk) =>
      modelRewards(chunk, model, {
        tokenizer,
        keepsIds: isSame,
        readAt: config.reward.readAt,
        chat: lacksTemplate ? false : config.data.chat,
        maxTokensPerBatch: config.score.maxTokensPerBatch,
        signal,
      }),
    { part: 'reward-model', chunkSize: config.sampling.chunkSize, onChunk: rate.reached },
  );
  const tooLong = scored.reduce((sum, group) => sum + group.tooLong, 0);
  if (tooLong > 0) {
    run.warn(
      'reward-model-too-long',
      `iteration ${info.iteration}: ${tooLong} responses do not fit into the reward model's context of ` +
        `${model.config.maxPositionEmbeddings} tokens; their groups make no pair`,
      info,
    );
  }
  return {
    rewards: new Map(scored.map(({ id, rewards }) => [id, rewards])),
    reencoded: !isSame,
    tooLong,
    mean: meanOfFinite(scored.flatMap(({ rewards }) => rewards)),
  };
}
