import { judgePrompt, readScore } from '../data/judge-prompt.js';
import type { ChatMode } from '../data/tokenizer.js';
import { CreamError } from '../errors.js';
import type { FinishReason, Group, Placed, PromptInput, Response } from '../types.js';

/** What judging needs of a model. */
export interface JudgeModel {
  generate(request: {
    prompts: { id: string; ids: readonly number[] }[];
    n?: number;
    maxNewTokens: number;
    temperature?: number;
    topP?: number;
    stopIds?: readonly number[];
    seed?: number | bigint;
    stream?: string;
    signal?: AbortSignal;
  }): AsyncIterable<{ promptIndex: number; sample: number; ids: Int32Array; finishReason: FinishReason }>;
}

/** What judging needs of a tokenizer. */
export interface JudgeTokenizer {
  readonly eosIds: readonly number[];
  promptIdsAll(
    prompts: readonly { id: string; prompt: PromptInput }[],
    options: { chat?: ChatMode; signal?: AbortSignal },
  ): Promise<number[][]>;
  decode(ids: readonly number[], options: { skipSpecialTokens: boolean }): string;
}

export interface JudgeOptions {
  /** k, judgements per response. */
  judgements: number;
  maxNewTokens: number;
  temperature: number;
  topP: number;
  /** Judgements that must be readable for a response to have a reward. Default 1. */
  minReadable?: number;
  /** In place of the additive prompt: text with {{prompt}} and {{response}} that asks for a last line "Score: N". */
  template?: string;
  /** Limit of judge prompt + judgement in tokens. */
  maxLength: number;
  chat?: ChatMode;
  seed: number;
  /** Names the draw, as "iteration-1/judge". */
  stream: string;
  signal?: AbortSignal;
}

/** Index i of each list belongs to responses[i]. */
export interface JudgedGroup {
  id: string;
  /** Mean points of the judgements that could be read; NaN where there are too few. */
  rewards: number[];
  /** The points of every judgement, null where none could be read; no judgement where there was no room for one. */
  judgements: (number | null)[][];
  /** Judgements of distinct responses. */
  asked: number;
  /** Those that gave no score. */
  unparsable: number;
  /** Distinct responses that leave no room for a judgement within maxLength. */
  tooLong: number;
}

/**
 * The policy's own points, 0 to 5, for every response: the mean of k sampled judgements. Equal responses to one prompt
 * are judged once, so that they tie. A judgement that was cut by the length limit, or does not end with its score, is
 * counted and left out of the mean.
 */
export async function judge(
  groups: readonly Group[],
  model: JudgeModel,
  tokenizer: JudgeTokenizer,
  options: JudgeOptions,
): Promise<JudgedGroup[]> {
  const judged: JudgedGroup[] = [];
  for await (const { index, result } of judgeStream(groups, model, tokenizer, options))
    judged[index] = result;
  return judged;
}

/** A distinct response that the judge is asked about, and its points so far. */
interface Question {
  group: number;
  response: number;
  id: string;
  ids: number[];
  points: (number | null | undefined)[];
}

/** The same, each group as soon as its last judgement has come. All judgements are one request. */
export async function* judgeStream(
  groups: readonly Group[],
  model: JudgeModel,
  tokenizer: JudgeTokenizer,
  options: JudgeOptions,
): AsyncGenerator<Placed<JudgedGroup>, void, undefined> {
  const { judgements: k, signal, maxNewTokens, maxLength, temperature, topP, seed, stream } = options;
  const { minReadable = 1 } = options;
  const firsts = groups.map(({ responses }) => firstsOf(responses));
  const asked = await questionsOf(groups, firsts, tokenizer, options);
  const judged = asked.filter(({ ids }) => ids.length + maxNewTokens <= maxLength);
  const ofGroup = groups.map((): Question[] => []);
  for (const question of judged) ofGroup[question.group]!.push(question);
  const left = ofGroup.map((questions) => questions.length * k);

  const judgedGroup = (group: number): JudgedGroup => {
    const own = new Map(
      ofGroup[group]!.map(({ response, points }) => [response, points as (number | null)[]]),
    );
    ofGroup[group] = [];
    const judgements = firsts[group]!.map((first) => [...(own.get(first) ?? [])]);
    return {
      id: groups[group]!.id,
      rewards: judgements.map((points) => meanOf(points, minReadable)),
      judgements,
      asked: own.size * k,
      unparsable: [...own.values()].flat().filter((points) => points === null).length,
      tooLong: new Set(firsts[group]).size - own.size,
    };
  };

  for (const [group, count] of left.entries()) {
    if (count === 0) yield { index: group, result: judgedGroup(group) };
  }
  if (judged.length === 0) return;
  const generated = model.generate({
    prompts: judged.map((question) => ({ id: question.id, ids: question.ids })),
    n: k,
    maxNewTokens,
    temperature,
    topP,
    stopIds: tokenizer.eosIds,
    seed,
    stream,
    ...(signal === undefined ? {} : { signal }),
  });
  for await (const { promptIndex, sample, ids: said, finishReason } of generated) {
    const { group, points } = judged[promptIndex]!;
    const text = tokenizer.decode([...said], { skipSpecialTokens: true });
    points[sample] = finishReason === 'stop' ? readScore(text) : null;
    left[group]! -= 1;
    if (left[group] === 0) yield { index: group, result: judgedGroup(group) };
  }
  const missing = judged.find(({ points }) => points.includes(undefined));
  if (missing !== undefined) {
    throw new CreamError('NATIVE', `response ${missing.id} got fewer than ${k} judgements`);
  }
}

/** For every response the place of the first one with its ids. */
function firstsOf(responses: readonly Response[]): number[] {
  const places = new Map<string, number>();
  return responses.map(({ ids }, i) => {
    const key = ids.join();
    if (!places.has(key)) places.set(key, i);
    return places.get(key)!;
  });
}

async function questionsOf(
  groups: readonly Group[],
  firsts: readonly (readonly number[])[],
  tokenizer: JudgeTokenizer,
  { judgements: k, chat, signal, template }: JudgeOptions,
): Promise<Question[]> {
  const asked = groups.flatMap(({ id, prompt, responses }, group) =>
    [...new Set(firsts[group])].map((response) => ({
      group,
      response,
      id: `${id}/${response}`,
      prompt: judgePrompt(prompt, responses[response]!.text, template),
    })),
  );
  const ids = await tokenizer.promptIdsAll(asked, {
    ...(chat === undefined ? {} : { chat }),
    ...(signal === undefined ? {} : { signal }),
  });
  return asked.map(({ prompt: _, ...question }, i) => ({
    ...question,
    ids: ids[i]!,
    points: new Array<number | null | undefined>(k).fill(undefined),
  }));
}

function meanOf(points: readonly (number | null)[], minReadable: number): number {
  const read = points.filter((value) => value !== null);
  return read.length < Math.max(1, minReadable)
    ? Number.NaN
    : read.reduce((sum, value) => sum + value, 0) / read.length;
}
