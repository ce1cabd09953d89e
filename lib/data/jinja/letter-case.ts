import { notSupported } from './errors.js';

// Python's upper and lower case, where they are not JavaScript's.

export const lower = (text: string): string => text.toLowerCase();

/** Characters whose title case is neither their upper case nor made of it. */
const TITLE_CASE: ReadonlyMap<string, string> = new Map([
  ['\u0149', '\u02bcN'],
  ...['\u01c4\u01c5\u01c6', '\u01c7\u01c8\u01c9', '\u01ca\u01cb\u01cc', '\u01f1\u01f2\u01f3'].flatMap(
    (forms) => Array.from(forms, (form): [string, string] => [form, forms.charAt(1)]),
  ),
]);
/** The iota under a Greek letter, which its title case keeps there. */
const SUBSCRIPT_IOTA = '\u0345';

function titleCase(char: string): string {
  const known = TITLE_CASE.get(char);
  if (known !== undefined) return known;
  // Georgian letters have upper case forms that titles do not use.
  if (/[\u10d0-\u10ff]/.test(char)) return char;
  const parts = char.normalize('NFD');
  if (char !== SUBSCRIPT_IOTA && parts.includes(SUBSCRIPT_IOTA)) {
    const spelt = parts.replace(SUBSCRIPT_IOTA, '').toUpperCase().normalize('NFC') + SUBSCRIPT_IOTA;
    const whole = spelt.normalize('NFC');
    return Array.from(whole).length === 1 ? whole : spelt;
  }
  const [first = '', ...rest] = Array.from(char.toUpperCase());
  return first + rest.join('').toLowerCase();
}

/** The lower case of every character, where a capital sigma at the end of a word has a form of its own. */
function lowerEach(text: string): string[] {
  const chars = Array.from(text);
  if (!text.includes('\u03a3')) return chars.map(lower);
  let before = '';
  return chars.map((char) => {
    const after = text.slice(before.length + char.length);
    const isLast =
      /\p{Cased}\p{Case_Ignorable}*$/u.test(before) && !/^\p{Case_Ignorable}*\p{Cased}/u.test(after);
    before += char;
    if (char !== '\u03a3') return lower(char);
    return isLast ? '\u03c2' : '\u03c3';
  });
}

export function capitalize(text: string): string {
  const [, ...rest] = lowerEach(text);
  const [first] = text;
  return first === undefined ? '' : titleCase(first) + rest.join('');
}

/** A word begins with every cased letter that follows none: "they're" has two. */
export function title(text: string): string {
  const lowered = lowerEach(text);
  let isInWord = false;
  return Array.from(text, (char, i) => {
    const written = isInWord ? lowered[i] : titleCase(char);
    isInWord = /\p{Cased}/u.test(char);
    return written;
  }).join('');
}

const UPPER_OR_TITLE = /[\p{Uppercase}\p{Lt}]/u;
const LOWER = /\p{Lowercase}/u;

/** Python's istitle(). */
export function isTitle(text: string): boolean {
  let isInWord = false;
  let hasCase = false;
  for (const char of text) {
    const isUpper = UPPER_OR_TITLE.test(char);
    const isLower = !isUpper && LOWER.test(char);
    if ((isUpper && isInWord) || (isLower && !isInWord)) return false;
    isInWord = isUpper || isLower;
    hasCase ||= isInWord;
  }
  return hasCase;
}

export function swapCase(text: string): string {
  const lowered = lowerEach(text);
  return Array.from(text, (char, i) => {
    if (/\p{Uppercase}/u.test(char)) return lowered[i];
    return LOWER.test(char) ? char.toUpperCase() : char;
  }).join('');
}

export function caseFold(text: string): string {
  if (/[^\0-\x7f\u00df]/.test(text)) throw notSupported('casefold of letters beyond ASCII');
  return lower(text).replaceAll('\u00df', 'ss');
}
