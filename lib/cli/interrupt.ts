import { CreamError } from '../errors.js';

/**
 * Ctrl-C once: abort, so that the command finishes its step and saves. Twice: leave at once. SIGTERM is like the
 * first Ctrl-C. Handlers belong to the program, never to the library.
 */
export class Interrupt {
  readonly #controller = new AbortController();
  readonly #onFirst: () => void;
  readonly #handle = (): void => this.#interrupt();

  constructor(onFirst: () => void) {
    this.#onFirst = onFirst;
    process.on('SIGINT', this.#handle);
    process.on('SIGTERM', this.#handle);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  abort(reason: string): void {
    this.#controller.abort(new CreamError('ABORTED', reason));
  }

  dispose(): void {
    process.off('SIGINT', this.#handle);
    process.off('SIGTERM', this.#handle);
  }

  #interrupt(): void {
    if (this.signal.aborted) process.exit(130);
    this.#onFirst();
    this.abort('interrupted');
  }
}
