import { CreamError } from '../errors.js';
import type { Message, PromptInput, ResponseInput, TemplateInputs } from '../types.js';
import type { ConversationEncoder, ConversationRequest } from './conversation-encoder.js';
import { checkMessages, contentText, responseMessages } from './messages.js';
import type { SpecialTokens } from './special-tokens.js';
import type { TextNotices } from './text-notices.js';
import { commonPrefixLength, type EncodedConversation, turnEnd } from './turns.js';
import { mapYielding } from './yielding.js';

// Prompts with their responses as tokens, as text or through the chat template. Every conversation is rendered itself:
// the prompt alone, then the whole; what follows the prompt, up to the token that ends the turn, is the response.

/**
 * Whether text is a user's turn of a conversation: true, false (default), or "auto" = when the model has a chat
 * template. Messages always go through the chat template.
 */
export type ChatMode = boolean | 'auto';

export interface EncodingOptions {
  chat?: ChatMode;
  signal?: AbortSignal;
  /** Collects what is worth telling of a file's texts. */
  notices?: TextNotices;
}

/**
 * Where the chat template writes a prompt otherwise when a response follows. part: the response begins where both part,
 * as in TRL. error: the row is refused.
 */
export type PrefixMismatch = 'part' | 'error';

export interface ExchangeOptions extends EncodingOptions {
  /** End responses with the token that ends a turn. Default true; false for text that was cut or that goes on. */
  stop?: boolean;
  /** Default part. */
  prefixMismatch?: PrefixMismatch;
}

/** A prompt and responses to it, as text, messages or (the prompt) token ids. */
export interface ExchangeInput extends TemplateInputs {
  id?: string;
  /** Left out: some prompt that is not known. */
  prompt?: PromptInput | readonly number[];
  responses: readonly ResponseInput[];
}

export interface Exchange {
  /** What the responses follow; less than the prompt alone where the template writes it otherwise before them. */
  promptIds: number[];
  /** The end of the prompt alone that is not there before the responses. */
  leftOut: number[];
  /** Each with the token that ends it. */
  responses: number[][];
}

/** A whole conversation as a reward model reads it. */
export interface WholeConversation extends Pick<EncodedConversation, 'ids' | 'generated'> {
  /** One past the token that ends the last turn; the length where the template writes none. */
  end: number;
}

export interface WholeInput extends TemplateInputs {
  id?: string;
  prompt: PromptInput;
  response: ResponseInput;
  /** The response was cut: nothing stands behind it. */
  isCut?: boolean;
}

/** Stands for a conversation that is not known, and shows how the template ends a turn. */
const PROBE: readonly Message[] = [{ role: 'user', content: 'question' }];
const PROBE_ANSWER: Message = { role: 'assistant', content: 'answer' };

/** Conversations rendered in one go. */
const CHUNK = 64;

/** What the exchanges of a model need of its tokenizer. */
export interface ExchangeSource {
  /** Undefined where the model has no chat template; `refusal` says so. */
  conversations: ConversationEncoder | undefined;
  refusal: () => CreamError;
  special: SpecialTokens;
  decode: (ids: readonly number[]) => string;
  tokenOf: (id: number) => string;
  /** Ids of a prompt that is text, and of text that continues a prompt. */
  textPromptIds: (text: string) => number[];
  continued: (text: string, prompt: PromptInput | readonly number[] | undefined) => number[];
  stopIds: readonly number[];
  /** What ends a response where no template says it. */
  endId: number | undefined;
}

export class ExchangeEncoder {
  readonly #source: ExchangeSource;
  /** The token with which the template ends a turn, once it is known. */
  #turnEnd: Promise<number | undefined> | undefined;
  #eosIds: readonly number[];

  constructor(source: ExchangeSource) {
    this.#source = source;
    this.#eosIds = source.stopIds;
  }

  /** The stop tokens, and, once a conversation was encoded, the token with which the template ends a turn. */
  get eosIds(): readonly number[] {
    return this.#eosIds;
  }

  /**
   * Prompts and the responses to each, as a model reads and learns them: in a conversation, what the chat template
   * writes of the whole, split where the prompt ends.
   */
  async exchanges(inputs: readonly ExchangeInput[], options: ExchangeOptions = {}): Promise<Exchange[]> {
    const results: Exchange[] = new Array(inputs.length);
    const chats: { index: number; input: ExchangeInput; messages: readonly Message[] }[] = [];
    await mapYielding(
      inputs,
      (input, index) =>
        named(input.id, () => {
          const messages = this.#asMessages(input.prompt, options.chat);
          this.#noteSpecialTokens(input, options.notices);
          if (messages === undefined) results[index] = this.#textExchange(input, options);
          else chats.push({ index, input, messages });
        }),
      options.signal,
    );
    if (chats.length > 0) await this.#noteTurnEnd(options.notices);
    for (const some of chunks(chats, ({ input }) => 1 + input.responses.length)) {
      if (options.signal?.aborted) throw new CreamError('ABORTED', 'the work was cancelled');
      const isOpen = options.stop === false;
      const encoded = await this.#encode(
        some.flatMap(({ input: { responses, ...inputs }, messages }) => [
          { ...inputs, messages, addGenerationPrompt: true },
          ...responses.map((response) => ({
            ...inputs,
            messages: [...messages, ...responseMessages(response)],
            addGenerationPrompt: false,
            isOpen,
          })),
        ]),
      );
      for (const { index, input } of some) {
        const [prompt, ...wholes] = encoded.splice(0, 1 + input.responses.length);
        results[index] = named(input.id, () =>
          this.#split(
            input,
            (prompt as () => EncodedConversation)(),
            wholes.map((whole) => whole()),
            options,
          ),
        );
      }
    }
    return results;
  }

  /** Whole conversations: everything that the chat template writes, whatever stands behind the last turn. */
  async conversations(
    inputs: readonly WholeInput[],
    options: EncodingOptions = {},
  ): Promise<WholeConversation[]> {
    const results: WholeConversation[] = [];
    for (const some of chunks(inputs, () => 1)) {
      if (options.signal?.aborted) throw new CreamError('ABORTED', 'the work was cancelled');
      const requests = some.map(({ prompt, response, isCut = false, ...inputs }) =>
        named(inputs.id, (): ConversationRequest | undefined => {
          this.#noteSpecialTokens({ ...inputs, prompt, responses: [response] }, options.notices);
          const messages = this.#asMessages(prompt, options.chat);
          if (messages === undefined) return undefined;
          const whole = [...messages, ...responseMessages(response)];
          return { ...inputs, messages: whole, addGenerationPrompt: false, isOpen: isCut };
        }),
      );
      const encoded = (await this.#encode(requests.filter((request) => request !== undefined))).values();
      for (const [i, { id, prompt, response, isCut = false }] of some.entries()) {
        const whole = requests[i] === undefined ? undefined : encoded.next().value;
        results.push(
          named(id, () => {
            if (whole !== undefined) {
              const conversation = whole();
              const end = turnEnd(conversation, 0, this.#source.decode);
              const { ids, generated } = conversation;
              return { ids, generated, end: end ?? ids.length };
            }
            const { promptIds, responses } = this.#textExchange(
              { prompt, responses: [response] },
              { stop: !isCut },
            );
            const ids = [...promptIds, ...(responses[0] as number[])];
            return { ids, end: ids.length, generated: () => [] };
          }),
        );
      }
    }
    return results;
  }

  /** The token with which the chat template ends the assistant's turn; undefined where it writes none. */
  turnEndId(): Promise<number | undefined> {
    this.#turnEnd ??= this.#learnTurnEnd();
    return this.#turnEnd;
  }

  /** The prompt as a conversation; undefined where it is text, or ids that text continues. */
  #asMessages(prompt: ExchangeInput['prompt'], chat: ChatMode = false): readonly Message[] | undefined {
    const isTurn = chat === 'auto' ? this.#source.conversations !== undefined : chat;
    if (typeof prompt === 'string') return isTurn ? [{ role: 'user', content: prompt }] : undefined;
    if (prompt !== undefined && typeof prompt[0] !== 'number') return checkMessages(prompt);
    // Ids are of a conversation that is not known; a response follows them as it follows the probe.
    return chat === true || (prompt === undefined && isTurn) ? PROBE : undefined;
  }

  #textExchange({ prompt, responses, tools }: ExchangeInput, { stop = true }: ExchangeOptions): Exchange {
    if (tools !== undefined) {
      const advice = 'give the prompt as messages, or put text into the chat template';
      throw new CreamError(
        'INVALID_DATA',
        `tools are for a chat template, and the prompt is text; ${advice}`,
      );
    }
    const promptIds =
      typeof prompt === 'string'
        ? this.#source.textPromptIds(prompt)
        : [...((prompt ?? []) as readonly number[])];
    return {
      promptIds,
      leftOut: [],
      responses: responses.map((response) => {
        if (typeof response !== 'string') {
          const advice = 'give the prompt as messages too, or the response as text';
          throw new CreamError('INVALID_DATA', `the prompt is text and the response is messages; ${advice}`);
        }
        const ids = this.#source.continued(response, prompt);
        return stop && this.#source.endId !== undefined ? [...ids, this.#source.endId] : ids;
      }),
    };
  }

  /** The parts of a conversation: what prompt and all wholes have in common, and of each whole the rest of the turn. */
  #split(
    { id, prompt }: ExchangeInput,
    alone: EncodedConversation,
    wholes: readonly EncodedConversation[],
    { stop = true, prefixMismatch = 'part', notices }: ExchangeOptions,
  ): Exchange {
    const isGiven = typeof prompt?.[0] === 'number';
    const length = wholes.reduce(
      (least, whole) => Math.min(least, commonPrefixLength(alone.ids, whole.ids)),
      alone.ids.length,
    );
    if (length < alone.ids.length) {
      const leftOut = this.#source.decode(alone.ids.slice(length));
      if (length === 0 || prefixMismatch === 'error') {
        throw new CreamError(
          'INVALID_DATA',
          'the chat template does not continue the prompt as it is: with the response, ' +
            `${JSON.stringify(leftOut)} at its end is not there` +
            (length === 0 ? '' : '; prefixMismatch "part" takes what both have in common as the prompt'),
        );
      }
      notices?.parted(id, leftOut);
    }
    return {
      leftOut: alone.ids.slice(length),
      promptIds: isGiven ? [...(prompt as readonly number[])] : alone.ids.slice(0, length),
      responses: wholes.map((whole) => {
        if (!stop) return whole.ids.slice(length);
        const end = turnEnd(whole, length, this.#source.decode);
        if (end !== undefined) return whole.ids.slice(length, end);
        return [
          ...whole.withoutTail().slice(length),
          ...(this.#source.endId === undefined ? [] : [this.#source.endId]),
        ];
      }),
    };
  }

  async #encode(requests: readonly ConversationRequest[]): Promise<(() => EncodedConversation)[]> {
    if (requests.length === 0) return [];
    const stops = new Set(this.#source.stopIds);
    return this.#requireChat().encode(requests, (id) => stops.has(id));
  }

  #requireChat(): ConversationEncoder {
    if (this.#source.conversations === undefined) throw this.#source.refusal();
    return this.#source.conversations;
  }

  async #learnTurnEnd(): Promise<number | undefined> {
    const [probe] = await this.#encode([{ messages: [...PROBE, PROBE_ANSWER], addGenerationPrompt: false }]);
    let whole: EncodedConversation;
    try {
      whole = (probe as () => EncodedConversation)();
    } catch {
      return undefined; // A template that refuses the probe says so of the conversations that it refuses.
    }
    const end = turnEnd(whole, 0, this.#source.decode);
    const id = end === undefined ? undefined : whole.ids[end - 1];
    if (id !== undefined && !this.#source.stopIds.includes(id)) this.#eosIds = [...this.#source.stopIds, id];
    return id;
  }

  async #noteTurnEnd(notices: TextNotices | undefined): Promise<void> {
    const end = await this.turnEndId();
    if (end === undefined || this.#source.stopIds.includes(end)) return;
    const name = this.#source.tokenOf;
    notices?.turnEnd(name(end), this.#source.stopIds.map(name));
  }

  #noteSpecialTokens({ id, prompt, responses }: ExchangeInput, notices: TextNotices | undefined): void {
    if (notices === undefined) return;
    const textsOf = (value: unknown): string[] =>
      typeof value === 'string'
        ? [value]
        : Array.isArray(value)
          ? (value as unknown[]).map((message) => contentText((Object(message) as Message).content))
          : [];
    for (const text of [prompt, ...responses].flatMap(textsOf)) {
      const token = this.#source.special.firstIn(text);
      if (token !== undefined) notices.specialToken(id, token);
    }
  }
}

/** Consecutive items of about CHUNK requests each. */
function* chunks<T>(items: readonly T[], requestsOf: (item: T) => number): Generator<T[]> {
  let some: T[] = [];
  let requests = 0;
  for (const item of items) {
    some.push(item);
    requests += requestsOf(item);
    if (requests < CHUNK) continue;
    yield some;
    some = [];
    requests = 0;
  }
  if (some.length > 0) yield some;
}

/** Puts the id of a prompt in front of an error about it. */
function named<T>(id: string | undefined, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (id === undefined || !(error instanceof CreamError)) throw error;
    throw new CreamError(error.code, `prompt ${id}: ${error.message}`, { cause: error });
  }
}
