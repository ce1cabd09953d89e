import { CreamError } from '../errors.js';
import { markedStatements } from './answer-text.js';
import { field, type JsonlRow, quote, rowError } from './jsonl.js';
import { parseNumber } from './numbers.js';
import { nonEmptyText } from './rows.js';
import { type Extraction, resolveExtraction } from './tasks.js';

// Right answers as published data has them. A label that cannot be read is an error that names its row, because every
// answer to it would be counted as wrong.

/** A letter or digit in any brackets or before a point: "(A)", "A.", "[b]", "**C**". */
const BARE = /^[\s([{"'*]{0,4}([A-Za-z1-9])[\s)\]}"'*.:]{0,4}$/;
/** The letter and the option behind it: "A) trout". */
const WITH_TEXT = /^[([]?([A-Za-z1-9])[)\].:]\s+(.+)$/s;

/** The key of the option that a label names by its key, or by its text. */
export function choiceLabel(row: JsonlRow, label: string, choices: Readonly<Record<string, string>>): string {
  const ofKey = (key: string | undefined) =>
    [key, key?.toUpperCase()].find((one) => one !== undefined && Object.hasOwn(choices, one));
  const bare = ofKey(label) ?? ofKey(BARE.exec(label)?.[1]);
  if (bare !== undefined) return bare;
  const wanted = label.trim();
  const pair = WITH_TEXT.exec(wanted);
  const named = pair === null ? undefined : ofKey(pair[1]);
  if (named !== undefined && choices[named]?.trim() === pair?.[2]?.trim()) return named;
  // A digit beside letters could be an index, from 0 or from 1, or an option that is a digit.
  const ofText = /^\d$/.test(wanted)
    ? []
    : Object.keys(choices).filter((key) => choices[key]?.trim() === wanted);
  if (ofText.length === 1) return ofText[0] as string;
  throw rowError(
    row,
    `label ${quote(label)} is none of the choices ${Object.keys(choices).join(', ')}; give the key of the right one`,
  );
}

/** What stands after "####" in a worked answer (GSM8K) or in its last \boxed{} (MATH), or the whole of an answer that is not worked. */
export function answerLabel(row: JsonlRow): string | undefined {
  const value = field(row, 'answer');
  if (value === undefined) return undefined;
  if (typeof value === 'number') return String(value);
  const answer = nonEmptyText(row, 'answer').trim();
  const mark = answer.lastIndexOf('####');
  if (mark !== -1) return answer.slice(mark + 4).trim();
  const boxed = markedStatements(answer).findLast((statement) => statement.mark === 'boxed');
  return boxed?.text.trim() ?? answer;
}

/** Throws INVALID_DATA for the first problem whose label `extract` cannot compare with an answer. */
export function checkLabels(
  problems: readonly { id: string; label: string; choices?: Readonly<Record<string, string>> }[],
  extract: Extraction,
  where: string,
): void {
  for (const { id, label, choices } of problems) {
    const how = resolveExtraction(extract, { label, ...(choices && { choices }) });
    if (how === 'choice' && choices === undefined) {
      throw new CreamError('INVALID_DATA', `${where}: ${id} has no choices, which extract: choice needs`);
    }
    if (how === 'number' && parseNumber(label) === undefined) {
      throw new CreamError(
        'INVALID_DATA',
        `${where}: ${id} has the label ${quote(label)}, which is no number; mend the label or choose another extraction`,
      );
    }
  }
}
