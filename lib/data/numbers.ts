import { plainText } from './answer-text.js';

// Numbers as people write them, with their exact values: 1,234.50, 1'234, 1.234,50, -3/4, 3 1/2, 1.2e3, 1.2 x 10^3, 2^10,
// a half as one character, $5 million, 5k, 50 %. Every pattern is bounded, so that the time is linear.

/** A number as an exact fraction in lowest terms; the denominator is positive. */
export interface Rational {
  numerator: bigint;
  denominator: bigint;
}

export interface FoundNumber {
  value: Rational;
  /** A percent sign or word follows; `value` is what stands before it. */
  isPercent: boolean;
  /** Read with a comma as decimal point, which can also part two numbers. */
  isLoose: boolean;
  index: number;
  end: number;
}

const VULGAR = '\u00bc-\u00be\u2150-\u215e';
/** A sign or currency, then what a number begins with. */
const START = new RegExp(
  `([-+]?\\s?(?:[A-Z]{1,2})?[$\u20ac\u00a3\u00a5\u20b9]\\s?-?|[-+])?(?=\\d|(?<!\\w)\\.\\d|[${VULGAR}])`,
  'g',
);

type Digits = readonly [whole: string, decimals: string];
interface Form {
  pattern: RegExp;
  digits: (match: RegExpExecArray) => Digits;
  isLoose?: boolean;
}

const form = (pattern: string, separators: string, more: Partial<Form> = {}): Form => ({
  pattern: new RegExp(pattern, 'y'),
  digits: (match) => [
    [...(match[1] ?? '')].filter((character) => !separators.includes(character)).join(''),
    match[2] ?? '',
  ],
  ...more,
});

/** Groups that plain spaces part, only where one number is expected: "5 100" can be two. */
const SPACED = form('([1-9]\\d{0,2}(?: \\d{3})+)(?![\\d/])(?:\\.(\\d{1,60}))?', ' ');
const FORMS: readonly Form[] = [
  form('(\\d{1,3}(?:,\\d{3})+)(?!\\d)(?:\\.(\\d{1,60}))?', ','),
  form("(\\d{1,3}(?:['_]\\d{3})+)(?!\\d)(?:\\.(\\d{1,60}))?", "'_"),
  form('(\\d{1,2}(?:,\\d{2})+,\\d{3})(?!\\d)(?:\\.(\\d{1,60}))?', ','),
  form('(\\d{1,3}(?:\\.\\d{3})+),(\\d{1,60})(?![\\d,])', '.'),
  form('(\\d{1,3}(?:\\.\\d{3}){2,})(?![\\d.]?\\d)()', '.'),
  form('(\\d{1,12}),(\\d{1,2})(?![\\d,])', '', { isLoose: true }),
  form('(\\d{1,60})(?:\\.(\\d{1,60}))?', ''),
  form('()\\.(\\d{1,60})', ''),
];

const SUPERSCRIPTS = '\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079';
const POWER = `\\s?(?:\\^\\s?(?:\\{\\s?([-+]?\\d{1,3})\\s?\\}|([-+]?\\d{1,3})(?!\\d))|([\u207a\u207b]?[${SUPERSCRIPTS}]{1,3}))`;
const after = (pattern: string) => new RegExp(pattern, 'iy');
const MIXED_VULGAR = after(`\\s?([${VULGAR}])`);
const MIXED = after('(?: | and )(\\d{1,9})\\s?/\\s?(\\d{1,30})(?![\\d/])');
const OVER = after('\\s?/\\s?(\\d{1,3}(?:,\\d{3})+|\\d{1,30})(?:\\.(\\d{1,30}))?(?!\\d)');
const EXPONENT = after('e([-+]?\\d{1,3})(?!\\w)');
const TIMES_TEN = after(`\\s?(?:[*\u00d7\u22c5\u00b7x]|\\\\times|\\\\cdot)\\s?10${POWER}`);
const RAISED = after(POWER);
const SCALE = after('(?: |-)(hundred|thousand|million|billion|trillion)\\b|(k)\\b');
const PERCENT = after('\\s?(?:%|per ?cent\\b)');
/** Times, ratios, dates, and factors of something that is no number. */
const NO_NUMBER = after(':\\d|/\\d|\\s?(?:\\\\?pi\\b|\u03c0|\u221a|\\\\?sqrt\\b)|[xyz](?![a-z\\d])');

const SCALES: Readonly<Record<string, bigint>> = {
  hundred: 100n,
  thousand: 1_000n,
  k: 1_000n,
  million: 1_000_000n,
  billion: 1_000_000_000n,
  trillion: 1_000_000_000_000n,
};

/** All numbers of a plain text (see plainText), in order. */
export function findNumbers(text: string, options: { isOne?: boolean } = {}): FoundNumber[] {
  const numbers: FoundNumber[] = [];
  START.lastIndex = 0;
  for (let start = START.exec(text); start !== null; start = START.exec(text)) {
    const [prefix = ''] = start;
    const at = start.index + prefix.length;
    const read = readAt(text, at, options.isOne === true);
    START.lastIndex = Math.max(read.end, at + 1);
    const before = text.slice(Math.max(0, start.index - 2), start.index);
    if (read.value === undefined || isPartOfMore(before, prefix)) continue;
    // "10-3" subtracts, "-3" is negative.
    const isNegative = prefix.includes('-') && !/[\w)\]}]$/.test(before);
    const value = isNegative ? { ...read.value, numerator: -read.value.numerator } : read.value;
    numbers.push({ ...read, value, index: start.index });
  }
  return numbers;
}

/** Part of a word (x2, B12), of a longer string of digits, of a time, or an exponent or index. */
const isPartOfMore = (before: string, prefix: string) =>
  (prefix === '' && /[A-Za-z\d_]$/.test(before)) || /\d:$|[_^]\{?$/.test(before);

interface Read {
  value: Rational | undefined;
  isPercent: boolean;
  isLoose: boolean;
  end: number;
}

function readAt(text: string, at: number, isOne: boolean): Read {
  const none = (end: number): Read => ({ value: undefined, isPercent: false, isLoose: false, end });
  let end = at;
  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = end;
    const match = pattern.exec(text);
    if (match !== null) end += match[0].length;
    return match;
  };
  // "(2,5)" and "1,2,3" list numbers.
  const mayBeLoose = !/(?:[([]|\d,\s?)$/.test(text.slice(Math.max(0, at - 3), at));
  let value: Rational | undefined;
  let isLoose = false;
  for (const one of isOne ? [SPACED, ...FORMS] : FORMS) {
    if (one.isLoose === true && !mayBeLoose) continue;
    const match = take(one.pattern);
    if (match === null) continue;
    value = decimal(one.digits(match));
    isLoose = one.isLoose === true;
    break;
  }
  // The rest of a string of digits that is too long to be a number.
  if (value !== undefined && /\d/.test(text[end] ?? '')) return none(end);
  const vulgar = take(MIXED_VULGAR);
  if (vulgar !== null) value = add(value, vulgarFraction(vulgar[1] as string));
  if (value === undefined) return none(end);
  if (vulgar === null) value = withFraction(value, take);
  if (value === undefined) return none(end);
  value = withPower(value, take);
  const scale = take(SCALE);
  if (scale !== null) {
    const factor = SCALES[(scale[1] ?? scale[2] ?? '').toLowerCase()] ?? 1n;
    value = lowest(value.numerator * factor, value.denominator);
  }
  const isPercent = take(PERCENT) !== null;
  const more = take(NO_NUMBER);
  return more === null ? { value, isPercent, isLoose, end } : none(end);
}

type Take = (pattern: RegExp) => RegExpExecArray | null;

/** "3 1/2" and "3/4"; undefined where it divides by zero. */
function withFraction(value: Rational, take: Take): Rational | undefined {
  const mixed = value.denominator === 1n ? take(MIXED) : null;
  if (mixed !== null) {
    const below = BigInt(mixed[2] as string);
    return below === 0n ? undefined : add(value, lowest(BigInt(mixed[1] as string), below));
  }
  const over = take(OVER);
  if (over === null) return value;
  const below = decimal([(over[1] as string).replaceAll(',', ''), over[2] ?? '']);
  if (below.numerator === 0n) return undefined;
  return lowest(value.numerator * below.denominator, value.denominator * below.numerator);
}

/** "1.2e3", "1.2 x 10^3" and "2^10". */
function withPower(value: Rational, take: Take): Rational {
  const ten = take(EXPONENT)?.[1] ?? exponentOf(take(TIMES_TEN));
  if (ten !== undefined) return times(value, power({ numerator: 10n, denominator: 1n }, Number(ten)));
  const exponent = exponentOf(take(RAISED));
  return exponent === undefined ? value : power(value, Number(exponent));
}

function exponentOf(match: RegExpExecArray | null): string | undefined {
  if (match === null) return undefined;
  const [, braced, bare, raised] = match;
  return (
    braced ??
    bare ??
    [...(raised as string)]
      .map((character) =>
        character === '\u207b' ? '-' : character === '\u207a' ? '' : String(SUPERSCRIPTS.indexOf(character)),
      )
      .join('')
  );
}

const decimal = ([whole, decimals]: Digits): Rational =>
  lowest(BigInt(`${whole}${decimals}` || '0'), 10n ** BigInt(decimals.length));

const add = (a: Rational | undefined, b: Rational): Rational =>
  a === undefined
    ? b
    : lowest(a.numerator * b.denominator + b.numerator * a.denominator, a.denominator * b.denominator);

const times = (a: Rational, b: Rational): Rational =>
  lowest(a.numerator * b.numerator, a.denominator * b.denominator);

/** Zero to a negative power stays zero. */
function power({ numerator, denominator }: Rational, exponent: number): Rational {
  const n = BigInt(Math.abs(exponent));
  if (exponent >= 0 || numerator === 0n) return { numerator: numerator ** n, denominator: denominator ** n };
  return { numerator: denominator ** n, denominator: numerator ** n };
}

/** The fraction that one character is, by its compatibility decomposition: a digit, the fraction slash, a digit. */
function vulgarFraction(character: string): Rational {
  const [above, below] = character.normalize('NFKC').split('\u2044');
  return lowest(BigInt(above as string), BigInt(below || '1'));
}

function lowest(numerator: bigint, denominator: bigint): Rational {
  let [a, b] = [numerator < 0n ? -numerator : numerator, denominator];
  while (b !== 0n) [a, b] = [b, a % b];
  return a === 0n
    ? { numerator: 0n, denominator: 1n }
    : { numerator: numerator / a, denominator: denominator / a };
}

/** What may stand around a number that is a label: "#### 18", "\boxed{18}", "$18$", "18." and units. */
const UNIT =
  '(?:dollars?|cents?|euros?|pounds?|usd|eur|gbp|\u20ac|\u00a3|\u00a2|degrees?|\u00b0[cf]?|seconds?|secs?|minutes?|mins?|hours?|hrs?|days?|weeks?|months?|years?|' +
  '(?:centi|milli|kilo)?(?:meters?|metres?|grams?|lit(?:er|re)s?)|[cmk]?m|inch(?:es)?|in|feet|foot|ft|yards?|miles?|mi|k?g|kgs|lbs?|oz|ounces?|m?l|gallons?|mph|km\\/h|m\\/s|square|cubic|sq|units?|points?|people|items?)';
const AROUND = new RegExp(
  `^\\s*(?:\\s*(?:per\\s+)?${UNIT}\\b\\.?[\u00b2\u00b3]?(?:\\^\\{?[23]\\}?)?){0,3}\\s*\\.?\\s*$`,
  'i',
);

/** A text that is one number and nothing else but signs, currency, percent, usual units and a frame. */
export function parseNumber(text: string): FoundNumber | undefined {
  const plain = unframed(plainText(text));
  const [found, ...others] = findNumbers(plain, { isOne: true });
  if (found === undefined || others.length > 0 || found.isLoose || found.index !== 0) return undefined;
  const rest = plain.slice(found.end);
  return AROUND.test(rest.replace(/^\u00b0/, ' \u00b0')) || /^\s*$/.test(rest) ? found : undefined;
}

function unframed(text: string): string {
  let inner = text.trim();
  for (let previous = ''; previous !== inner; ) {
    previous = inner;
    inner = inner
      .replace(/^####\s*/, '')
      .replace(/^\\boxed\s?\{([^{}]*)\}\.?$/, '$1')
      .replace(/^\$([^$]*)\$\.?$/, '$1')
      .replace(/^(?:USD|EUR|GBP)\s?(?=[\d.-])/, '')
      .trim();
  }
  return inner;
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

const isSame = (a: Rational, b: Rational) => a.numerator === b.numerator && a.denominator === b.denominator;

/**
 * Whether two numbers are the same value. 50 % is 50, as every published grader has it, and also 0.5, as the graders have
 * it that compute (math-verify, and with it TRL's accuracy reward).
 */
export function equalNumbers(
  a: Pick<FoundNumber, 'value' | 'isPercent'>,
  b: Pick<FoundNumber, 'value' | 'isPercent'>,
): boolean {
  if (isSame(a.value, b.value)) return true;
  if (a.isPercent === b.isPercent) return false;
  const [percent, plain] = a.isPercent ? [a.value, b.value] : [b.value, a.value];
  return isSame(lowest(percent.numerator, percent.denominator * 100n), plain);
}
