import {
  ANSWER_IS,
  answerStatements,
  markedStatements,
  plainText,
  sentences,
  type Statement,
} from './answer-text.js';

// Reads the number that a worked solution arrives at. The last statement of an answer wins; without one, the last
// sentence that has a number.

/** A number as an exact fraction in lowest terms; the denominator is positive. */
export interface Rational {
  numerator: bigint;
  denominator: bigint;
}

interface FoundNumber {
  value: Rational;
  index: number;
  end: number;
}

/** The last number that the text states as its answer; null when it states none. */
export function readNumber(text: string, isComplete: boolean): Rational | null {
  const plain = plainText(text);
  const statements: Statement[] = [
    ...markedStatements(plain),
    ...answerStatements(plain, ANSWER_IS),
    ...labelledLines(plain),
  ];
  statements.sort((a, b) => b.index - a.index);
  for (const statement of statements) {
    const found = statedNumber(statement.text);
    if (found === undefined) continue;
    // The rest of a number may have been cut off.
    const reachesEnd = statement.index + found.end >= plain.trimEnd().length;
    if (isComplete || !reachesEnd) return found.value;
  }
  // An unfinished solution that has not stated its answer has none.
  return isComplete ? lastNumber(plain) : null;
}

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
function statedNumber(statement: string): FoundNumber | undefined {
  if (/^\W{0,4}(?:not|never)\b/i.test(statement)) return undefined;
  const sentence = statement.split(/[.!?]+(?=\s|$)/, 1)[0] as string;
  const all = findNumbers(sentence);
  const first = all[0];
  if (first === undefined) return undefined;
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
  return isExpression ? undefined : first;
}

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

function lastNumber(text: string): Rational | null {
  for (const sentence of sentences(text).reverse()) {
    const numbers = findNumbers(sentence.slice(-1000));
    if (numbers.length === 0) continue;
    return (concludedNumber(sentence.slice(-1000), numbers) ?? numbers.at(-1))?.value ?? null;
  }
  return null;
}

// A sign or currency, digits with or without thousands separators, decimals, a fraction, a scale word.
const NUMBER =
  /([-+]?\s?[$\u20ac\u00a3]\s?-?|[-+])?(?:(\d{1,3}(?:,\d{3})+(?!\d)|\d{1,60})(\.\d{1,60})?|(\.\d{1,60}))(?:(?: (\d{1,9}))?\s?\/\s?(\d{1,30}))?(?: (thousand|million|billion)\b)?/gi;

const SCALES: ReadonlyMap<string, bigint> = new Map([
  ['thousand', 1_000n],
  ['million', 1_000_000n],
  ['billion', 1_000_000_000n],
]);

function findNumbers(text: string): FoundNumber[] {
  const numbers: FoundNumber[] = [];
  for (const match of text.matchAll(NUMBER)) {
    const [all, prefix = '', whole = '', decimals = match[4] ?? '', , second, denominator, scale] = match;
    const before = text[match.index - 1] ?? '';
    // Part of a word (x2, B12) or of a longer string of digits.
    if (prefix === '' && /[A-Za-z\d_]/.test(before)) continue;
    const value = toRational(whole.replaceAll(',', ''), decimals, second, denominator, scale?.toLowerCase());
    if (value === undefined) continue;
    // "10-3" subtracts, "-3" is negative.
    const isNegative = prefix.includes('-') && !/[\w)\]]/.test(before);
    if (isNegative) value.numerator = -value.numerator;
    numbers.push({ value, index: match.index, end: match.index + all.length });
  }
  return numbers;
}

function toRational(
  whole: string,
  decimals: string,
  second: string | undefined,
  denominator: string | undefined,
  scale: string | undefined,
): Rational | undefined {
  const digits = decimals.slice(1);
  let value = { numerator: BigInt(`${whole}${digits}` || '0'), denominator: 10n ** BigInt(digits.length) };
  if (denominator !== undefined) {
    const bottom = BigInt(denominator);
    if (bottom === 0n) return undefined;
    value =
      second === undefined
        ? { numerator: value.numerator, denominator: value.denominator * bottom }
        : { numerator: value.numerator * bottom + BigInt(second), denominator: bottom }; // 3 1/2
  }
  return lowest(value.numerator * (SCALES.get(scale ?? '') ?? 1n), value.denominator);
}

function lowest(numerator: bigint, denominator: bigint): Rational {
  let [a, b] = [numerator < 0n ? -numerator : numerator, denominator];
  while (b !== 0n) [a, b] = [b, a % b];
  return a === 0n
    ? { numerator: 0n, denominator: 1n }
    : { numerator: numerator / a, denominator: denominator / a };
}

/** A text that is one number and nothing else but signs, currency, percent and white space. */
export function parseNumber(text: string): Rational | undefined {
  const plain = plainText(text).trim().replace(/\s?%$/, '');
  const [found, ...others] = findNumbers(plain);
  return found !== undefined && others.length === 0 && found.index === 0 && found.end === plain.length
    ? found.value
    : undefined;
}

/** 42, -3.5, or 7/2 where no decimal is exact. */
export function formatNumber({ numerator, denominator }: Rational): string {
  let scale = 1n;
  for (let digits = 0; digits <= 20; digits += 1, scale *= 10n) {
    if (scale % denominator !== 0n) continue;
    const scaled = (numerator * scale) / denominator;
    if (digits === 0) return String(scaled);
    const padded = String(scaled < 0n ? -scaled : scaled).padStart(digits + 1, '0');
    return `${scaled < 0n ? '-' : ''}${padded.slice(0, -digits)}.${padded.slice(-digits)}`;
  }
  return `${numerator}/${denominator}`;
}
