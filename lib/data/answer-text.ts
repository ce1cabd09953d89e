// What the readers of answers have in common: plain text out of Markdown and LaTeX, and places where a text states
// its answer. Every pattern is bounded, so that the time is linear in the length of the text.

/** How much of the text behind a statement is looked at. */
const MAX_STATEMENT = 300;

/** Markdown and LaTeX as plain characters. Calculator annotations <<6*7=42>> disappear. */
export function plainText(text: string): string {
  return text
    .replace(/\r\n?/g, '\n')
    .replace(/<<[^<>\n]{0,200}>>/g, '')
    .replace(/\\[dt]?frac\s?\{([^{}]{1,40})\}\s?\{([^{}]{1,40})\}/g, '$1/$2')
    .replace(/\\(?:text|mathrm|mathbf|textbf|mbox)\s?\{([^{}]{0,200})\}/g, '$1')
    .replace(/\{,\}/g, ',')
    .replace(/\\[,;!: ]/g, '')
    .replace(/\\[()[\]]/g, ' ')
    .replace(/\\([$%#&])/g, '$1')
    .replace(/\*\*|__|`/g, '')
    .replace(/[\u2212\u2010\u2011\uff0d]/g, '-')
    .replace(/[\u2018\u2019]/g, "'")
    .replace(/[\u201c\u201d]/g, '"')
    .replace(/\uff1a/g, ':')
    .replace(/[\u00a0\u202f\u2009]/g, ' ');
}

/** A place at which the text states something: `text` is what follows, `index` where that begins. */
export interface Statement {
  index: number;
  text: string;
}

const BE = "(?:is|are|was|were|equals|will be|would be|must be|should be|has to be|comes out to|comes to|'s)";

/** The noun; then an aside: "to the question", "here", ", therefore,"; then the verb or sign. */
const statementPattern = (noun: string) =>
  new RegExp(
    `\\b(?:${noun})\\b(?:\\([^()\\n]{0,20}\\))?(?:,? [^.:;=\\n]{1,80}?)??` +
      `\\s{0,3}(?:\\b${BE}\\b:?|[:=\\u2013\\u2014\\u2192]>?|>|\\s--?\\s)`,
    'gi',
  );

/** "The answer is", "Final answer:", "answer =", "Ans -". */
export const ANSWER_IS = statementPattern('answers?|ans|final (?:result|solution|value|total)');
/** Also "the correct option would be", "my choice is". */
export const CHOICE_IS = statementPattern(
  'answers?|ans|options?|choices?|response|solution|result|alternative',
);

/** Statements of the answer by the word for it, in order; those that deny, suppose or ask are left out. */
export function answerStatements(text: string, pattern: RegExp): Statement[] {
  const statements: Statement[] = [];
  for (const match of text.matchAll(pattern)) {
    if (!isAsserted(text, match.index)) continue;
    statements.push(statementAt(text, match.index + match[0].length));
  }
  return statements;
}

/** Contents of \boxed{...} and what follows "####" on its line. */
export function markedStatements(text: string): Statement[] {
  const statements: Statement[] = [];
  for (const match of text.matchAll(/\\boxed\s{0,3}\{|####/g)) {
    const index = match.index + match[0].length;
    if (match[0] === '####') {
      statements.push({ index, text: firstLine(text.slice(index, index + MAX_STATEMENT)) });
      continue;
    }
    let depth = 1;
    let end = index;
    for (; end < text.length && end - index < MAX_STATEMENT; end += 1) {
      if (text[end] === '{') depth += 1;
      if (text[end] === '}') depth -= 1;
      if (depth === 0) break;
    }
    if (depth === 0) statements.push({ index, text: text.slice(index, end) });
  }
  return statements;
}

/** The text from `index` on: the rest of the line, or the next line that has text where the rest is empty. */
export function statementAt(text: string, index: number): Statement {
  let start = index;
  const blank = /^[\s:*_>"'-]*\n\s*/.exec(text.slice(index, index + 40));
  if (blank !== null) start += blank[0].length;
  return { index: start, text: firstLine(text.slice(start, start + MAX_STATEMENT)) };
}

function firstLine(text: string): string {
  const end = text.indexOf('\n');
  return end === -1 ? text : text.slice(0, end);
}

const DENIED = /\b(?:not|never|cannot|nor|\w{2,8}n't)\s+(?:(?!but|so|though|yet|however)\w+\s+){0,4}$/i;
const SUPPOSED = /\b(?:if|suppose|supposing|assume|assuming|whether|unless|until)\s+(?:\w+\s+){0,4}$/i;
const ASKED = /(?:^|[.!?\n:]\s{0,3})(?:is|are|was|could|would|might|can|should|may)\s+(?:[\w']+\s+){0,5}$/i;

/** False where the words before `index` deny, suppose or ask what follows. */
export function isAsserted(text: string, index: number): boolean {
  const before = text.slice(Math.max(0, index - 60), index);
  return !DENIED.test(before) && !SUPPOSED.test(before) && !ASKED.test(before);
}

/** Sentences and lines, without their ends. */
export function sentences(text: string): string[] {
  return text.split(/[.!?]+(?=\s|$)|\n+/).filter((sentence) => sentence.trim() !== '');
}
