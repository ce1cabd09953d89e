import { realpath } from 'node:fs/promises';
import { basename, extname, resolve } from 'node:path';
import { readCheckpoint } from '../data/checkpoint.js';
import { loadLabelledGroups, type LabelledRow } from '../data/labelled-groups.js';
import { CreamError } from '../errors.js';
import { RewardModel } from '../native/reward-model.js';
import { loadRewardModule } from '../run/reward-module.js';
import { rewardCorrelation } from '../run/summary.js';
import {
  encodeLabelled,
  labelledGroup,
  type LabelledGroup,
  type RankingReport,
  type RankingReward,
  rankingReport,
  rankingRewards,
  type RankingScore,
} from '../stages/ranking-accuracy.js';
import { withPairRewards } from '../stages/reward.js';
import type { ReadAt } from '../stages/reward-model.js';
import { score } from '../stages/score.js';
import type { GroupLogprobs } from '../types.js';
import type { Context } from './command.js';
import { defaultConfig } from './defaults.js';
import { formatTable } from './format.js';
import { inputSource } from './input.js';
import { loadModel, type ModelValues } from './models.js';
import { prepareOutputFile, writeRecords } from './output.js';
import { Progress } from './progress.js';
import { rewardsInChunks } from './reward-model.js';
import { encoding, loadTokenizer, type TextValues } from './texts.js';

export interface RankingValues extends ModelValues, TextValues {
  input: string;
  model: string | undefined;
  reference: string | undefined;
  previous: string | undefined;
  reward: RankingReward | 'module' | 'reward-model';
  module: string | undefined;
  readAt: ReadAt;
  lengthNormalize: boolean;
  extract: 'auto' | 'choice' | 'number' | 'exact';
  limit: number | undefined;
  maxTokensPerBatch: number | undefined;
  name: string | undefined;
  output: string | undefined;
  json: boolean;
}

/** Groups between two reports of progress. */
const CHUNK = 32;

/** `cream ranking`: how often a reward puts the right response above the wrong one. */
export async function ranking(values: RankingValues, context: Context): Promise<void> {
  const { terminal, signal, isQuiet } = context;
  checkValues(values);
  await prepareOutputFile(values.output);
  const source = inputSource(values.input, signal);
  const { extract, limit, reward } = values;
  const all = await loadLabelledGroups(source.name, { ...source.options, extract });
  const rows = all.slice(0, limit);
  const progress = new Progress(terminal, { isQuiet });
  try {
    const { groups, tooLong, rewards } = await (reward === 'module'
      ? byModule(rows, values.module!)
      : reward === 'reward-model'
        ? byRewardModel(rows, { ...values, model: values.model! }, context, progress)
        : byModels(rows, { ...values, reward, model: values.model! }, context, progress));
    progress.stop();
    const report = rankingReport(groups, rewards);
    const correlation = rewardCorrelation(
      groups.map(({ id }, g) => ({ id, rewards: rewards[g]! })),
      new Map(groups.map(({ id, correct }) => [id, correct])),
    );
    const name = values.name ?? basename(source.name, extname(source.name));
    const result = { name, reward, ...report, correlation, tooLong };
    if (values.output !== undefined) {
      const records = groups.map(({ id, subset, correct }, g) => ({
        id,
        subset,
        correct,
        rewards: rewards[g],
      }));
      await writeRecords(values.output, records, terminal);
    }
    const text = values.json ? JSON.stringify(result) : asText(result);
    if (values.output === '-') terminal.note(text);
    else await terminal.print(`${text}\n`);
  } finally {
    progress.stop();
  }
}

function checkValues(values: RankingValues): void {
  const { reward } = values;
  const needs = (option: 'model' | 'reference' | 'previous' | 'module', isNeeded: boolean, mayBe = false) => {
    if (isNeeded && values[option] === undefined)
      throw new CreamError('USAGE', `--reward ${reward} needs --${option}`);
    if (!isNeeded && !mayBe && values[option] !== undefined)
      throw new CreamError('USAGE', `--${option} has no effect with --reward ${reward}`);
  };
  const isRatio = reward === 'implicit' || reward === 'worst-of';
  needs('model', reward !== 'module');
  needs('reference', isRatio);
  needs('previous', reward === 'worst-of');
  needs('module', reward === 'module');
  if (reward === 'reward-model' && values.adapter !== undefined)
    throw new CreamError('USAGE', '--adapter has no effect with --reward reward-model');
  if (values.lengthNormalize && !isRatio)
    throw new CreamError('USAGE', `--length-normalize has no effect with --reward ${reward}`);
}

interface Rewarded {
  groups: Pick<LabelledGroup, 'id' | 'correct' | 'subset'>[];
  tooLong: number;
  rewards: number[][];
}

/** A user's own function sees prompts and texts; no model is needed. */
async function byModule(rows: readonly LabelledRow[], path: string): Promise<Rewarded> {
  const groups = rows.map((row) => ({
    ...row,
    promptIds: [],
    responses: row.responses.map(({ text }) => ({ text, ids: [], finishReason: 'stop' as const })),
    logprobs: [],
    numTokens: [],
  }));
  const rewarded = await withPairRewards(groups, {
    source: 'module',
    reward: await loadRewardModule(resolve(path)),
    hasPreviousReward: false,
    beta: 1,
    lengthNormalize: false,
  });
  return { groups, tooLong: 0, rewards: rewarded.map(({ pairRewards }) => pairRewards!) };
}

/** A sequence classifier's logits, over ids of its own tokenizer. */
async function byRewardModel(
  rows: readonly LabelledRow[],
  values: RankingValues & { model: string },
  context: Context,
  progress: Progress,
): Promise<Rewarded> {
  const { signal } = context;
  const { model: folder, readAt, chat, device, dtype, threads, maxTokensPerBatch } = values;
  await using model = await RewardModel.load(folder, {
    device: device ?? 'auto',
    dtype,
    ...(threads === undefined ? {} : { threads }),
    signal,
  });
  const tokenizer = await loadTokenizer(folder, values);
  return await encoding(values.input, values, context, async (options) => {
    const prompts = await tokenizer.promptIdsAll(rows, { chat, signal });
    const groups = rows.map((row, i) => labelledGroup(row, prompts[i]!, [], tokenizer));
    const reading = { tokenizer, keepsIds: true, readAt, maxTokensPerBatch, ...options, chat };
    const rewards = await rewardsInChunks(groups, model, reading, progress);
    const isTooLong = rewards.map((own) => own.some(Number.isNaN));
    const kept = <T>(list: readonly T[]) => list.filter((_, i) => !isTooLong[i]);
    if (groups.length > 0 && kept(groups).length === 0) {
      throw new CreamError(
        'INVALID_DATA',
        `none of ${groups.length} prompts fits with its responses into ${model.config.maxPositionEmbeddings} tokens`,
      );
    }
    return { groups: kept(groups), tooLong: isTooLong.filter(Boolean).length, rewards: kept(rewards) };
  });
}

/** Log-probs of all responses under each model, one model in memory at a time; the same folder is used once. */
async function byModels(
  rows: readonly LabelledRow[],
  values: RankingValues & { model: string; reward: RankingReward },
  context: Context,
  progress: Progress,
): Promise<Rewarded> {
  const { signal } = context;
  const { model, reference, previous, adapter } = values;
  const tokenizer = await loadTokenizer(model, values);
  const folders = [model, reference, previous].filter((folder) => folder !== undefined);
  const contexts = await Promise.all(folders.map(async (folder) => (await readCheckpoint(folder)).config));
  const maxLength = Math.min(...contexts.map(({ maxPositionEmbeddings }) => maxPositionEmbeddings));
  const { groups, tooLong } = await encoding(values.input, values, context, (options) =>
    encodeLabelled(rows, tokenizer, { ...options, maxLength }),
  );
  const passes = new Map<string, GroupLogprobs[]>();
  const pass = async (folder: string, over?: string): Promise<GroupLogprobs[]> => {
    const key = JSON.stringify([await realpath(folder), over]);
    const found = passes.get(key) ?? (await logprobsUnder(folder, groups, { ...values, adapter: over }));
    passes.set(key, found);
    return found;
  };
  const logprobsUnder = async (folder: string, some: readonly LabelledGroup[], loading: ModelValues) => {
    await using loaded = await loadModel(folder, loading, context);
    const maxTokensPerBatch = values.maxTokensPerBatch ?? defaultConfig().score.maxTokensPerBatch;
    const logprobs: GroupLogprobs[] = [];
    for (let start = 0; start < some.length; start += CHUNK) {
      const chunk = some.slice(start, start + CHUNK);
      logprobs.push(...(await score(chunk, loaded, { maxTokensPerBatch, signal })));
      const [done, total] = [logprobs.length, some.length];
      progress.event({ type: 'progress', stage: 'score', iteration: 0, done, total, unit: 'groups' });
    }
    return logprobs;
  };
  const rewards = rankingRewards(
    groups,
    {
      policy: await pass(model, adapter),
      reference: reference === undefined ? undefined : await pass(reference),
      previous: previous === undefined ? undefined : await pass(previous),
    },
    { reward: values.reward, beta: defaultConfig().beta, lengthNormalize: values.lengthNormalize },
  );
  return { groups, tooLong, rewards };
}

const share = (value: number | null) => (value === null ? '-' : value.toFixed(4));

function cells({ accuracy, interval, pairs, ties, groups, best, bestByChance }: RankingScore): string[] {
  const range = interval === null ? '-' : `[${interval.map((bound) => bound.toFixed(4)).join(', ')}]`;
  return [
    share(accuracy),
    range,
    String(pairs),
    String(ties),
    String(groups),
    share(best),
    share(bestByChance),
  ];
}

function asText(
  result: RankingReport & { name: string; reward: string; correlation: number | null; tooLong: number },
): string {
  const { name, reward, subsets = {}, rewardBench, unranked, withoutPairs, tooLong, correlation } = result;
  const left = [
    ...(withoutPairs > 0 ? [`${withoutPairs} prompts with only right or only wrong responses`] : []),
    ...(unranked > 0 ? [`${unranked} pairs with a reward that is not a number`] : []),
    ...(tooLong > 0 ? [`${tooLong} prompts longer than the model's context`] : []),
  ];
  return [
    formatTable(
      [
        `reward: ${reward}`,
        'ranked right',
        '95 % interval',
        'pairs',
        'ties',
        'prompts',
        'best right',
        'by chance',
      ],
      [
        [name, ...cells(result)],
        ...Object.entries(subsets).map(([subset, found]) => [subset, ...cells(found)]),
      ],
    ),
    ...(correlation === null
      ? []
      : [`correlation of the reward with being right, within prompts: ${share(correlation)}`]),
    ...(left.length === 0 ? [] : [`left out: ${left.join(', ')}`]),
    ...(rewardBench === undefined
      ? []
      : [
          '',
          formatTable(
            [`RewardBench ${rewardBench.release}`, 'accuracy'],
            [
              ...rewardBench.sections.map(({ name: section, accuracy }) => [section, share(accuracy)]),
              ['score', share(rewardBench.score)],
            ],
          ),
          ...(rewardBench.missing.length === 0 ? [] : [`not in the file: ${rewardBench.missing.join(', ')}`]),
        ]),
  ].join('\n');
}
