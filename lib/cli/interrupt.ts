import { readFileSync, readlinkSync } from 'node:fs';
import { CreamError } from '../errors.js';

/** What a batch system sends to say that time is nearly or wholly over, and a terminal that it is gone. */
export const STOP_SIGNALS = ['SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGXCPU'] as const;

/**
 * One Ctrl-C can arrive twice: from the terminal, and from a launcher (npx, srun) that passes it on. What comes sooner
 * than a person presses again is the same one.
 */
const SAME_PRESS_MS = 500;

/**
 * A stop request is one, however often and by whichever signal it comes: abort, so that the command finishes its step
 * and saves. Only a second Ctrl-C (SIGINT), which a person presses, leaves at once. Handlers belong to the program,
 * never to the library; they stay until the process ends, so that a late signal does not undo what was saved.
 */
export class Interrupt {
  readonly #controller = new AbortController();
  readonly #told: { onStop: (isPerson: boolean) => void; onLeave: () => void };
  #pressedMs: number | undefined;
  #isByReader = false;

  constructor(
    told: { onStop: (isPerson: boolean) => void; onLeave: () => void },
    source: { on: (signal: NodeJS.Signals, listener: () => void) => unknown } = process,
  ) {
    this.#told = told;
    source.on('SIGINT', () => this.#press());
    for (const name of STOP_SIGNALS) {
      if (name === 'SIGHUP' && isUnderNohup()) source.on(name, () => undefined);
      else source.on(name, () => this.#stop(false));
    }
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The reader of standard output went away before anything else asked to stop. */
  get isByReader(): boolean {
    return this.#isByReader;
  }

  /** Nobody reads what the command makes. */
  readerGone(): void {
    if (this.signal.aborted) return;
    this.#isByReader = true;
    this.#controller.abort(new CreamError('ABORTED', 'the reader of standard output has gone'));
  }

  #press(): void {
    const now = performance.now();
    if (this.#pressedMs !== undefined) {
      if (now - this.#pressedMs >= SAME_PRESS_MS) this.#told.onLeave();
      return;
    }
    this.#pressedMs = now;
    this.#stop(true);
  }

  #stop(isPerson: boolean): void {
    if (this.signal.aborted && !isPerson) return;
    this.#told.onStop(isPerson);
    this.#controller.abort(new CreamError('ABORTED', 'interrupted'));
  }
}

/**
 * Node.js forgets that nohup had SIGHUP ignored. What is left of it: nohup gives a program whose input is a terminal
 * the null device to read from, opened for writing alone.
 */
function isUnderNohup(): boolean {
  try {
    const flags = /^flags:\s*([0-7]+)$/m.exec(readFileSync('/proc/self/fdinfo/0', 'utf8'))?.[1] ?? '0';
    return (Number.parseInt(flags, 8) & 3) === 1 && readlinkSync('/proc/self/fd/0') === '/dev/null';
  } catch {
    return false; // no /proc, or no standard input
  }
}
