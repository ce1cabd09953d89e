import { isDeepStrictEqual } from 'node:util';
import type { Message, PromptInput, ResponseInput } from '../types.js';
import { field, type JsonlRow, rowError } from './jsonl.js';
import {
  asResponse,
  has,
  messages,
  nonEmptyText,
  openConversation,
  promptField,
  responseField,
  text,
} from './rows.js';

// The forms in which preferences are published, as prompt, chosen and rejected response:
//
//   {prompt, chosen, rejected}                    text, or messages on every side (TRL's explicit prompt)
//   {chosen, rejected}                            two conversations or two texts with one beginning (TRL's implicit prompt)
//   {prompt: text, chosen, rejected}              two whole conversations; the prompt is in them (UltraFeedback binarized)
//   {messages, chosen, rejected}                  a conversation and its two answers
//   {question | instruction, system?, chosen, rejected}
//
// Scores, ratings and margins are left aside: the losses weigh pairs by their consistency.

export interface PairTexts {
  prompt: PromptInput;
  chosen: ResponseInput;
  rejected: ResponseInput;
}

/** The parts of a row that has `chosen` and `rejected`. */
export function pairTexts(row: JsonlRow): PairTexts {
  const hasConversations = isConversation(row, 'chosen') && isConversation(row, 'rejected');
  if (has(row, 'prompt')) {
    // As in TRL, a prompt that is text says nothing beside conversations, which have it as a turn.
    if (!hasConversations) return answered(row, promptField(row));
    return sharedConversation(row, Array.isArray(field(row, 'prompt')) ? messages(row, 'prompt') : undefined);
  }
  if (hasConversations) return sharedConversation(row, undefined);
  for (const key of ['messages', 'question', 'instruction'] as const) {
    if (has(row, key)) return answered(row, askedIn(row, key));
  }
  return sharedText(row);
}

const answered = (row: JsonlRow, prompt: PromptInput): PairTexts => ({
  prompt,
  chosen: responseField(row, 'chosen'),
  rejected: responseField(row, 'rejected'),
});

/** Messages that begin before the assistant's turn, so that they hold the prompt too. */
function isConversation(row: JsonlRow, key: string): boolean {
  const value = field(row, key);
  if (!Array.isArray(value)) return false;
  const first = (value as unknown[])[0];
  return typeof first === 'object' && first !== null && (first as { role?: unknown }).role !== 'assistant';
}

function askedIn(row: JsonlRow, key: 'messages' | 'question' | 'instruction'): PromptInput {
  if (key === 'messages') return openConversation(row, key, messages(row, key));
  const question = nonEmptyText(row, key);
  const input = key === 'instruction' && has(row, 'input') ? text(row, 'input') : '';
  const asked = input.trim() === '' ? question : `${question}\n\n${input}`;
  const system = has(row, 'system') ? text(row, 'system') : '';
  if (system === '') return asked;
  return [
    { role: 'system', content: system },
    { role: 'user', content: asked },
  ];
}

/** Two conversations: what they have in common is the prompt. */
function sharedConversation(row: JsonlRow, given: readonly Message[] | undefined): PairTexts {
  const chosen = messages(row, 'chosen');
  const rejected = messages(row, 'rejected');
  const isGiven = given?.every((message, i) => isDeepStrictEqual(message, chosen[i])) ?? true;
  if (!isGiven)
    throw rowError(row, 'chosen is a conversation that does not begin with the messages of prompt');
  let shared = 0;
  // Both end with an answer, so that equal conversations have equal answers.
  const most = Math.min(chosen.length, rejected.length) - 1;
  while (shared < most && isDeepStrictEqual(chosen[shared], rejected[shared])) shared += 1;
  if (chosen[shared]?.role !== 'assistant' || rejected[shared]?.role !== 'assistant') {
    throw rowError(
      row,
      'chosen and rejected must be one conversation up to a turn of the assistant, from which on they differ',
    );
  }
  return {
    prompt: openConversation(row, 'chosen (before the turn that differs)', chosen.slice(0, shared)),
    chosen: asResponse(row, 'chosen', chosen.slice(shared)),
    rejected: asResponse(row, 'rejected', rejected.slice(shared)),
  };
}

/**
 * Two texts: their common beginning is the prompt, without a blank at its end, which belongs to the answers (TRL's
 * extract_prompt).
 */
function sharedText(row: JsonlRow): PairTexts {
  if (typeof field(row, 'chosen') !== 'string' || typeof field(row, 'rejected') !== 'string') {
    throw rowError(
      row,
      'prompt is missing; chosen and rejected must be two texts or two conversations without it',
    );
  }
  const chosen = [...text(row, 'chosen')];
  const rejected = [...text(row, 'rejected')];
  let shared = 0;
  while (shared < chosen.length && shared < rejected.length && chosen[shared] === rejected[shared])
    shared += 1;
  if (shared > 0 && chosen[shared - 1] === ' ') shared -= 1;
  if (shared === 0) {
    throw rowError(
      row,
      'prompt is missing, and chosen and rejected have no beginning in common that could be it',
    );
  }
  const rest = (characters: string[]) => characters.slice(shared).join('');
  return { prompt: chosen.slice(0, shared).join(''), chosen: rest(chosen), rejected: rest(rejected) };
}
