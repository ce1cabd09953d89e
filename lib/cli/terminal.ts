import type { CreamError } from '../errors.js';
import { ioError } from '../run/storage.js';

/** `process.stdout` or `process.stderr`; in a pipe `isTTY` is not there. */
type Stream = Pick<NodeJS.WriteStream, 'write' | 'on' | 'off'> & {
  readonly isTTY?: boolean;
  readonly columns?: number;
};

const RESET = '\u001B[0m';
const STYLES = {
  bold: '\u001B[1m',
  dim: '\u001B[2m',
  red: '\u001B[31m',
  green: '\u001B[32m',
  yellow: '\u001B[33m',
  cyan: '\u001B[36m',
};

export type Style = keyof typeof STYLES;

/** NO_COLOR and FORCE_COLOR (no-color.org, force-color.org) decide before the stream does. */
function hasColor(stream: Stream, env: NodeJS.ProcessEnv): boolean {
  if (env['NO_COLOR'] !== undefined && env['NO_COLOR'] !== '') return false;
  const force = env['FORCE_COLOR'];
  if (force !== undefined && force !== '') return force !== '0' && force !== 'false';
  return stream.isTTY === true && env['TERM'] !== 'dumb';
}

/**
 * Standard output and standard error of the program: results go to the one, everything else to the other. When
 * standard output takes no more, `onLost` is called and later writes do nothing. A reader that goes away (`| head`) is
 * not a failure; a full disk is.
 */
export class Terminal {
  readonly #out: Stream;
  readonly #err: Stream;
  readonly #outColor: boolean;
  readonly #errColor: boolean;
  /** A block of lines can be redrawn on standard error. */
  readonly isLive: boolean;
  readonly isUnicode: boolean;
  #isLost = false;
  #failure: CreamError | undefined;
  /** Draws and removes the live block around other writes. */
  #block: { hide(): void; show(): void } | undefined;

  constructor(out: Stream, err: Stream, env: NodeJS.ProcessEnv, onLost: () => void) {
    this.#out = out;
    this.#err = err;
    this.#outColor = hasColor(out, env);
    this.#errColor = hasColor(err, env);
    this.isLive = err.isTTY === true && env['TERM'] !== 'dumb' && !env['CI'];
    const locale = env['LC_ALL'] || env['LC_CTYPE'] || env['LANG'] || '';
    this.isUnicode = /utf-?8/i.test(locale);
    out.on('error', (error: NodeJS.ErrnoException) => {
      if (this.#isLost) return;
      this.#isLost = true;
      const isReaderGone = error.code === 'EPIPE' || (error.code === 'EIO' && this.isOutputTerminal);
      if (!isReaderGone) this.#failure = ioError('write', 'standard output', error);
      onLost();
    });
    // Nothing is left to tell the user with when standard error is gone.
    err.on('error', () => {});
  }

  /** Why standard output took no more, unless its reader has gone. */
  get failure(): CreamError | undefined {
    return this.#failure;
  }

  get isOutputTerminal(): boolean {
    return this.#out.isTTY === true;
  }

  get columns(): number {
    return Math.max(20, this.#err.columns ?? 80);
  }

  /** A result, for standard output. Resolves when the reader has taken it. */
  async print(text: string): Promise<void> {
    if (this.#isLost) return;
    if (this.isOutputTerminal) this.#block?.hide();
    const flushed = this.#out.write(text);
    if (this.isOutputTerminal) this.#block?.show();
    if (flushed) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        for (const event of ['drain', 'error', 'close']) this.#out.off(event, done);
        resolve();
      };
      for (const event of ['drain', 'error', 'close']) this.#out.on(event, done);
    });
  }

  /** Resolves when standard output has taken everything, or is lost. */
  async flush(): Promise<void> {
    if (this.#isLost) return;
    await new Promise<void>((resolve) => {
      this.#out.write('', () => setImmediate(resolve)); // an error is told after the callback
    });
  }

  /** A line for the person who watches, on standard error. */
  note(line: string): void {
    this.#block?.hide();
    this.#err.write(`${line}\n`);
    this.#block?.show();
  }

  /** Control sequences of the live block, on standard error. */
  draw(sequence: string): void {
    this.#err.write(sequence);
  }

  setBlock(block: { hide(): void; show(): void } | undefined): void {
    this.#block = block;
  }

  style(style: Style, text: string): string {
    return this.#errColor ? `${STYLES[style]}${text}${RESET}` : text;
  }

  outStyle(style: Style, text: string): string {
    return this.#outColor ? `${STYLES[style]}${text}${RESET}` : text;
  }
}
