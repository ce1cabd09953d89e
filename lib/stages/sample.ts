import type { CreamConfig } from '../config.js';
import { CreamError } from '../errors.js';
import { templateInputsOf } from '../data/messages.js';
import type { LogitsSettings } from '../native/logits-settings.js';
import type { Group, Placed, PromptInput, Response, TemplateInputs } from '../types.js';

/** A prompt as the model sees it. */
export interface TokenizedPrompt extends TemplateInputs {
  id: string;
  prompt: PromptInput;
  promptIds: number[];
  label?: string;
  /** Length limit of its responses, where that is less than the request's. */
  maxNewTokens?: number;
}

/** What sampling needs of a model. */
export interface Generator {
  generate(
    request: LogitsSettings & {
      prompts: { id: string; ids: readonly number[]; maxNewTokens?: number }[];
      n?: number;
      maxNewTokens: number;
      temperature?: number;
      topP?: number;
      topK?: number;
      stopIds?: readonly number[];
      seed?: number | bigint;
      stream?: string;
      signal?: AbortSignal;
    },
  ): AsyncIterable<{
    promptIndex: number;
    sample: number;
    ids: Int32Array;
    logprobs: Float32Array;
    finishReason: 'stop' | 'length';
  }>;
}

export interface SampleDependencies {
  policy: Generator;
  decode: (ids: readonly number[]) => string;
  stopIds: readonly number[];
  seed: number;
  /** Names the draw, as "iteration-1": the same prompt gets other responses in another stream. */
  stream: string;
  signal?: AbortSignal | undefined;
  onResponse?: ((response: Response) => void) | undefined;
}

export type SampleOptions = Pick<
  CreamConfig['sampling'],
  'n' | 'maxNewTokens' | 'temperature' | 'topP' | 'topK'
> &
  LogitsSettings;

/**
 * N responses of the policy to every prompt, in the order of the prompts and samples. The ids are kept as they were
 * sampled; the text is for people. A response cut by the length limit has no stop token and says so.
 */
export async function sample(
  prompts: readonly TokenizedPrompt[],
  options: SampleOptions,
  dependencies: SampleDependencies,
): Promise<Group[]> {
  const groups: Group[] = [];
  for await (const { index, result } of sampleStream(prompts, options, dependencies)) groups[index] = result;
  return groups;
}

/**
 * The same, each prompt's group as soon as its last response has come. All prompts are one request, so that the engine
 * begins a response whenever another one ends; what is held is the groups that have begun.
 */
export async function* sampleStream(
  prompts: readonly TokenizedPrompt[],
  options: SampleOptions,
  { policy, decode, stopIds, seed, stream, signal, onResponse }: SampleDependencies,
): AsyncGenerator<Placed<Group>, void, undefined> {
  const generated = policy.generate({
    prompts: prompts.map(({ id, promptIds, maxNewTokens }) => ({
      id,
      ids: promptIds,
      ...(maxNewTokens !== undefined && { maxNewTokens }),
    })),
    ...options,
    stopIds,
    seed,
    stream,
    ...(signal === undefined ? {} : { signal }),
  });
  const begun = new Map<number, Response[]>();
  const counts = prompts.map(() => 0);
  for await (const { promptIndex, sample: index, ids, logprobs, finishReason } of generated) {
    const response: Response = {
      ids: [...ids],
      text: decode([...ids]),
      finishReason,
      samplerLogprob: logprobs.reduce((sum, logprob) => sum + logprob, 0),
    };
    const responses = begun.get(promptIndex) ?? [];
    begun.set(promptIndex, responses);
    responses[index] = response;
    counts[promptIndex]! += 1;
    onResponse?.(response);
    if (counts[promptIndex]! < options.n) continue;
    begun.delete(promptIndex);
    yield { index: promptIndex, result: groupOf(prompts[promptIndex]!, responses) };
  }
  const missing = counts.findIndex((count) => count !== options.n);
  if (missing >= 0) {
    const count = `${counts[missing]} responses in place of ${options.n}`;
    throw new CreamError('NATIVE', `prompt ${prompts[missing]!.id} got ${count}`);
  }
}

function groupOf({ id, prompt, promptIds, label, ...row }: TokenizedPrompt, responses: Response[]): Group {
  return {
    id,
    prompt,
    promptIds,
    responses,
    ...(label === undefined ? {} : { label }),
    ...templateInputsOf(row),
  };
}
