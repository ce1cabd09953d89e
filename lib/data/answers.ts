import { CreamError } from '../errors.js';
import type { FinishReason } from '../types.js';
import { readChoice } from './choice-answers.js';
import { quote } from './jsonl.js';
import { readNumber } from './number-answers.js';
import { equalNumbers, formatNumber, parseNumber } from './numbers.js';
import { type Extraction, resolveExtraction } from './tasks.js';

/** What a response says to a problem. */
export interface Grade {
  /** The answer as it was read: a letter, a number in plain form, or text; null when the response states none. */
  answer: string | null;
  correct: boolean;
}

export interface Problem {
  label: string;
  choices?: Readonly<Record<string, string>>;
}

/**
 * Reads the answer of a response and compares it with the label. Choices compare by letter, numbers by value
 * (1,234 = 1234.0 = 1.234e3, 50 % = 0.5 or 50), other answers as text. `exact` and patterns need a response that ended by itself; a choice or a
 * number counts when it was stated before the response was cut.
 */
export function gradeResponse(
  response: { text: string; finishReason: FinishReason },
  problem: Problem,
  extraction: Extraction = 'auto',
): Grade {
  const how = resolveExtraction(extraction, problem);
  const isComplete = response.finishReason === 'stop';
  const text = response.text.toWellFormed();

  if (how === 'choice') {
    if (problem.choices === undefined) throw needs('choice', 'the choices of the problem');
    const answer = readChoice(text, problem.choices, isComplete);
    return { answer, correct: answer === problem.label };
  }
  if (how === 'number') {
    const label = parseNumber(problem.label);
    if (label === undefined) throw needs('number', `a number as label, got ${quote(problem.label)}`);
    const read = readNumber(text, isComplete);
    if (read === null) return { answer: null, correct: false };
    return { answer: formatNumber(read.value), correct: equalNumbers(read, label) };
  }
  if (!isComplete) return { answer: null, correct: false };
  const answer = how === 'exact' ? text.trim() : readPattern(text.trim(), how.pattern);
  return { answer: answer === '' ? null : answer, correct: answer !== '' && answer === problem.label.trim() };
}

/** The capture groups of the last match, joined; the whole match where the pattern has none. */
function readPattern(text: string, pattern: string): string | null {
  const match = [...text.matchAll(compile(pattern))].at(-1);
  if (match === undefined) return null;
  return match.length === 1 ? match[0] : match.slice(1).join('');
}

/** Refuses a pattern that is no regular expression. */
export function compile(pattern: string): RegExp {
  try {
    return new RegExp(pattern, 'gsu');
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new CreamError('INVALID_CONFIG', `extract.pattern ${quote(pattern)} is not valid: ${reason}`, {
      cause,
    });
  }
}

function needs(how: string, what: string): CreamError {
  return new CreamError(
    'INVALID_DATA',
    `extract: ${how} needs ${what}; choose another extraction or mend the data`,
  );
}
