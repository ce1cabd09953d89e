import { CreamError } from '../errors.js';
import type { Message } from '../types.js';
import { quote } from './jsonl.js';

// The roles are a closed list because templates write them next to special tokens, some inside of one ("<|user|>").
const ROLES: ReadonlySet<unknown> = new Set(['system', 'developer', 'user', 'assistant', 'tool']);

/** A list of {role, content}, checked and copied: other keys of a message are dropped. */
export function checkMessages(value: unknown): Message[] {
  if (!Array.isArray(value) || value.length === 0) {
    throw new CreamError('INVALID_DATA', `messages must be a list of {role, content}, got ${quote(value)}`);
  }
  return (value as unknown[]).map((entry, i) => {
    const message = typeof entry === 'object' && entry !== null ? (entry as Record<string, unknown>) : {};
    const role = Object.hasOwn(message, 'role') ? message.role : undefined;
    const content = Object.hasOwn(message, 'content') ? message.content : undefined;
    if (!ROLES.has(role)) {
      const wanted = [...ROLES].join(', ');
      throw new CreamError(
        'INVALID_DATA',
        `message ${i + 1} has the role ${quote(role)}; known are ${wanted}`,
      );
    }
    if (typeof content !== 'string') {
      throw new CreamError(
        'INVALID_DATA',
        `message ${i + 1} must have text as content, got ${quote(content)}`,
      );
    }
    return { role: role as string, content };
  });
}
