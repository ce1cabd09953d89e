import type { CreamConfig } from '../config.js';
import { CreamError, type ErrorCode, isCreamError } from '../errors.js';
import type { RunEvent } from './events.js';
import type { ResumeMode } from './run.js';
import type { RunSummary } from './summary.js';

// What host and engine process say to each other.

export type ToWorker =
  | { type: 'start'; config: CreamConfig; resume: ResumeMode; origins: Record<string, string> }
  | { type: 'abort' };

export type ToHost =
  | { type: 'event'; event: RunEvent }
  | { type: 'result'; summary: RunSummary }
  | { type: 'error'; error: PlainError };

/** An error that can cross a process border. */
export interface PlainError {
  /** Absent for an error that this package did not throw on purpose. */
  code?: ErrorCode;
  message: string;
  stack?: string;
}

export function toPlainError(error: unknown): PlainError {
  if (!(error instanceof Error)) return { message: String(error) };
  const { message, stack } = error;
  return {
    ...(isCreamError(error) ? { code: error.code } : {}),
    message,
    ...(stack === undefined ? {} : { stack }),
  };
}

/** The error as the host throws it; `cause` has the stack of the process where it happened. */
export function fromPlainError({ code, message, stack }: PlainError): Error {
  const cause = new Error(message);
  if (stack !== undefined) cause.stack = stack;
  return code === undefined ? new Error(message, { cause }) : new CreamError(code, message, { cause });
}
