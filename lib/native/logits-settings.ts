import type { NativeGenerateOptions } from './binding.js';
import { toInt32Array } from './arguments.js';

/**
 * What may be done to the logits before a token is drawn, by the definitions and in the order of transformers' logits
 * processors. The log-probs that are reported stay the model's own. On the CPU only.
 */
export interface LogitsSettings {
  /** Tokens less likely than `minP` times the likeliest are cut, after topK and topP. In [0, 1]; 0 = off, the default. */
  minP?: number;
  /** Divides the positive and multiplies the negative logits of tokens in prompt and response. Default 1: off. */
  repetitionPenalty?: number;
  /** No so many tokens in a row occur twice in prompt and response. Default 0: off. */
  noRepeatNgramSize?: number;
  /** Stop tokens are not drawn before. Default 0. */
  minNewTokens?: number;
  /** Sequences of token ids that do not occur. */
  badWordsIds?: readonly (readonly number[])[];
  /** Token ids that are never drawn. */
  suppressTokens?: readonly number[];
  /** Token ids that are not drawn first. */
  beginSuppressTokens?: readonly number[];
  /** The last token of a response that reaches its length limit. */
  forcedEosId?: number;
}

/** The settings that are given, as the addon takes them. */
export function nativeLogitsSettings(settings: LogitsSettings): Partial<NativeGenerateOptions> {
  const { badWordsIds, suppressTokens, beginSuppressTokens } = settings;
  const numbers = ['minP', 'repetitionPenalty', 'noRepeatNgramSize', 'minNewTokens', 'forcedEosId'] as const;
  return {
    ...Object.fromEntries(
      numbers.flatMap((name) => (settings[name] === undefined ? [] : [[name, settings[name]]])),
    ),
    ...(badWordsIds !== undefined && {
      badWordsIds: badWordsIds.map((word, i) => toInt32Array(word, `generate: badWordsIds[${i}]`)),
    }),
    ...(suppressTokens !== undefined && {
      suppressTokens: toInt32Array(suppressTokens, 'generate: suppressTokens'),
    }),
    ...(beginSuppressTokens !== undefined && {
      beginSuppressTokens: toInt32Array(beginSuppressTokens, 'generate: beginSuppressTokens'),
    }),
  };
}
