import {
  answerStatements,
  CHOICE_IS,
  isAsserted,
  markedStatements,
  ofFirstAnswer,
  plainText,
  sentences,
  type Statement,
} from './answer-text.js';

// Reads which option of a multiple-choice problem a response decides for. The last decision wins. The difficulty is
// what is not a decision: the article "a", options that are discussed, denied, supposed or asked about.

/** A decision; `letter` is null when the statement names several options. */
interface Decision {
  index: number;
  end: number;
  letter: string | null;
}

/** The key of the option that the first answer of a text decides for; null when it decides for none or for several. */
export function readChoice(
  text: string,
  choices: Readonly<Record<string, string>>,
  isComplete: boolean,
): string | null {
  const stated = (part: string, isWhole: boolean): string | null | undefined => {
    const reader = new ChoiceReader(part, choices);
    const decisions = reader.decisions().filter(({ end }) => isWhole || end < part.trimEnd().length);
    const last = decisions.reduce<Decision | undefined>(
      (latest, decision) => (latest === undefined || decision.index >= latest.index ? decision : latest),
      undefined,
    );
    return last === undefined ? undefined : last.letter;
  };
  const concluded = (part: string, isWhole: boolean) =>
    isWhole ? new ChoiceReader(part, choices).lastMention() : null;
  return ofFirstAnswer(plainText(text), isComplete, stated, concluded);
}

/** Words before the letter: "option B", "(the) letter B", "most likely B". */
const LEAD_IN =
  /^(?:[\s:"'*_<>${\u2013\u2014-]|\[|(?:the|option|choice|letter|answer|number|alternative|most likely|definitely|clearly|probably|actually|indeed|therefore|thus|then|simply|just|either|correct|be|that|it is|it's)\b)*/i;
const NOT = /^(?:not|never|neither|n't|none of)\b/i;
const INSTEAD = /\b(?:but|instead|rather|it is|it's|it must be|is)\b/gi;
/** Verbs of deciding. */
const DECIDE =
  /\b(?:choose|chose|choosing|pick|picked|select|selected|go with|going with|opt for|vote for|settle on|say|conclude|leav(?:es?|ing)(?: us| me)?(?: with)?|narrows? it down to|answer with)(?: (?:only|that it is|it's|it is|on))?[\s:]/gi;
const IT_IS =
  /\b(?:it|this|that)(?:'s| is| must be| has to be| should be| would be| can only be) (?:clearly |definitely |probably |therefore )?/gi;
const HENCE = /\b(?:so|therefore|thus|hence|consequently)\b,?[\s:]/gi;
/** "... is correct", "... is the best answer", "... would be the most likely". */
const IS_RIGHT = new RegExp(
  `^[\\s"'*,]*(?:${[
    '(?:is|was|would be|must be|has to be|should be|seems|seems to be|appears to be|looks|sounds|remains)' +
      '(?: (?:clearly|definitely|probably|therefore|indeed|also|then|thus|likely|obviously))?' +
      '(?: to be)?(?: (?:the|our|my|a))?(?: (?:only|single|one|most|very|more))?' +
      '(?: (?:likely|logical|appropriate|accurate|reasonable|plausible|suitable|sensible))?' +
      ' (?:correct|right|best|true|answer|likely|accurate|appropriate|logical|suitable)',
    '(?:fits|matches|works|answers the question) (?:the )?best',
    'makes (?:the )?most sense',
  ].join('|')})\\b`,
  'i',
);

class ChoiceReader {
  readonly text: string;
  readonly #letters: string;
  readonly #line: RegExp;
  readonly #options: readonly { letter: string; text: string }[];

  constructor(text: string, choices: Readonly<Record<string, string>>) {
    this.text = text;
    this.#letters = Object.keys(choices).join('');
    const anyCase = this.#letters + this.#letters.toLowerCase();
    this.#line = new RegExp(
      `^[ \\t>#*-]{0,8}(?:option |choice |answer )?[("'[]{0,2}([${anyCase}])([)"'\\]]{0,2}[.:,]?)[ \\t]*([^\\n]{0,300})$`,
      'gim',
    );
    // Longest first, so that "warm water" is not read as "warm".
    this.#options = Object.entries(choices)
      .map(([letter, option]) => ({ letter, text: normalizeOption(option) }))
      .filter((option) => option.text !== '')
      .sort((a, b) => b.text.length - a.text.length);
  }

  decisions(): Decision[] {
    const found: Decision[] = [];
    const read = (statements: readonly Statement[], withText: boolean) => {
      for (const statement of statements) {
        const decision = this.#stated(statement, withText);
        if (decision !== undefined) found.push(decision);
      }
    };
    read(markedStatements(this.text), true);
    read(answerStatements(this.text, CHOICE_IS), true);
    read(answerStatements(this.text, DECIDE), true);
    read(answerStatements(this.text, IT_IS), false);
    read(this.#conclusions(), false);
    found.push(...this.#praised(), ...this.#lines().decisions);
    const whole = this.#optionIs(this.text);
    if (whole !== undefined) found.push({ index: 0, end: this.text.length, letter: whole });
    return found;
  }

  /** Without a decision: the one option that the last sentence names. */
  lastMention(): string | null {
    if (this.#lines().isList) return null;
    const last = sentences(this.text).at(-1)?.slice(-600) ?? '';
    if (/\b(?:not|never|cannot|neither|nor|\w{2,8}n't|incorrect|wrong|false|or)\b/i.test(last)) return null;
    const pattern = new RegExp(
      `\\b(?:option|choice|answer|letter) \\(?([${this.#letters}])\\b|\\(([${this.#letters}])\\)`,
      'gi',
    );
    const named = new Set(
      [...last.matchAll(pattern)].map((match) => (match[1] ?? match[2] ?? '').toUpperCase()),
    );
    if (named.size === 1) return [...named][0] as string;
    if (named.size > 1) return null;
    let rest = ` ${normalizeOption(last)} `;
    const mentioned: string[] = [];
    for (const { letter, text } of this.#options) {
      if (!rest.includes(` ${text} `)) continue;
      mentioned.push(letter);
      rest = rest.replaceAll(` ${text} `, ' | ');
    }
    return mentioned.length === 1 ? (mentioned[0] as string) : null;
  }

  /** What a statement decides for: a letter, or (`withText`) the text of an option. */
  #stated(statement: Statement, withText: boolean): Decision | undefined {
    const { index, text } = statement;
    const lead = (LEAD_IN.exec(text) as RegExpExecArray)[0].length;
    const rest = text.slice(lead);
    if (NOT.test(rest)) {
      const clause = rest.slice(0, 200);
      for (const match of clause.matchAll(INSTEAD)) {
        const start = match.index + match[0].length;
        const decision = this.#stated({ index: index + lead + start, text: clause.slice(start) }, withText);
        if (decision !== undefined) return decision;
      }
      return undefined;
    }
    const read = this.#letterAt(
      rest,
      /\b(?:option|choice|letter|alternative)\s*[("'*]*$/i.test(text.slice(0, lead)),
    );
    if (read !== undefined) {
      const end = index + lead + read.length;
      if (DENIAL.test(rest.slice(read.length))) return undefined;
      return { index, end, letter: this.#isSeveral(rest.slice(read.length)) ? null : read.letter };
    }
    if (!withText) return undefined;
    const option = this.#optionAtStart(rest);
    return option === undefined ? undefined : { index, end: index + lead + rest.length - 1, letter: option };
  }

  /**
   * A letter at the start of `text`: "(B)", "B)", "B.", "B because". A bare "A" before a word is the article unless
   * the word goes on about the choice; small letters count only where nothing follows.
   */
  #letterAt(text: string, isNamed = false): { letter: string; length: number } | undefined {
    const match = /^([("'[{]{0,2})([A-Za-z1-9])([)"'\]}>$]{0,2})/.exec(text);
    if (match === null) return undefined;
    const [all, open = '', character = '', close = ''] = match;
    const letter = character.toUpperCase();
    if (!this.#letters.includes(letter)) return undefined;
    const next = text.slice(all.length);
    if (/^[A-Za-z0-9_]/.test(next) || /^['-][A-Za-z0-9]/.test(next) || /^\.\d/.test(next)) return undefined;
    const isBracketed = close !== '' && (open !== '' || close.startsWith(')'));
    if (isBracketed || isNamed) return { letter, length: all.length };
    const isAtEnd = /^\s*(?:$|[.,:;!?)\]"'*<\\$\n/\u2013\u2014]|-\s)/.test(next);
    if (character !== letter) return isAtEnd ? { letter, length: all.length } : undefined;
    const couldBeWord = letter === 'A' || letter === 'I';
    const goesOn =
      /^\s+(?:because|since|as|due|for|which|is|would|seems|based|given|and|or|but|rather|over|\(|-|\u2013|\u2014|=)/i;
    if (/[1-9]/.test(letter))
      return isAtEnd || goesOn.test(next) ? { letter, length: all.length } : undefined;
    if (couldBeWord && !isAtEnd && !goesOn.test(next)) return undefined;
    return { letter, length: all.length };
  }

  /** "B or C", "B and C", "B, C": more than one option is named. "B and not C" and "B, not C" name one. */
  #isSeveral(after: string): boolean {
    const next =
      /^[)\]."'*]*\s*(?:,?\s*(?:and\/or|and|or|&|\/)|,)\s*(?:also\s+|possibly\s+|option\s+|maybe\s+)?/i.exec(
        after,
      );
    if (next === null) return false;
    const other = after.slice(next[0].length);
    // The text ends where the other option would stand.
    if (/\b(?:and|or)\b/i.test(next[0]) && /^[\s.]*$/.test(other)) return true;
    const letter = this.#letterAt(other);
    if (letter === undefined) return false;
    // "B, A is wrong" goes on about another option.
    return !/^[)\]."'*]*\s+(?:is|are|was|would|does|can|has)\b/.test(other.slice(letter.length));
  }

  /** "So B." and "Therefore, (B)": the letter and the end of the sentence. */
  #conclusions(): Statement[] {
    return answerStatements(this.text, HENCE).filter(({ text }) =>
      /^[\s("'[*]*(?:option |choice |answer )?[("'[*]{0,2}[A-Za-z1-9][)"'\]*]{0,2}\s*(?:$|[.!]|,)/.test(text),
    );
  }

  /** "B is correct", "(B) is the best answer", "option B, bat, seems right". */
  #praised(): Decision[] {
    const found: Decision[] = [];
    const pattern = new RegExp(`(?<![\\w'-])[("'[]{0,2}([${this.#letters}])(?![\\w'])`, 'g');
    for (const match of this.text.matchAll(pattern)) {
      if (!isAsserted(this.text, match.index)) continue;
      const start = match.index + match[0].length;
      const after = this.text.slice(start, start + 240);
      const verb = this.#skipOption(after);
      const praise = IS_RIGHT.exec(after.slice(verb));
      if (praise === null) continue;
      const isSeveral = /\b(?:and|or)\s[("'[]{0,2}$/i.test(
        this.text.slice(Math.max(0, match.index - 8), match.index + 1),
      );
      const letter = isSeveral && this.#namesBefore(match.index) ? null : (match[1] as string);
      found.push({ index: match.index, end: start + verb + praise[0].length - 1, letter });
    }
    return found;
  }

  #namesBefore(index: number): boolean {
    const before = this.text.slice(Math.max(0, index - 20), index);
    return new RegExp(`(?<![\\w'])[${this.#letters}][)"'\\]]?,?\\s+(?:and|or)\\s*[("'[]{0,2}$`).test(before);
  }

  /** Length of brackets, the option's own text and an aside between a letter and its verb. */
  #skipOption(after: string): number {
    let length = (/^[)\]."':,\s-]*/.exec(after) as RegExpExecArray)[0].length;
    const aside = /^\([^()\n]{1,120}\)/.exec(after.slice(length));
    if (aside !== null) return length + aside[0].length;
    const rest = after.slice(length).toLowerCase();
    const option = this.#options.find(({ text }) =>
      normalizeOption(rest.slice(0, text.length + 8)).startsWith(text),
    );
    if (option !== undefined) {
      const at = rest.indexOf(option.text);
      if (at !== -1 && at <= 5) length += at + option.text.length;
    } else if (
      length > 0 &&
      !/^\s*$/.test(after.slice(0, length)) &&
      !/^[)\]"']*\s*$/.test(after.slice(0, length))
    ) {
      return 0;
    }
    return length;
  }

  /** Lines that are an option: "B", "(B)", "B) bat", "Option B". Several that differ are a list, not a decision. */
  #lines(): { decisions: Decision[]; isList: boolean } {
    const alone: Decision[] = [];
    const withText: Decision[] = [];
    for (const match of this.text.matchAll(this.#line)) {
      const [all, character = '', mark = '', rest = ''] = match;
      const letter = character.toUpperCase();
      const decision = { index: match.index, end: match.index + all.length, letter };
      // "A: bat" is an answer to "Q:", unless the option A is meant.
      const answer = /^\s*A:/.test(all) ? (this.#optionIs(rest) ?? this.#letterAt(rest)?.letter) : undefined;
      if (rest.trim() === '') alone.push(decision);
      else if (answer !== undefined) withText.push({ ...decision, letter: answer });
      else if (mark !== '' && character === letter) withText.push(decision);
    }
    const isList = new Set(withText.map((decision) => decision.letter)).size > 1;
    return { decisions: isList ? alone : [...alone, ...withText], isList };
  }

  /** The option whose text `text` is, but for articles, case and punctuation. */
  #optionIs(text: string): string | undefined {
    if (text.length > 2000) return undefined;
    const normal = normalizeOption(text);
    return this.#options.find((option) => option.text === normal)?.letter;
  }

  /** The option with whose text `text` begins; the first clause may also hold just one. */
  #optionAtStart(text: string): string | undefined {
    const normal = `${normalizeOption(text)} `;
    return this.#options.find((option) => normal.startsWith(`${option.text} `))?.letter;
  }
}

/** "B is wrong", "B, which is incorrect": the letter is named only to be dismissed. */
const DENIAL =
  /^[)\]"'*.:]*\s*(?:,? which )?(?:is|was|are|seems)\s+(?:not|n't|in(?:correct|accurate)|wrong|false)\b/i;

/** Lower case, no punctuation at the ends, no article at the start, single spaces. */
function normalizeOption(text: string): string {
  return text
    .toLowerCase()
    .replace(/[^\p{L}\p{N}%$'.-]+/gu, ' ')
    .replace(/\.(?= |$)/g, '')
    .trim()
    .replace(/^(?:a|an|the|to) /, '')
    .trim();
}
