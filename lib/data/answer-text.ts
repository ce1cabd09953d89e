// What the readers of answers have in common: plain text out of Markdown and LaTeX, and places where a text states
// its answer. Every pattern is bounded, so that the time is linear in the length of the text.

/** How much of the text behind a statement is looked at. */
const MAX_STATEMENT = 300;

/** Markdown and LaTeX as plain characters. Calculator annotations <<6*7=42>> disappear. */
export function plainText(text: string): string {
  return text
    .replace(/\r\n?/g, '\n')
    .replace(/<<[^<>\n]{0,200}>>/g, '')
    .replace(/(\d)(?:[\u00a0\u202f\u2009]|\\[,;: ]|\{[,\s]\}|,\\!)(?=\d{3}(?!\d))/g, '$1,')
    .replace(/(\d)\s?\\[dtc]?frac/g, '$1 \\frac')
    .replace(/\\[dtc]?frac\s?(?:\{([^{}]{1,40})\}|(\d))\s?(?:\{([^{}]{1,40})\}|(\d))/g, '$1$2/$3$4')
    .replace(
      /\\(?:text(?:bf|it|rm|sf|tt)?|math(?:rm|bf|it|sf|tt)|mbox|operatorname|boldsymbol)\s?\{([^{}]{0,200})\}/g,
      '$1',
    )
    .replace(/\\(?:left|right|displaystyle|quad|qquad)(?![a-zA-Z])/g, ' ')
    .replace(/\^\{?\\circ\}?/g, '\u00b0')
    .replace(/\\approx(?![a-zA-Z])/g, '\u2248')
    .replace(/\\times(?![a-zA-Z])/g, '\u00d7')
    .replace(/\\cdot(?![a-zA-Z])/g, '\u00b7')
    .replace(/\{,\}/g, ',')
    .replace(/\\[,;!: ]/g, '')
    .replace(/\\[()[\]]/g, ' ')
    .replace(/\\([$%#&])/g, '$1')
    .replace(/\*\*|__|`/g, '')
    .replace(/[\u2212\u2010\u2011\uff0d\ufe63]|\u2013(?=[$\u20ac\u00a3]?\d)/g, '-')
    .replace(/\u2044/g, '/')
    .replace(/[\u2018\u2019]/g, "'")
    .replace(/[\u201c\u201d]/g, '"')
    .replace(/\uff1a/g, ':')
    .replace(/[\u00a0\u202f\u2009]/g, ' ');
}

/** A place at which the text states something: `text` is what follows, `index` where that begins. */
export interface Statement {
  index: number;
  text: string;
  /** What frames it, where something does. */
  mark?: 'boxed' | '####';
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
  for (const match of text.matchAll(/\\(?:boxed|fbox)\s{0,3}\{|####/g)) {
    const index = match.index + match[0].length;
    if (match[0] === '####') {
      statements.push({ index, text: firstLine(text.slice(index, index + MAX_STATEMENT)), mark: '####' });
      continue;
    }
    let depth = 1;
    let end = index;
    for (; end < text.length && end - index < MAX_STATEMENT; end += 1) {
      if (text[end] === '{') depth += 1;
      if (text[end] === '}') depth -= 1;
      if (depth === 0) break;
    }
    if (depth === 0) statements.push({ index, text: text.slice(index, end), mark: 'boxed' });
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

/**
 * A new problem: a base model that has answered goes on with the next one. At the start of a line, or after the end of a
 * sentence or number. Also the turn of another speaker, and marks of chat templates that came out as text.
 */
const NEW_PROBLEM =
  /(?:^|\n|[.!?)\]}"'*\d]\s{1,3})[ \t>#*_[]{0,8}(?:(?:New |Next )?(?:Question|Problem|Exercise)(?: ?#? ?\d{1,4})?\s?[:.\]*]|Q ?\d{0,4}[:.](?=\s)|(?:Human|User)\s?:)|\n[ \t]{0,3}#{1,6} ?(?:Question|Problem|Instruction|Exercise)(?: ?\d{1,4})?[ \t]{0,3}[:.]?[ \t]{0,3}(?=\n|$)|<\|(?:im_end|im_start|endoftext|eot_id|end_of_text|end|user)\|>|<\/s>|\[INST\]/g;

/** Texts of the answers that a response goes through: cut before each new problem that follows some text. */
function answersIn(text: string): string[] {
  const answers: string[] = [];
  let start = 0;
  for (const match of text.matchAll(NEW_PROBLEM)) {
    // The end of a sentence or number belongs to the answer before.
    const at = match.index + (/^[.!?)\]}"'*\d]/.test(match[0]) ? 1 : 0);
    if (text.slice(start, at).trim() === '') continue;
    answers.push(text.slice(start, at));
    start = at;
  }
  answers.push(text.slice(start));
  return answers;
}

/** Room for models that only restate problems. */
const MAX_ANSWERS = 50;

/** A text that says what is asked or planned, and no answer. */
const OPENING =
  /(?::|\.\.\.)\s*$|\b(?:let's|let us|let me|we need|we have to|i will|i'll|we will|first)\b[^.!?\n]{0,120}[.!?]?\s*$/i;

/**
 * What the first answer of a text says. A response can restate its problem before it answers, so that the first part
 * that decides counts, and all that follows it belongs to nobody: a decision in so many words (`stated`; undefined where
 * there is none), or (`concluded`) what a part that a new problem follows, or that ends the text, comes to. A thought
 * before the answer is left out.
 */
export function ofFirstAnswer<Answer>(
  text: string,
  isComplete: boolean,
  stated: (part: string, isComplete: boolean) => Answer | null | undefined,
  concluded: (part: string, isComplete: boolean) => Answer | null,
): Answer | null {
  const thought = text.lastIndexOf('</think>');
  const spoken = thought !== -1 && text.slice(thought + 8).trim() !== '' ? text.slice(thought + 8) : text;
  const parts = answersIn(spoken);
  if (parts.length > MAX_ANSWERS) parts.length = MAX_ANSWERS;
  for (const [i, part] of parts.entries()) {
    const isLast = i === parts.length - 1;
    const answer = stated(part, isComplete || !isLast);
    if (answer !== undefined) return answer;
    if (isLast || (i === 0 && !OPENING.test(part))) {
      const conclusion = concluded(part, isComplete || !isLast);
      if (conclusion !== null || isLast) return conclusion;
    }
  }
  return null;
}
