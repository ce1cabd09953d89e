import { realpath } from 'node:fs/promises';
import type { Exchange, ExchangeOptions } from '../data/exchange-encoder.js';
import type { Tokenizer } from '../data/tokenizer.js';
import { CreamError } from '../errors.js';
import type { Model } from '../native/model.js';
import type { ReadAt } from '../stages/reward-model.js';
import { judgesOf, score as scoreGroups, type Judges, type Scorer, withRewards } from '../stages/score.js';
import type { Group, GroupLogprobs } from '../types.js';
import type { Context } from './command.js';
import { defaultConfig } from './defaults.js';
import { parseResponses, readInput, type ResponsesRow } from './input.js';
import { loadModel, type ModelValues } from './models.js';
import { prepareOutputFile, writeRecords } from './output.js';
import { Progress } from './progress.js';
import { scoreByRewardModel } from './reward-model.js';
import { encoding, loadTokenizer, type TextValues } from './texts.js';

export interface ScoreValues extends ModelValues, TextValues {
  model: string;
  base: string | undefined;
  previous: string | undefined;
  previousAdapter: string | undefined;
  input: string;
  output: string | undefined;
  beta: number | undefined;
  previousReward: 'auto' | 'implicit' | 'likelihood' | 'anchor';
  lengthNormalize: boolean;
  perToken: boolean;
  appendStop: boolean;
  maxTokensPerBatch: number | undefined;
  rewardModel: string | undefined;
  readAt: ReadAt;
}

/** Groups between two reports of progress. */
const CHUNK = 32;

/** `cream score`: one pass per model, one model in memory at a time. */
export async function score(values: ScoreValues, context: Context): Promise<void> {
  const { terminal, signal, isQuiet } = context;
  checkValues(values);
  await prepareOutputFile(values.output);
  const rows = await readInput(values.input, parseResponses, signal);
  const tokenizer = await loadTokenizer(values.model, values);
  const groups = await encoding(values.input, values, context, (options) =>
    tokenise(rows, tokenizer, values.appendStop, options),
  );

  const progress = new Progress(terminal, { isQuiet });
  try {
    const models = await modelsOf(values);
    const passes = new Map<string, Pass>();
    for (const [role, { key, folder, adapter }] of models) {
      if (passes.has(key)) continue;
      const perToken = values.perToken && role === 'policy';
      passes.set(key, await scoreWith(folder, groups, { ...values, adapter, perToken }, context, progress));
    }
    const passOf = (role: Role): Pass | undefined => passes.get(models.get(role)?.key ?? '');
    const judges = judgesFor(values, models);
    const pairRewards = await scoreByRewardModel(rows, groups, tokenizer, values, context, progress);
    const records = assemble(rows, groups, values, judges, passOf).map((record, i) =>
      pairRewards === undefined ? record : { ...record, pairRewards: pairRewards[i] },
    );
    progress.stop();
    await writeRecords(values.output, records, terminal);
  } finally {
    progress.stop();
  }
}

type Role = 'policy' | 'base' | 'previous';

interface Pass {
  logprobs: GroupLogprobs[];
  /** Per group, per response; empty unless asked for. */
  tokenLogprobs: number[][][];
}

function checkValues(values: ScoreValues): void {
  const { base, beta, lengthNormalize, previousReward, previousAdapter } = values;
  if (values.previous !== undefined && previousAdapter !== undefined) {
    throw new CreamError(
      'USAGE',
      '--previous and --previous-adapter both name the previous policy: give one',
    );
  }
  const previous = values.previous ?? previousAdapter;
  const needsBase: (readonly [isGiven: boolean, name: string])[] = [
    [beta !== undefined, '--beta'],
    [lengthNormalize, '--length-normalize'],
    [previousReward === 'implicit' || previousReward === 'anchor', `--previous-reward ${previousReward}`],
  ];
  for (const [isGiven, name] of needsBase) {
    if (isGiven && base === undefined) throw new CreamError('USAGE', `${name} has no effect without --base`);
  }
  if (previousReward !== 'auto' && previous === undefined && previousReward !== 'anchor') {
    throw new CreamError('USAGE', `--previous-reward ${previousReward} has no effect without --previous`);
  }
}

interface Source {
  /** The same for the same model under two names, which is loaded once. */
  key: string;
  folder: string;
  adapter: string | undefined;
}

/** The model of each role, the policy's first. */
async function modelsOf(values: ScoreValues): Promise<Map<Role, Source>> {
  const { model, base, adapter, previousAdapter } = values;
  const previous = previousAdapter === undefined ? values.previous : model;
  const models = new Map<Role, Source>();
  const real = async (path: string) => realpath(path).catch(() => path);
  for (const [role, folder, over] of [
    ['policy', model, adapter],
    ['base', base, undefined],
    ['previous', previous, previousAdapter],
  ] as const) {
    if (folder === undefined) continue;
    const key = JSON.stringify([await real(folder), over === undefined ? null : await real(over)]);
    models.set(role, { key, folder, adapter: over });
  }
  return models;
}

async function tokenise(
  rows: readonly ResponsesRow[],
  tokenizer: Tokenizer,
  appendStop: boolean,
  options: ExchangeOptions,
): Promise<Group[]> {
  const inputs = rows.map(({ prompt, promptIds, responses, ...row }) => ({
    ...row,
    prompt: prompt ?? promptIds!,
    responses: responses.flatMap(({ ids, text }) => (ids === undefined ? [text] : [])),
  }));
  const exchanges = await tokenizer.exchanges(inputs, options);
  return rows.map(({ id, prompt, promptIds, responses, fields: _, label: __, ...row }, i) => {
    const exchange = exchanges[i]!;
    if (promptIds !== undefined) tokenizer.checkIds(promptIds, `prompt ${id}`);
    checkWhole(id, exchange, promptIds !== undefined || responses.some(({ ids }) => ids !== undefined));
    const texts = exchange.responses.values();
    return {
      ...row,
      id,
      prompt: prompt ?? '',
      promptIds: promptIds ?? exchange.promptIds,
      responses: responses.map((response, index) => {
        if (response.ids !== undefined) tokenizer.checkIds(response.ids, `prompt ${id}, response ${index}`);
        const ids = response.ids ?? withoutStop(texts.next().value!, tokenizer, appendStop);
        return { ids, text: response.text ?? '', finishReason: 'stop' as const };
      }),
    };
  });
}

/** Ids that a row gives follow the prompt as it is sampled from; text may follow less of it. */
function checkWhole(id: string, { leftOut }: Exchange, hasIds: boolean): void {
  if (leftOut.length === 0 || !hasIds) return;
  throw new CreamError(
    'INVALID_DATA',
    `prompt ${id}: the chat template writes the prompt otherwise before a response, so text cannot stand beside ids; give all as text or all as ids`,
  );
}

/** The text's own tokens. The tokenizer ends a response with a stop token, which users' text cannot contain. */
function withoutStop(ids: number[], tokenizer: Tokenizer, appendStop: boolean): number[] {
  const last = ids.at(-1);
  return !appendStop && last !== undefined && tokenizer.eosIds.includes(last) ? ids.slice(0, -1) : ids;
}

async function scoreWith(
  folder: string,
  groups: readonly Group[],
  values: ScoreValues,
  context: Context,
  progress: Progress,
): Promise<Pass> {
  const { signal } = context;
  await using model = await loadModel(folder, values, context);
  const maxTokensPerBatch = values.maxTokensPerBatch ?? defaultConfig().score.maxTokensPerBatch;
  const pass: Pass = { logprobs: [], tokenLogprobs: [] };
  const collector = new TokenCollector(model, values.perToken);
  for (let start = 0; start < groups.length; start += CHUNK) {
    const chunk = groups.slice(start, start + CHUNK);
    pass.logprobs.push(...(await scoreGroups(chunk, collector, { maxTokensPerBatch, signal })));
    if (values.perToken) pass.tokenLogprobs.push(...chunk.map((group, i) => collector.tokensOf(i, group)));
    const done = Math.min(start + CHUNK, groups.length);
    progress.event({
      type: 'progress',
      stage: 'score',
      iteration: 0,
      done,
      total: groups.length,
      unit: 'groups',
    });
  }
  return pass;
}

/** Passes scoring on to a model and remembers the log-probs of single tokens. */
class TokenCollector implements Scorer {
  readonly #model: Model;
  readonly #perToken: boolean;
  #tokens: Map<string, number[]>[] = [];

  constructor(model: Model, perToken: boolean) {
    this.#model = model;
    this.#perToken = perToken;
  }

  async score(...[groups, options]: Parameters<Scorer['score']>): Promise<{ logprobs: number[] }[]> {
    const scored = await this.#model.score(groups, { ...options, perToken: this.#perToken });
    this.#tokens = scored.map(
      ({ tokenLogprobs }, g) =>
        new Map(tokenLogprobs?.map((logprobs, r) => [groups[g]!.responses[r]!.join(), [...logprobs]])),
    );
    return scored;
  }

  tokensOf(index: number, { responses }: Group): number[][] {
    return responses.map(({ ids }) => this.#tokens[index]?.get(ids.join()) ?? []);
  }
}

/** M0 as the previous policy has no DPO reward, which would be 0 everywhere, so it ranks by likelihood. */
function judgesFor({ previousReward }: ScoreValues, models: ReadonlyMap<Role, Source>): Judges {
  if (previousReward !== 'auto') return { policy: 'implicit', previous: previousReward };
  const isBase = models.get('previous')?.key === models.get('base')?.key;
  return {
    policy: 'implicit',
    previous: judgesOf(isBase ? 1 : 2, { previousReward, fineTuned: true }).previous,
  };
}

function assemble(
  rows: readonly ResponsesRow[],
  groups: readonly Group[],
  values: ScoreValues,
  judges: Judges,
  passOf: (role: Role) => Pass | undefined,
): object[] {
  const policy = passOf('policy')!;
  const [base, previous] = [passOf('base'), passOf('previous')];
  const { lengthNormalize } = values;
  const beta = values.beta ?? defaultConfig().beta;
  const rewarded =
    base === undefined
      ? undefined
      : withRewards(
          groups,
          { policy: policy.logprobs, base: base.logprobs, previous: previous?.logprobs },
          { beta, lengthNormalize, judges },
        );
  return groups.map((group, i) => {
    const isText = rows[i]!.responses.some(({ ids }) => ids === undefined);
    const numTokens = group.responses.map(({ ids }) => ids.length);
    const scored = rewarded?.[i];
    const ranksPrevious = previous !== undefined || values.previousReward === 'anchor';
    return {
      ...rows[i]!.fields,
      id: rows[i]!.fields['id'] ?? group.id,
      promptIds: group.promptIds,
      ...(isText && { responseIds: group.responses.map(({ ids }) => ids) }),
      logprobs: policy.logprobs[i]!.logprobs,
      numTokens,
      ...(values.perToken && { tokenLogprobs: policy.tokenLogprobs[i] }),
      ...(scored !== undefined && { baseLogprobs: scored.baseLogprobs, rewards: scored.rewards }),
      ...(previous !== undefined && { previousLogprobs: previous.logprobs[i]!.logprobs }),
      ...(scored !== undefined && ranksPrevious && { previousRewards: scored.previousRewards }),
      ...(scored === undefined &&
        previous !== undefined && {
          previousRewards: previous.logprobs[i]!.logprobs.map((sum, r) => sum / (numTokens[r] || Number.NaN)),
        }),
    };
  });
}
