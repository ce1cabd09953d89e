import {
  ANSWER_IS,
  answerStatements,
  markedStatements,
  ofFirstAnswer,
  plainText,
  sentences,
  type Statement,
} from './answer-text.js';
import { type FoundNumber, findNumbers } from './numbers.js';

// Reads the number that a worked solution arrives at. The last statement of an answer wins; without one, the last
// sentence that has a number.

/** What a number is, wherever it stands. */
export type ReadNumber = Pick<FoundNumber, 'value' | 'isPercent'>;

/** The last number that the first answer of a text states; null when it states none. */
export function readNumber(text: string, isComplete: boolean): ReadNumber | null {
  return ofFirstAnswer(plainText(text), isComplete, stated, concludes);
}

function stated(plain: string, isComplete: boolean): ReadNumber | null | undefined {
  const statements: Statement[] = [
    ...markedStatements(plain),
    ...answerStatements(plain, ANSWER_IS),
    ...labelledLines(plain),
  ];
  statements.sort((a, b) => b.index - a.index);
  for (const statement of statements) {
    const found = statedNumber(statement);
    if (found === null) return null;
    if (found === undefined) continue;
    // The rest of a number may have been cut off.
    const reachesEnd = statement.index + found.end >= plain.trimEnd().length;
    if (isComplete || !reachesEnd) return found;
  }
  return undefined;
}

/** An unfinished solution that has not stated its answer has none. */
const concludes = (plain: string, isComplete: boolean) => (isComplete ? lastNumber(plain) : null);

/** Lines "A: 42", as in question and answer. */
function labelledLines(text: string): Statement[] {
  return [...text.matchAll(/(?:^|\n)[ \t]{0,8}A(?:ns)?[:.] {0,3}([^\n]{1,300})/g)].map((match) => ({
    index: match.index + match[0].length - (match[1] as string).length,
    text: match[1] as string,
  }));
}

/** Ends the clause that holds the answer; what comes after gives reasons. */
const REASON = /[(;]|,?\s(?:because|since|as|which|where|given|when|if|after|before|so that)\b/gi;

/** Words that may stand between "the answer is" and the number. */
const FILLER =
  /^(?:[\s:=~\u2248"'([{$\u20ac\u00a3*_>.,-]|(?:about|approximately|exactly|around|roughly|equal to|only|just|simply|therefore|thus|then|indeed|now|a total of|the number|the value|[a-zA-Z]\s?=)\b)*$/i;

/** The number that one statement names: after its last "=", else "... in total", else the first where the statement begins with it, else the last. */
function statedNumber({ text: statement, mark }: Statement): FoundNumber | null | undefined {
  if (/^\W{0,4}(?:not|never)\b/i.test(statement)) return undefined;
  if (mark === '####' && HEADING.test(statement)) return undefined;
  // What is framed as the answer is the answer, readable as a number or not.
  const unread = mark === 'boxed' && statement.trim() !== '' ? null : undefined;
  if (unread === null && NO_NUMBER.test(statement)) return null;
  const sentence = statement.split(/[.!?]+(?=\s|$)/, 1)[0] as string;
  const all = findNumbers(sentence, { isOne: true });
  const first = all[0];
  if (first === undefined) return numberInWords(sentence) ?? unread;
  let end = sentence.length;
  for (const match of sentence.matchAll(REASON)) {
    if (match.index < first.end) continue;
    end = match.index;
    break;
  }
  const numbers = all.filter((number) => number.end <= end);
  const concluded = concludedNumber(sentence.slice(0, end), numbers);
  if (concluded !== undefined) return concluded;
  if (!FILLER.test(sentence.slice(0, first.index))) return numbers.at(-1);
  const isExpression = /^\s*[-+*\u00d7\u00f7/^]\s*\$?\d/.test(sentence.slice(first.end, end));
  return isExpression ? unread : first;
}

/** A heading in Markdown, or the statement of a part. */
const HEADING =
  /^\s*(?:step|part|case|section|method|calculat|explanation|example|problem|question|solution|given|note|understand|option)|:\s*$/i;

/** Framed expressions that have numbers and are none. */
const NO_NUMBER = /\\(?:sqrt|pi|sin|cos|tan|log|ln|infty|cup|begin|binom|theta)\b|[\u03c0\u221a\u221e]/;

/** The number after the last "=", or one that is called a total. */
function concludedNumber(clause: string, numbers: readonly FoundNumber[]): FoundNumber | undefined {
  const equals = Math.max(clause.lastIndexOf('='), clause.toLowerCase().lastIndexOf(' equals '));
  if (equals !== -1) {
    const after = numbers.find((number) => number.index > equals);
    if (after !== undefined) return after;
  }
  return numbers.findLast((number) =>
    /^\s*(?:[\w$]+\s+){0,2}(?:in total|altogether|in all)\b/i.test(clause.slice(number.end, number.end + 60)),
  );
}

function lastNumber(text: string): ReadNumber | null {
  for (const sentence of sentences(text).reverse()) {
    const numbers = findNumbers(sentence.slice(-1000));
    if (numbers.length === 0) continue;
    return concludedNumber(sentence.slice(-1000), numbers) ?? numbers.at(-1) ?? null;
  }
  return null;
}

const WORDS =
  'zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen'.split(
    ' ',
  );
const TENS = 'twenty thirty forty fifty sixty seventy eighty ninety'.split(' ');
const WORD = `(?:${[...TENS, ...WORDS].join('|')})`;
const IN_WORDS = new RegExp(
  `^[\\s"'*_(:-]{0,6}(?:(?:about|exactly|only|just) )?(${WORD}(?:[ -]${WORD})?)(?: (?!of\\b|or\\b|and\\b|more\\b|to\\b|hundred|thousand|million)[a-z]{1,20}){0,3}[\\s"'*_).]*$`,
  'i',
);

/** "twelve", "forty-two apples": a statement that is a number below a hundred in words, and what is counted. */
function numberInWords(sentence: string): FoundNumber | undefined {
  const match = IN_WORDS.exec(sentence);
  if (match === null) return undefined;
  const [tens, ones] = (match[1] as string).toLowerCase().split(/[ -]/) as [string, string?];
  const ten = TENS.indexOf(tens);
  const one = WORDS.indexOf(ones ?? '');
  if (ones !== undefined && (ten === -1 || one < 1 || one > 9)) return undefined;
  const value = ten === -1 ? WORDS.indexOf(tens) : (ten + 2) * 10 + Math.max(0, one);
  const index = match[0].indexOf(match[1] as string);
  const isPercent = false;
  return {
    value: { numerator: BigInt(value), denominator: 1n },
    isPercent,
    isLoose: false,
    index,
    end: match[0].length,
  };
}
