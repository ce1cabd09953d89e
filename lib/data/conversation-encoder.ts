import { CreamError } from '../errors.js';
import type { Message, TemplateInputs } from '../types.js';
import type { ChatTemplate, Conversation, Rendering } from './chat-template.js';
import { markedTokens, type TokenizedPiece } from './marked-tokens.js';
import { contentText, templateMessage } from './messages.js';
import type { Section, SpecialTokens } from './special-tokens.js';
import type { TextCodec } from './text-codec.js';
import type { EncodedConversation } from './turns.js';

// Conversations as tokens, through a model's chat template. What users write, in whatever field, stays text: each
// conversation is rendered twice, with its special tokens hidden and with every character of theirs made neutral, and
// both must have the same special tokens.

/** A loop over a content, or its first part's text. */
const READS_PARTS = /\bfor\s+\w+\s+in\s[^%]*\bcontent\b|\bcontent\b['"\]\s]*\[\s*0\s*\][.['"\s]*text/;

export interface ConversationRequest extends TemplateInputs {
  messages: readonly Message[];
  addGenerationPrompt: boolean;
  /** End with the last message's content, as transformers does with continue_final_message. */
  isOpen?: boolean;
}

export class ConversationEncoder {
  readonly #chat: ChatTemplate;
  readonly #special: SpecialTokens;
  readonly #codec: TextCodec;
  readonly #neutralize: (text: string) => string;
  /** The template reads the texts of a content that is a list; where it does not, it gets them joined. */
  readonly #takesParts: boolean;

  constructor(chat: ChatTemplate, special: SpecialTokens, codec: TextCodec) {
    this.#chat = chat;
    this.#special = special;
    this.#codec = codec;
    this.#neutralize = special.neutralizer(chat.source);
    this.#takesParts = READS_PARTS.test(chat.source);
  }

  /**
   * One function per conversation, in order, that gives its tokens or throws its error. `isStop` tells which tokens may
   * end a turn without being special.
   */
  async encode(
    requests: readonly ConversationRequest[],
    isStop: (id: number) => boolean,
  ): Promise<(() => EncodedConversation)[]> {
    const plain = requests.map((request) => this.#prepared(request));
    const hidings = plain.map((request) => this.#special.hiding([...stringsOf(request), this.#chat.source]));
    const renderings = await this.#chat.render(
      plain.flatMap((request, i) => {
        const hide = (text: string) => hidings[i]?.hide(text) ?? text;
        return [mapConversation(request, hide, hide), mapConversation(request, this.#neutralize)];
      }),
    );
    const known = new Map<string, number[]>();
    return requests.map((request, i) => () => {
      const rendering = rendered(renderings[2 * i]);
      const sections = this.#special.split(rendering.text);
      const neutral = this.#special.split(rendered(renderings[2 * i + 1]).text);
      if (specialSequence(sections) !== specialSequence(neutral)) {
        throw new CreamError(
          'INVALID_DATA',
          "the chat template makes special tokens out of a message's text",
        );
      }
      const hiding = hidings[i];
      const last = contentText(plain[i]?.messages.at(-1)?.content);
      const content = hiding?.hide(last) ?? last;
      const tokens = (parts: readonly Section[]) => this.#tokens(parts, hiding?.reveal, isStop, known);
      const open =
        request.isOpen === true ? this.#special.split(upToContent(rendering.text, content)) : sections;
      const withoutTail = () => tokens(this.#special.split(withoutBlanks(rendering.text, content))).ids;
      const { pieces, ...encoded } = tokens(open);
      const generated = () =>
        markedTokens(placed(pieces, rendering.text, hiding?.reveal), rendering.generation, (ids) =>
          this.#codec.decode([...ids], false),
        );
      return { ...encoded, generated, withoutTail };
    });
  }

  #prepared({ messages, addGenerationPrompt, tools, documents, chat_template_kwargs }: ConversationRequest) {
    const request: Conversation = {
      messages: messages.map((message) => this.#joined(message)),
      addGenerationPrompt,
    };
    if (tools !== undefined) request.tools = tools;
    if (documents !== undefined) request.documents = documents;
    if (chat_template_kwargs !== undefined) request.chat_template_kwargs = chat_template_kwargs;
    return request;
  }

  #joined(given: Message): Message {
    const message = templateMessage(given);
    if (this.#takesParts || !Array.isArray(message.content)) return message;
    return { ...message, content: contentText(message.content) };
  }

  #tokens(
    sections: readonly Section[],
    reveal: ((text: string) => string) | undefined,
    isStop: (id: number) => boolean,
    known: Map<string, number[]>,
  ): Pick<EncodedConversation, 'ids' | 'ends'> & { pieces: Piece[] } {
    const pieces: Piece[] = [];
    const ids: number[] = [];
    const ends: number[] = [];
    for (const [i, section] of sections.entries()) {
      if ('id' in section) {
        ends.push(ids.length);
        ids.push(section.id);
        pieces.push({ text: this.#codec.tokenOf(section.id) ?? '', ids: [section.id] });
        continue;
      }
      const text = reveal === undefined ? section.text : reveal(section.text);
      const place = i === 0 ? 'start' : 'after-special';
      const key = `${place} ${text}`;
      const own = known.get(key) ?? this.#codec.encode(text, place);
      known.set(key, own);
      pieces.push({ text, ids: own });
      for (const id of own) {
        if (isStop(id)) ends.push(ids.length);
        ids.push(id);
      }
    }
    if (ids.length === 0) {
      throw new CreamError('INVALID_DATA', 'the chat template turns the conversation into nothing');
    }
    return { ids, ends, pieces };
  }
}

type Piece = Omit<TokenizedPiece, 'start'>;

/** Pieces with their places in the rendered text. Between them is only white space that a special token swallows. */
function placed(
  pieces: readonly Piece[],
  rendered: string,
  reveal: (text: string) => string = (text) => text,
): TokenizedPiece[] {
  const whole = reveal(rendered);
  let at = 0;
  return pieces.map((piece) => {
    const start = whole.indexOf(piece.text, at);
    at = start + piece.text.length;
    return { ...piece, start };
  });
}

/** The text without the white space that the template puts at its end: of that only the content's own stays. */
function withoutBlanks(text: string, content: string): string {
  const end = text.trimEnd().length;
  const kept = content.slice(content.trimEnd().length);
  return text.slice(0, end) + (text.startsWith(kept, end) ? kept : '');
}

/** The text up to the end of the last message's content, white space at whose end the template may have taken away. */
function upToContent(text: string, content: string): string {
  const core = content.trim();
  const at = text.lastIndexOf(core);
  if (at === -1) {
    throw new CreamError(
      'INVALID_DATA',
      'the chat template changes the text of the last turn, which is to go on: it is not found in the result',
    );
  }
  const spaced = content.trimStart();
  return text.slice(0, at + (text.startsWith(spaced, at) ? spaced : core).length);
}

/** Every text that a conversation brings along. */
function stringsOf(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, field]) => [key, ...stringsOf(field)]);
}

/**
 * A conversation with `map` applied to what users write: every text, and keys with `mapKey`. Roles and one-word types
 * are the format's own.
 */
function mapConversation(
  { messages, tools, documents, ...rest }: Conversation,
  map: (text: string) => string,
  mapKey: (key: string) => string = (key) => key,
): Conversation {
  const mapValue = (value: unknown): unknown => {
    if (typeof value === 'string') return map(value.toWellFormed());
    if (Array.isArray(value)) return value.map(mapValue);
    if (typeof value !== 'object' || value === null) return value;
    return mapFields(value, 'type');
  };
  const mapFields = (fields: object, exempt: 'role' | 'type'): object =>
    Object.fromEntries(
      Object.entries(fields).map(([key, field]) => {
        const isWord = key === exempt && typeof field === 'string' && /^\w*$/.test(field);
        return [mapKey(key), isWord ? field : mapValue(field)];
      }),
    );
  return {
    ...rest,
    messages: messages.map((message) => mapFields(message, 'role') as Message),
    ...(tools === undefined ? {} : { tools: mapValue(tools) as readonly unknown[] }),
    ...(documents === undefined ? {} : { documents: mapValue(documents) as readonly unknown[] }),
  };
}

function rendered(rendering: Rendering | undefined): Exclude<Rendering, { error: CreamError }> {
  if (rendering !== undefined && 'text' in rendering) return rendering;
  throw rendering?.error ?? new CreamError('INVALID_CHECKPOINT', 'the chat template gave no result');
}

function specialSequence(sections: readonly Section[]): string {
  return sections.flatMap((section) => ('id' in section ? [section.id] : [])).join(' ');
}
