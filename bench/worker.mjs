import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

/** One measured process, ours or the peer's: JSON lines in, JSON lines out, one job per process. */
export class Worker {
  #child;
  #lines;
  #tail = '';

  constructor(command, args, env = {}) {
    this.#child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'pipe'] });
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
    this.#child.stderr.setEncoding('utf8').on('data', (text) => {
      this.#tail = (this.#tail + text).slice(-4000);
    });
  }

  async ask(request) {
    this.#child.stdin.write(`${JSON.stringify(request)}\n`);
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`a measured process ended early:\n${this.#tail}`);
    return JSON.parse(value);
  }

  /** Most memory the process has held so far (VmHWM), in bytes. */
  peakMemory() {
    const status = readFileSync(`/proc/${this.#child.pid}/status`, 'utf8');
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)[1]) * 1024;
  }

  async end() {
    const ended = new Promise((resolve) => this.#child.once('close', resolve));
    this.#child.stdin.end();
    await ended;
  }
}
