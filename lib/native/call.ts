import { CreamError, type ErrorCode, EXIT_CODES } from '../errors.js';
import { type NativeCancelToken, loadBinding } from './binding.js';

/** Runs a call of the addon; what it throws or rejects with becomes a CreamError with the native error as cause. */
export async function native<T>(call: () => T | Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (cause) {
    throw toCreamError(cause);
  }
}

// Native rejections carry no JavaScript stack: this one is made where the promise was awaited.
function toCreamError(cause: unknown): unknown {
  if (cause instanceof CreamError || !(cause instanceof Error)) return cause;
  const code = (cause as { code?: unknown }).code;
  if (typeof code !== 'string' || !Object.hasOwn(EXIT_CODES, code)) return cause;
  return new CreamError(code as ErrorCode, cause.message, { cause });
}

function aborted(signal: AbortSignal): CreamError {
  return new CreamError('ABORTED', 'the operation was aborted', { cause: signal.reason });
}

/** One native verb that an AbortSignal cancels. */
export class AbortableCall {
  readonly #signal: AbortSignal | undefined;
  readonly #token: NativeCancelToken = loadBinding().cancelToken();

  constructor(signal: AbortSignal | undefined) {
    if (signal?.aborted === true) throw aborted(signal);
    this.#signal = signal;
    signal?.addEventListener('abort', this.cancel, { once: true });
  }

  /** Runs a verb to its end and forgets the signal. */
  static async once<T>(
    signal: AbortSignal | undefined,
    verb: (token: NativeCancelToken) => Promise<T>,
  ): Promise<T> {
    const call = new AbortableCall(signal);
    try {
      return await call.run(verb);
    } finally {
      call.end();
    }
  }

  /** For work that cannot be cancelled half way: ABORTED before it, or after it. */
  static async during<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    const check = () => {
      if (signal?.aborted === true) throw aborted(signal);
    };
    check();
    const result = await work();
    check();
    return result;
  }

  run<T>(verb: (token: NativeCancelToken) => Promise<T>): Promise<T> {
    return native(() => verb(this.#token)).catch((error: unknown) => {
      if (this.#signal?.aborted === true && error instanceof CreamError && error.code === 'ABORTED') {
        throw aborted(this.#signal);
      }
      throw error;
    });
  }

  /** Throws ABORTED where the signal asked for it, though the verb may have ended before it noticed. */
  check(): void {
    if (this.#signal?.aborted === true) throw aborted(this.#signal);
  }

  readonly cancel = (): void => this.#token.cancel();

  end(): void {
    this.#signal?.removeEventListener('abort', this.cancel);
  }
}
