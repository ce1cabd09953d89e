import { CreamError } from '../errors.js';
import type { Message, PromptInput } from '../types.js';
import { ChatTemplate, type ChatTemplateOptions, type Rendering } from './chat-template.js';
import { checkMessages } from './messages.js';
import { type Section, SpecialTokens } from './special-tokens.js';
import { type Place, TextCodec } from './text-codec.js';
import { isObject, own, readTokenizerFiles, type TokenizerFiles } from './tokenizer-files.js';
import { mapYielding } from './yielding.js';

export interface TokenizerOptions {
  /** The date that a chat template may print. Default: today; give a fixed one where runs must be repeatable. */
  now?: Date;
  /** Limits on the chat template. */
  chatTemplate?: Omit<ChatTemplateOptions, 'variables' | 'now'>;
}

/**
 * Whether text is a user's turn of a conversation: true, false (default), or "auto" = when the model has a chat
 * template. Messages always go through the chat template.
 */
export type ChatMode = boolean | 'auto';

/** What a response stands after, and whether its end is part of it. */
export interface ResponseOptions {
  chat?: ChatMode;
  /** The prompt as text, messages or token ids. Default: some text. */
  prompt?: PromptInput | readonly number[];
  /** Append the token that ends a response. Default true; false for text that was cut or that goes on. */
  stop?: boolean;
}

/** How the chat template frames an assistant's text. */
interface AssistantFrame {
  /** Literal text between the generation prompt and the content. */
  lead: string;
  place: Place;
  /** The template strips white space around the content. */
  trims: boolean;
  /** The token that ends the turn. */
  endId: number | undefined;
}

/**
 * A model folder's tokenizer. What users write is text: "<|im_end|>" in a prompt is ten characters, only the chat
 * template can write special tokens. The sequence-start token (BOS) comes exactly once, and only where the
 * tokenizer or its chat template puts it.
 */
export class Tokenizer {
  /** One more than the largest token id. */
  readonly vocabSize: number;
  readonly bosId?: number;
  /** Tokens that end a response: those of generation_config.json, the tokenizer's eos_token, config.json's. */
  readonly eosIds: readonly number[];
  readonly specialIds: ReadonlySet<number>;
  readonly hasChatTemplate: boolean;
  readonly #codec: TextCodec;
  readonly #special: SpecialTokens;
  readonly #prefixIds: readonly number[];
  readonly #endId: number | undefined;
  readonly #chat: ChatTemplate | undefined;
  readonly #idLimit: number;
  readonly #directory: string;
  #frame: AssistantFrame | undefined;

  private constructor(files: TokenizerFiles, options: TokenizerOptions) {
    this.#directory = files.directory;
    this.#codec = new TextCodec(files);
    this.#special = new SpecialTokens(files.addedTokens);
    this.specialIds = this.#special.ids;
    this.vocabSize = this.#codec.vocabSize;
    this.#idLimit = files.modelVocabSize ?? this.vocabSize;
    if (this.vocabSize > this.#idLimit) {
      const id = this.vocabSize - 1;
      const token = JSON.stringify(this.#codec.tokenOf(id));
      const limit = `the model's vocab_size (config.json) is ${this.#idLimit}`;
      const advice = 'the tokenizer belongs to another model, or the embeddings must be resized';
      throw this.#invalid(`tokenizer.json has token ${token} with id ${id}, but ${limit}; ${advice}`);
    }
    const bosId = files.bosToken === undefined ? undefined : this.#idOf('bos_token', files.bosToken);
    if (bosId !== undefined) this.bosId = bosId;
    const eosId = files.eosToken === undefined ? undefined : this.#idOf('eos_token', files.eosToken);
    for (const id of files.eosIds) {
      if (id >= this.#idLimit)
        throw this.#invalid(`eos_token_id ${id} is outside the vocabulary of ${this.#idLimit}`);
    }
    this.eosIds = [...new Set([...files.eosIds, ...(eosId === undefined ? [] : [eosId])])];
    this.#endId = eosId ?? this.eosIds[0];
    this.#prefixIds = this.#readPrefix(files);
    this.hasChatTemplate = files.chatTemplate !== undefined;
    if (files.chatTemplate !== undefined) {
      this.#chat = new ChatTemplate(files.chatTemplate, {
        ...options.chatTemplate,
        ...(options.now === undefined ? {} : { now: options.now }),
        variables: files.namedTokens,
      });
    }
  }

  /** Reads tokenizer.json and, where they exist, its neighbours (see tokenizer-files.ts). */
  static async load(directory: string, options: TokenizerOptions = {}): Promise<Tokenizer> {
    return new Tokenizer(await readTokenizerFiles(directory), options);
  }

  /** Ids of plain text; with the tokenizer's start tokens (BOS) when `addSpecialTokens` is set. */
  encode(text: string, options: { addSpecialTokens?: boolean } = {}): number[] {
    const ids = this.#codec.encode(text, 'start');
    return options.addSpecialTokens === true ? [...this.#prefixIds, ...ids] : ids;
  }

  /** As `encode`, for many texts, without holding up the event loop. */
  encodeAll(
    texts: readonly string[],
    options: { addSpecialTokens?: boolean; signal?: AbortSignal } = {},
  ): Promise<number[][]> {
    return mapYielding(texts, (text) => this.encode(text, options), options.signal);
  }

  decode(ids: readonly number[] | Int32Array, options: { skipSpecialTokens?: boolean } = {}): string {
    return this.#codec.decode(Array.from(ids), options.skipSpecialTokens ?? false);
  }

  /**
   * The ids that a response follows. Text: the tokenizer's start tokens and the text, or one user's turn (see
   * {@link ChatMode}). Messages: the chat template with the header of the assistant's turn. "" as text: BOS alone.
   */
  async promptIds(prompt: PromptInput, options: { chat?: ChatMode } = {}): Promise<number[]> {
    const [ids] = await this.promptIdsAll([{ prompt }], options);
    return ids as number[];
  }

  /** As `promptIds`, for many prompts, without holding up the event loop. An error names the prompt's id. */
  async promptIdsAll(
    prompts: readonly { id?: string; prompt: PromptInput }[],
    options: { chat?: ChatMode; signal?: AbortSignal } = {},
  ): Promise<number[][]> {
    const results: number[][] = new Array(prompts.length);
    const chats: { index: number; messages: readonly Message[] }[] = [];
    await mapYielding(
      prompts,
      ({ id, prompt }, index) =>
        named(id, () => {
          const messages = this.#asMessages(prompt, options.chat);
          if (messages === undefined) results[index] = this.#textPromptIds(prompt as string);
          else chats.push({ index, messages });
        }),
      options.signal,
    );
    const chunk = 64;
    for (let start = 0; start < chats.length; start += chunk) {
      if (options.signal?.aborted) throw new CreamError('ABORTED', 'the work was cancelled');
      const some = chats.slice(start, start + chunk);
      const encoded = await this.#chatIds(some.map(({ messages }) => messages));
      for (const [i, { index }] of some.entries()) {
        results[index] = named(prompts[index]?.id, () => (encoded[i] as () => number[])());
      }
    }
    return results;
  }

  /**
   * The ids of a response given as text: the text as it continues its prompt, and the token that ends a response.
   * For responses that were sampled use the sampled ids; text that is tokenised again can give others.
   */
  async responseIds(text: string, options: ResponseOptions = {}): Promise<number[]> {
    const { prompt } = options;
    const [ids] = await this.responseIdsAll([prompt === undefined ? { text } : { text, prompt }], options);
    return ids as number[];
  }

  /** As `responseIds`, for many texts, without holding up the event loop. */
  async responseIdsAll(
    responses: readonly { id?: string; text: string; prompt?: PromptInput | readonly number[] }[],
    options: { chat?: ChatMode; stop?: boolean; signal?: AbortSignal } = {},
  ): Promise<number[][]> {
    const { stop = true } = options;
    const isChat = responses.map(({ prompt }) => this.#isChat(prompt, options.chat));
    const frame = isChat.includes(true) ? await this.#assistantFrame() : undefined;
    return mapYielding(
      responses,
      ({ id, text, prompt }, index) =>
        named(id, () => {
          const inTurn = isChat[index] === true && frame !== undefined;
          const ids = inTurn ? this.#framed(text, frame) : this.#continued(text, prompt);
          const endId = inTurn ? frame.endId : this.#endId;
          return stop && endId !== undefined ? [...ids, endId] : ids;
        }),
      options.signal,
    );
  }

  /** Refuses ids that the model does not have. `what` names their origin in the message. */
  checkIds(ids: Iterable<number>, what: string): void {
    for (const id of ids) {
      if (!Number.isInteger(id) || id < 0 || id >= this.#idLimit) {
        throw new CreamError(
          'INVALID_DATA',
          `${what}: ${id} is not a token id; the vocabulary has ${this.#idLimit}`,
        );
      }
    }
  }

  /** Ends the chat template's process now. Optional: it ends by itself and does not keep this one alive. */
  async dispose(): Promise<void> {
    await this.#chat?.dispose();
  }

  #isChat(prompt: PromptInput | readonly number[] | undefined, chat: ChatMode = false): boolean {
    if (prompt === undefined || typeof prompt === 'string') {
      return chat === 'auto' ? this.hasChatTemplate : chat;
    }
    return typeof prompt[0] === 'object' || (prompt.length > 0 && chat === true);
  }

  #asMessages(prompt: PromptInput, chat: ChatMode | undefined): readonly Message[] | undefined {
    if (typeof prompt !== 'string') return checkMessages(prompt);
    return this.#isChat(prompt, chat) ? [{ role: 'user', content: prompt }] : undefined;
  }

  #textPromptIds(text: string): number[] {
    const ids = this.encode(text, { addSpecialTokens: true });
    if (text === '' && this.bosId !== undefined) return ids.includes(this.bosId) ? ids : [this.bosId, ...ids];
    if (ids.length > 0) return ids;
    const why = 'the prompt is empty and the tokenizer has no BOS token to start from';
    throw new CreamError('INVALID_DATA', `${why}; give the prompt at least one character`);
  }

  #continued(text: string, prompt: PromptInput | readonly number[] | undefined): number[] {
    // After start tokens alone the response is the beginning of the text.
    const isStart = prompt === '' || (Array.isArray(prompt) && prompt.every((id) => this.#isStartId(id)));
    return this.#codec.encode(text, isStart ? 'start' : 'continuation');
  }

  #isStartId(id: unknown): boolean {
    return id === this.bosId || this.#prefixIds.includes(id as number);
  }

  #framed(text: string, frame: AssistantFrame): number[] {
    const content = frame.trims ? text.trim() : text;
    const hiding = this.#special.hiding([content, frame.lead]);
    const sections = this.#special.split(frame.lead + (hiding?.hide(content) ?? content));
    return this.#encodeSections(sections, hiding?.reveal, frame.place);
  }

  /** Renders conversations; each result is a function that gives the ids or throws that conversation's error. */
  async #chatIds(conversations: readonly (readonly Message[])[]): Promise<(() => number[])[]> {
    const chat = this.#requireChat();
    const hidings = conversations.map((messages) =>
      this.#special.hiding([...messages.map((message) => message.content), chat.source]),
    );
    const mapped = (messages: readonly Message[], map: (text: string) => string) => ({
      messages: messages.map(({ role, content }) => ({ role, content: map(content.toWellFormed()) })),
      addGenerationPrompt: true,
    });
    const renderings = await chat.render(
      conversations.flatMap((messages, i) => [
        mapped(messages, (text) => hidings[i]?.hide(text) ?? text),
        mapped(messages, (text) => this.#special.neutralize(text)),
      ]),
    );
    return conversations.map((_, i) => () => {
      const sections = this.#special.split(rendered(renderings[2 * i]));
      const neutral = this.#special.split(rendered(renderings[2 * i + 1]));
      if (specialSequence(sections) !== specialSequence(neutral)) {
        throw new CreamError(
          'INVALID_DATA',
          "the chat template makes special tokens out of a message's text",
        );
      }
      const ids = this.#encodeSections(sections, hidings[i]?.reveal, 'start');
      if (ids.length === 0)
        throw new CreamError('INVALID_DATA', 'the chat template turns the prompt into nothing');
      return ids;
    });
  }

  #encodeSections(
    sections: readonly Section[],
    reveal: ((text: string) => string) | undefined,
    first: Place,
  ): number[] {
    return sections.flatMap((section, i) => {
      if ('id' in section) return [section.id];
      const text = reveal === undefined ? section.text : reveal(section.text);
      return this.#codec.encode(text, i === 0 ? first : 'after-special');
    });
  }

  /** Learns from two renderings what the template puts around an assistant's text. */
  async #assistantFrame(): Promise<AssistantFrame> {
    if (this.#frame !== undefined) return this.#frame;
    const user: Message = { role: 'user', content: 'question' };
    // Letters that no template has, so that the content is found again.
    const content = 'zqxjkvzqxj';
    const [prompt, full] = await this.#requireChat().render([
      { messages: [user], addGenerationPrompt: true },
      { messages: [user, { role: 'assistant', content: ` ${content} ` }], addGenerationPrompt: false },
    ]);
    const head = rendered(prompt);
    const tail =
      full !== undefined && 'text' in full && full.text.startsWith(head) ? full.text.slice(head.length) : '';
    const at = tail.indexOf(content);
    const sections = this.#special.split(head);
    const last = sections.at(-1);
    const place: Place = last === undefined ? 'start' : 'id' in last ? 'after-special' : 'continuation';
    let frame: AssistantFrame = { lead: '', place, trims: false, endId: this.#endId };
    if (at !== -1) {
      const before = tail.slice(0, at);
      const after = tail.slice(at + content.length);
      const trims = !after.startsWith(' ');
      const next = this.#special.split(trims ? after : after.slice(1))[0];
      const endsTurn = next !== undefined && 'id' in next && this.eosIds.includes(next.id);
      frame = {
        // The space of the probe is not part of the frame.
        lead: trims ? before : before.slice(0, -1),
        place,
        trims,
        endId: endsTurn ? next.id : this.#endId,
      };
    }
    this.#frame = frame;
    return frame;
  }

  #requireChat(): ChatTemplate {
    if (this.#chat !== undefined) return this.#chat;
    const advice = 'give prompts as text, or add chat_template.jinja to the model folder';
    throw new CreamError(
      'INVALID_CHECKPOINT',
      `${this.#directory}: the model has no chat template; ${advice}`,
    );
  }

  /** The tokens before the text in tokenizer.json's template; add_bos_token decides where it is given. */
  #readPrefix(files: TokenizerFiles): number[] {
    const prefix = templatePrefix(own(files.tokenizer, 'post_processor')).map((token) =>
      this.#idOf('start token', token),
    );
    if (this.bosId === undefined || files.addBosToken === undefined) return prefix;
    const others = prefix.filter((id) => id !== this.bosId);
    return files.addBosToken ? [this.bosId, ...others] : others;
  }

  #idOf(name: string, token: string): number {
    const id = this.#codec.idOf(token);
    if (id === undefined) throw this.#invalid(`${name} ${JSON.stringify(token)} is not in tokenizer.json`);
    return id;
  }

  #invalid(what: string): CreamError {
    return new CreamError('INVALID_CHECKPOINT', `${this.#directory}: ${what}`);
  }
}

function templatePrefix(postProcessor: unknown): string[] {
  if (!isObject(postProcessor)) return [];
  const processors = own(postProcessor, 'processors');
  if (Array.isArray(processors)) return processors.flatMap(templatePrefix);
  const single = own(postProcessor, 'single');
  if (own(postProcessor, 'type') !== 'TemplateProcessing' || !Array.isArray(single)) return [];
  const prefix: string[] = [];
  for (const piece of single as unknown[]) {
    const token = isObject(piece) ? own(piece, 'SpecialToken') : undefined;
    const id = isObject(token) ? own(token, 'id') : undefined;
    if (typeof id !== 'string') break;
    prefix.push(id);
  }
  return prefix;
}

function rendered(rendering: Rendering | undefined): string {
  if (rendering !== undefined && 'text' in rendering) return rendering.text;
  throw rendering?.error ?? new CreamError('INVALID_CHECKPOINT', 'the chat template gave no result');
}

function specialSequence(sections: readonly Section[]): string {
  return sections.flatMap((section) => ('id' in section ? [section.id] : [])).join(' ');
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
