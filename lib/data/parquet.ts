import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { open } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { CreamError } from '../errors.js';

// Parquet files as JSON Lines: parquet-process.ts reads the file and writes one line per row.

const MAGIC = 'PAR1';
const MAX_MEMORY_MB = 4096;

/** Whether a file begins as Parquet files do. False for what cannot be opened, which its reader will say. */
export async function isParquet(path: string): Promise<boolean> {
  const file = await open(path).catch(() => undefined);
  if (file === undefined) return false;
  try {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(MAGIC.length), 0, MAGIC.length, 0);
    return buffer.toString('latin1', 0, bytesRead) === MAGIC;
  } catch {
    return false;
  } finally {
    await file.close();
  }
}

/** The rows of a Parquet file as they are read; dispose of it to stop reading. */
export class ParquetLines implements AsyncDisposable {
  /** One JSON object per row. Ends early where the file is damaged; see {@link finish}. */
  readonly stream: Readable;
  readonly #path: string;
  readonly #child: ChildProcess;
  readonly #exit: Promise<unknown[]>;
  #reason = '';

  constructor(path: string) {
    // The program is beside this file, in TypeScript sources as well as compiled.
    const extension = import.meta.url.endsWith('.ts') ? '.ts' : '.js';
    const program = fileURLToPath(new URL(`./parquet-process${extension}`, import.meta.url));
    this.#path = path;
    this.#child = fork(program, [path], {
      // Compiled, it needs none of this process's flags, such as a debugger's or a test runner's.
      execArgv: [...(extension === '.ts' ? process.execArgv : []), `--max-old-space-size=${MAX_MEMORY_MB}`],
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    this.#exit = once(this.#child, 'close');
    this.#exit.catch(() => undefined);
    this.stream = this.#child.stdout!;
    this.#child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#reason = `${this.#reason}${text}`.slice(0, 500);
    });
  }

  /** Resolves after the last row. Throws INVALID_DATA where the file could not be read to its end. */
  async finish(): Promise<void> {
    const [code, signal] = (await this.#exit) as [number | null, NodeJS.Signals | null];
    if (code === 0) return;
    const reason = this.#reason.trim().replaceAll(/\s+/g, ' ') || `its reader ended with ${signal ?? code}`;
    throw new CreamError('INVALID_DATA', `${this.#path}: the Parquet file cannot be read: ${reason}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#exit.catch(() => undefined);
  }
}
