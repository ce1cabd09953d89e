// What is told about the texts of one file, once: each kind of surprise is counted while texts are encoded.

const ADVICE = {
  'prompt-parted':
    'the responses begin where both part, as in TRL, and are trained after another text than the one sampling sees',
  'special-tokens-in-text':
    'what users write is text, so they are spelt out; take them out, or give messages and let the chat template write them',
} as const;

type Kind = keyof typeof ADVICE;

interface Count {
  count: number;
  /** The first of them. */
  id: string | undefined;
  text: string;
}

export class TextNotices {
  readonly #counts = new Map<Kind, Count>();
  #turnEnd: { end: string; stops: readonly string[] } | undefined;

  /** The prompt, as it is sampled from, is no beginning of the conversation; `leftOut` is its end that falls away. */
  parted(id: string | undefined, leftOut: string): void {
    this.#count('prompt-parted', id, leftOut);
  }

  specialToken(id: string | undefined, token: string): void {
    this.#count('special-tokens-in-text', id, token);
  }

  /** The template ends turns with a token that the model folder does not name as a stop token. */
  turnEnd(end: string, stops: readonly string[]): void {
    this.#turnEnd = { end, stops };
  }

  /** One per kind. `source` names the file. */
  warnings(source: string): { code: string; message: string }[] {
    const told = [...this.#counts].map(([code, { count, id, text }]) => {
      const first = id === undefined ? '' : `, the first in ${id}`;
      return {
        code,
        message: `${source}: ${whatHappened(code, count, quoted(text))}${first}; ${ADVICE[code]}`,
      };
    });
    if (this.#turnEnd === undefined) return told;
    const { end, stops } = this.#turnEnd;
    const known = stops.length === 0 ? 'there are none' : `they are ${stops.join(', ')}`;
    const message =
      `${source}: the chat template ends turns with ${end}, which is not among the model's stop tokens (${known}); ` +
      'responses end with it and sampling stops at it too. Name it in eos_token_id of generation_config.json for other programs';
    return [...told, { code: 'turn-end-no-stop-token', message }];
  }

  #count(kind: Kind, id: string | undefined, text: string): void {
    const known = this.#counts.get(kind);
    if (known === undefined) this.#counts.set(kind, { count: 1, id, text });
    else known.count += 1;
  }
}

const quoted = (text: string) => JSON.stringify(text.length <= 60 ? text : `${text.slice(0, 60)}...`);

function whatHappened(kind: Kind, count: number, text: string): string {
  switch (kind) {
    case 'prompt-parted':
      return (
        `the chat template does not continue the prompt as it is of ${count} responses: with a response, ` +
        `${text} at its end is not there`
      );
    case 'special-tokens-in-text':
      return `${count} texts contain special tokens of the model (${text})`;
  }
}
