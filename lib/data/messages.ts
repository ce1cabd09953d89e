import { CreamError } from '../errors.js';
import type { Message, MessageContent, ResponseInput, TemplateInputs } from '../types.js';
import { ForeignValue } from './foreign-value.js';
import { quote } from './jsonl.js';

// The roles are a closed list because templates write them next to special tokens, some inside of one ("<|user|>").
const ROLES: ReadonlySet<unknown> = new Set(['system', 'developer', 'user', 'assistant', 'tool']);

/** What a chat template gets from elsewhere, so that no further variable may have the name. */
export const RESERVED_VARIABLES = [
  'messages',
  'tools',
  'documents',
  'add_generation_prompt',
  'continue_final_message',
] as const;

/**
 * A list of messages, checked and copied. A message has a role and, as content, text or a list of text parts; every
 * further field is kept for the chat template. Only a message with such a field may lack content.
 */
export function checkMessages(value: unknown): Message[] {
  if (!Array.isArray(value) || value.length === 0) {
    throw new CreamError('INVALID_DATA', `messages must be a list of {role, content}, got ${quote(value)}`);
  }
  return (value as unknown[]).map((entry, i) => {
    const message = { ...(typeof entry === 'object' && entry !== null ? entry : {}) } as Record<
      string,
      unknown
    >;
    const { role, content, ...others } = message;
    if (!ROLES.has(role)) {
      const wanted = [...ROLES].join(', ');
      throw new CreamError(
        'INVALID_DATA',
        `message ${i + 1} has the role ${quote(role)}; known are ${wanted}`,
      );
    }
    refuseForeign(message, `message ${i + 1}`);
    const isAbsent = content === undefined || content === null;
    const saysElse = Object.values(others).some((field) => !isEmpty(field));
    if (isAbsent ? !saysElse : typeof content !== 'string') checkParts(content, i);
    return message as Message;
  });
}

/** What has no form in JSON cannot reach a chat template: neither a date of Parquet nor a number that no double holds. */
export function refuseForeign(value: unknown, where: string): void {
  if (value instanceof ForeignValue) {
    throw new CreamError(
      'INVALID_DATA',
      `${where} is of another kind in the file, ${value.toJSON()}; store it as the text or number that is meant`,
    );
  }
  if (typeof value !== 'object' || value === null) return;
  for (const [key, inner] of Object.entries(value)) refuseForeign(inner, `${where}.${key}`);
}

const isEmpty = (field: unknown) =>
  field === undefined || field === null || field === '' || (Array.isArray(field) && field.length === 0);

function checkParts(content: unknown, index: number): void {
  if (!Array.isArray(content)) {
    throw new CreamError(
      'INVALID_DATA',
      `message ${index + 1} must have text as content, got ${quote(content)}`,
    );
  }
  for (const [i, part] of (content as unknown[]).entries()) {
    const { type, text } = Object(part) as { type?: unknown; text?: unknown };
    if (type !== 'text' || typeof text !== 'string') {
      throw new CreamError(
        'INVALID_DATA',
        `message ${index + 1}, part ${i + 1} of its content must be {"type": "text", "text": ...}, got ${quote(part)}`,
      );
    }
  }
}

/** What a record gives its chat template beside the messages. */
export function templateInputsOf({ tools, documents, chat_template_kwargs }: TemplateInputs): TemplateInputs {
  return {
    ...(tools !== undefined && { tools }),
    ...(documents !== undefined && { documents }),
    ...(chat_template_kwargs !== undefined && { chat_template_kwargs }),
  };
}

/** Names under which thoughts are given; templates read the first, some the second. */
const REASONING_FIELDS = ['reasoning_content', 'thinking', 'reasoning'] as const;

/** A message as transformers shows it to a chat template: without fields that are null, thoughts under both names. */
export function templateMessage(message: Message): Message {
  const shown = Object.fromEntries(
    Object.entries(message).filter(([, value]) => value !== null && value !== undefined),
  );
  const field = REASONING_FIELDS.find((name) => shown[name] !== undefined);
  if (field === undefined) return shown as Message;
  const reasoning = shown[field];
  return { thinking: reasoning, ...shown, reasoning_content: reasoning } as unknown as Message;
}

/** The text of a content; its parts follow each other without a blank. */
export function contentText(content: MessageContent | undefined): string {
  if (content === undefined || content === null) return '';
  return typeof content === 'string' ? content : content.map(({ text }) => text).join('');
}

/** The messages of a response; text is the content of one. */
export function responseMessages(response: ResponseInput): readonly Message[] {
  return typeof response === 'string' ? [{ role: 'assistant', content: response }] : response;
}

/** A response for people: its last message's text. */
export function responseText(response: ResponseInput): string {
  return typeof response === 'string' ? response : contentText(response.at(-1)?.content);
}
