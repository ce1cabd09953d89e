import type { CreamConfig } from '../config.js';
import { CreamError } from '../errors.js';
import { templateInputsOf } from '../data/messages.js';
import type { LogitsSettings } from '../native/logits-settings.js';
import type { Group, PromptInput, Response, TemplateInputs } from '../types.js';

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
  { policy, decode, stopIds, seed, stream, signal, onResponse }: SampleDependencies,
): Promise<Group[]> {
  const responses = prompts.map(() => new Array<Response | undefined>(options.n).fill(undefined));
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
  for await (const { promptIndex, sample: index, ids, logprobs, finishReason } of generated) {
    const response: Response = {
      ids: [...ids],
      text: decode([...ids]),
      finishReason,
      samplerLogprob: logprobs.reduce((sum, logprob) => sum + logprob, 0),
    };
    responses[promptIndex]![index] = response;
    onResponse?.(response);
  }
  return prompts.map(({ id, prompt, promptIds, label, ...row }, index) => {
    const complete = responses[index]!.filter((response) => response !== undefined);
    if (complete.length !== options.n) {
      throw new CreamError(
        'NATIVE',
        `prompt ${id} got ${complete.length} responses in place of ${options.n}`,
      );
    }
    return {
      id,
      prompt,
      promptIds,
      responses: complete,
      ...(label === undefined ? {} : { label }),
      ...templateInputsOf(row),
    };
  });
}
