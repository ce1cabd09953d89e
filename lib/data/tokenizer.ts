import { CreamError } from '../errors.js';
import type { PromptInput, ResponseInput, TemplateInputs } from '../types.js';
import { ChatTemplate, type ChatTemplateOptions } from './chat-template.js';
import { ConversationEncoder } from './conversation-encoder.js';
import {
  type EncodingOptions,
  type Exchange,
  ExchangeEncoder,
  type ExchangeInput,
  type ExchangeOptions,
  type WholeConversation,
  type WholeInput,
} from './exchange-encoder.js';
import { SpecialTokens } from './special-tokens.js';
import { TextCodec } from './text-codec.js';
import { isObject, own, readTokenizerFiles, type TokenizerFiles } from './tokenizer-files.js';
import { mapYielding } from './yielding.js';

export type { ChatMode, Exchange, PrefixMismatch, WholeConversation } from './exchange-encoder.js';

export interface TokenizerOptions {
  /** The date that a chat template may print. Default: today; give a fixed one where runs must be repeatable. */
  now?: Date;
  /** Limits on the chat template. */
  chatTemplate?: Omit<ChatTemplateOptions, 'variables' | 'now'>;
  /** Further variables of the chat template, such as enable_thinking. */
  templateVariables?: Readonly<Record<string, unknown>>;
}

/** What a response stands after, and whether its end is part of it. */
export interface ResponseOptions extends ExchangeOptions {
  /** The prompt as text, messages or token ids. Default: some text. */
  prompt?: PromptInput | readonly number[];
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
  readonly specialIds: ReadonlySet<number>;
  readonly hasChatTemplate: boolean;
  readonly #codec: TextCodec;
  readonly #prefixIds: readonly number[];
  readonly #chat: ChatTemplate | undefined;
  readonly #exchanges: ExchangeEncoder;
  readonly #idLimit: number;
  readonly #directory: string;

  private constructor(files: TokenizerFiles, options: TokenizerOptions) {
    this.#directory = files.directory;
    this.#codec = new TextCodec(files);
    const special = new SpecialTokens(files.addedTokens);
    this.specialIds = special.ids;
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
    const stopIds = [...new Set([...files.eosIds, ...(eosId === undefined ? [] : [eosId])])];
    this.#prefixIds = this.#readPrefix(files);
    this.hasChatTemplate = files.chatTemplate !== undefined;
    if (files.chatTemplate !== undefined) {
      this.#chat = new ChatTemplate(files.chatTemplate, {
        ...options.chatTemplate,
        ...(options.now === undefined ? {} : { now: options.now }),
        variables: { ...files.namedTokens, ...options.templateVariables },
      });
    }
    this.#exchanges = new ExchangeEncoder({
      conversations:
        this.#chat === undefined ? undefined : new ConversationEncoder(this.#chat, special, this.#codec),
      refusal: () => this.#lacksTemplate(),
      special,
      decode: (ids) => this.decode(ids),
      tokenOf: (id) => this.#codec.tokenOf(id) ?? String(id),
      textPromptIds: (text) => this.#textPromptIds(text),
      continued: (text, prompt) => this.#continued(text, prompt),
      stopIds,
      endId: eosId ?? stopIds[0],
    });
    checkVariables(options.templateVariables, files);
  }

  /**
   * Tokens that end a response: those of generation_config.json, the tokenizer's eos_token, config.json's, and, once a
   * conversation was encoded, the one with which the chat template ends the assistant's turn.
   */
  get eosIds(): readonly number[] {
    return this.#exchanges.eosIds;
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
  async promptIds(prompt: PromptInput, options: EncodingOptions = {}): Promise<number[]> {
    const [ids] = await this.promptIdsAll([{ prompt }], options);
    return ids as number[];
  }

  /** As `promptIds`, for many prompts, without holding up the event loop. An error names the prompt's id. */
  async promptIdsAll(
    prompts: readonly ({ id?: string; prompt: PromptInput } & TemplateInputs)[],
    options: EncodingOptions = {},
  ): Promise<number[][]> {
    const inputs = prompts.map((prompt) => ({ ...prompt, responses: [] }));
    return (await this.exchanges(inputs, options)).map(({ promptIds }) => promptIds);
  }

  /**
   * The ids of a response given as text: the text as it continues its prompt, and the token that ends a response.
   * For responses that were sampled use the sampled ids; text that is tokenised again can give others.
   */
  async responseIds(response: ResponseInput, options: ResponseOptions = {}): Promise<number[]> {
    const { prompt, ...rest } = options;
    const input = { ...(prompt === undefined ? {} : { prompt }), responses: [response] };
    const [exchange] = await this.exchanges([input], rest);
    return exchange?.responses[0] as number[];
  }

  /** As `responseIds`, for many texts, each after a prompt of its own. */
  async responseIdsAll(
    responses: readonly { id?: string; text: string; prompt?: PromptInput | readonly number[] }[],
    options: ExchangeOptions = {},
  ): Promise<number[][]> {
    const inputs = responses.map(({ text, ...rest }) => ({ ...rest, responses: [text] }));
    return (await this.exchanges(inputs, options)).map(({ responses: [ids] }) => ids as number[]);
  }

  /**
   * Prompts and the responses to each, as a model reads and learns them: in a conversation, what the chat template
   * writes of the whole, split where the prompt ends.
   */
  exchanges(inputs: readonly ExchangeInput[], options: ExchangeOptions = {}): Promise<Exchange[]> {
    return this.#exchanges.exchanges(inputs, options);
  }

  /** Whole conversations: everything that the chat template writes, whatever stands behind the last turn. */
  conversations(inputs: readonly WholeInput[], options: EncodingOptions = {}): Promise<WholeConversation[]> {
    return this.#exchanges.conversations(inputs, options);
  }

  /** The token with which the chat template ends the assistant's turn; undefined where it writes none. */
  turnEndId(): Promise<number | undefined> {
    return this.#exchanges.turnEndId();
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

  #lacksTemplate(): CreamError {
    const advice = 'give prompts as text, or add chat_template.jinja to the model folder';
    return new CreamError(
      'INVALID_CHECKPOINT',
      `${this.#directory}: the model has no chat template; ${advice}`,
    );
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

/** A reward model's tokenizer; of the variables it gets those that its chat template reads. */
export async function loadRewardTokenizer(
  directory: string,
  variables: Readonly<Record<string, unknown>> = {},
  options: Omit<TokenizerOptions, 'templateVariables'> = {},
): Promise<Tokenizer> {
  const { chatTemplate = '' } = await readTokenizerFiles(directory);
  const read = Object.entries(variables).filter(([name]) => chatTemplate.includes(name));
  return Tokenizer.load(directory, { ...options, templateVariables: Object.fromEntries(read) });
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

/** A variable that the template does not read has no effect. */
function checkVariables(variables: TokenizerOptions['templateVariables'], files: TokenizerFiles): void {
  const unread = Object.keys(variables ?? {}).find((name) => files.chatTemplate?.includes(name) !== true);
  if (unread === undefined) return;
  const why = files.chatTemplate === undefined ? 'the model has none' : 'it has no variable of that name';
  throw new CreamError('INVALID_CONFIG', `chatTemplate.${unread} has no effect on the chat template: ${why}`);
}
