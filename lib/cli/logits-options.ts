import type { LogitsSettings } from '../native/logits-settings.js';
import { integer, number } from './options.js';

// Penalties and cuts by transformers' definitions (lib/native/logits-settings.ts), on request.

/** `origin` stands before a default in the help: where it comes from first, as "the model's, or ". */
export const logitsChoices = (origin = '') => ({
  minP: number('leave out tokens less likely than this times the likeliest', {
    min: 0,
    max: 1,
    defaultText: `${origin}0`,
  }),
  repetitionPenalty: number('divide the logits of tokens that occurred, in the prompt too', {
    above: 0,
    defaultText: `${origin}1`,
  }),
  noRepeatNgramSize: integer('let no so many tokens in a row occur twice', {
    min: 0,
    defaultText: `${origin}0`,
  }),
  minNewTokens: integer('draw no stop token before so many', { min: 0, defaultText: `${origin}0` }),
});

export interface LogitsValues {
  minP: number | undefined;
  repetitionPenalty: number | undefined;
  noRepeatNgramSize: number | undefined;
  minNewTokens: number | undefined;
}

/** The options that were given. */
export function logitsOptions(values: LogitsValues): LogitsSettings {
  const { minP, repetitionPenalty, noRepeatNgramSize, minNewTokens } = values;
  return {
    ...(minP !== undefined && { minP }),
    ...(repetitionPenalty !== undefined && { repetitionPenalty }),
    ...(noRepeatNgramSize !== undefined && { noRepeatNgramSize }),
    ...(minNewTokens !== undefined && { minNewTokens }),
  };
}
