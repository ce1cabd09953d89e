import type { TaskRecord } from '../types.js';
import { parseNumber } from './numbers.js';

// How a held-out problem is put to a model. The same wording asks the problems of a training set, so that a model is
// measured on what it practised. What the model then says is read by answers.ts.

/** How the answer of a response is read. `pattern`: the capture groups of a regular expression, joined. */
export type Extraction = 'auto' | 'choice' | 'number' | 'exact' | { pattern: string };

/** What `auto` means for one problem: choices make it `choice`, a label that is a number `number`, else `exact`. */
export function resolveExtraction(
  extraction: Extraction,
  problem: { choices?: Readonly<Record<string, string>>; label?: string },
): Exclude<Extraction, 'auto'> {
  if (extraction !== 'auto') return extraction;
  if (problem.choices !== undefined) return 'choice';
  return problem.label !== undefined && parseNumber(problem.label) !== undefined ? 'number' : 'exact';
}

/**
 * The prompt of a problem.
 *
 * `choice`: the question, one line "A) ..." per choice, and the request to end with "The answer is" and the letter,
 * or the number where options are numbered:
 *
 *     Which of these is a mammal?
 *
 *     A) trout
 *     B) bat
 *
 *     Think step by step, then finish with "The answer is X", where X is the letter of the right option.
 *
 * `number`: the question and the request to end with "The answer is" and the number. `exact` and patterns: the
 * question alone, for tasks whose prompts already say everything.
 */
export function taskPrompt(
  problem: Pick<TaskRecord, 'question' | 'choices'> & { label?: string },
  extraction: Extraction = 'auto',
): string {
  const { question, choices } = problem;
  const how = resolveExtraction(extraction, problem);
  if (how === 'choice' && choices !== undefined) {
    const options = Object.entries(choices).map(([letter, text]) => `${letter}) ${text}`);
    const request = `finish with "The answer is X", where X is the ${keyKind(choices)} of the right option.`;
    return `${question}\n\n${options.join('\n')}\n\nThink step by step, then ${request}`;
  }
  if (how === 'number') {
    return `${question}\n\nThink step by step, then finish with "The answer is N", where N is a number.`;
  }
  return question;
}

/** What the options are called by: some published rows have digits for letters. */
function keyKind(choices: Readonly<Record<string, string>>): 'letter' | 'number' | 'letter or number' {
  const keys = Object.keys(choices);
  if (keys.every((key) => /^\d+$/.test(key))) return 'number';
  return keys.some((key) => /^\d+$/.test(key)) ? 'letter or number' : 'letter';
}
