import type { EncodingOptions, ExchangeOptions, PrefixMismatch } from '../data/exchange-encoder.js';
import { TextNotices } from '../data/text-notices.js';
import { Tokenizer } from '../data/tokenizer.js';
import type { Context } from './command.js';

// How the commands turn a file's texts into tokens, and what they tell of it.

export interface TextValues {
  chat: boolean;
  chatTemplate: Readonly<Record<string, unknown>> | undefined;
  prefixMismatch?: PrefixMismatch;
}

export function loadTokenizer(folder: string, { chatTemplate }: TextValues): Promise<Tokenizer> {
  return Tokenizer.load(folder, chatTemplate === undefined ? {} : { templateVariables: chatTemplate });
}

/** The encoding that the options ask for; `work` gets it, and afterwards the file's surprises are told. */
export async function encoding<T>(
  source: string,
  { chat, prefixMismatch }: TextValues,
  { terminal, signal }: Pick<Context, 'terminal' | 'signal'>,
  work: (options: EncodingOptions & ExchangeOptions) => Promise<T>,
): Promise<T> {
  const notices = new TextNotices();
  const options = { chat, signal, notices, ...(prefixMismatch !== undefined && { prefixMismatch }) };
  const result = await work(options);
  for (const { message } of notices.warnings(source)) {
    terminal.note(`${terminal.style('yellow', 'warning:')} ${message}`);
  }
  return result;
}
