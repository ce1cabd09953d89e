import { type FileHandle, open } from 'node:fs/promises';
import { ioError } from './storage.js';

/**
 * metrics.jsonl, one line per optimizer step. A resumed run cuts it back to the size that its checkpoint recorded,
 * so no step is there twice and none is missing.
 */
export class MetricsLog {
  readonly path: string;
  #handle: FileHandle;
  #bytes: number;

  private constructor(path: string, handle: FileHandle, bytes: number) {
    this.path = path;
    this.#handle = handle;
    this.#bytes = bytes;
  }

  static async open(path: string): Promise<MetricsLog> {
    try {
      const handle = await open(path, 'a+');
      return new MetricsLog(path, handle, (await handle.stat()).size);
    } catch (cause) {
      throw ioError('open', path, cause);
    }
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Forgets what was appended after `bytes`. Returns false when the file is shorter than that already. */
  async truncate(bytes: number): Promise<boolean> {
    if (this.#bytes < bytes) return false;
    await this.#handle.truncate(bytes);
    this.#bytes = bytes;
    return true;
  }

  async append(line: Record<string, unknown>): Promise<void> {
    const data = Buffer.from(`${JSON.stringify(line)}\n`);
    try {
      await this.#handle.appendFile(data);
    } catch (cause) {
      throw ioError('write', this.path, cause, data.length);
    }
    this.#bytes += data.length;
  }

  async sync(): Promise<void> {
    try {
      await this.#handle.sync();
    } catch (cause) {
      throw ioError('write', this.path, cause);
    }
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}
