import type { RunEvent } from './events.js';

/** Events that nobody has asked for yet; beyond this the oldest progress is forgotten, then the oldest of all. */
const MAX_WAITING = 4096;

/** A run's events as an async iterable for one or more readers in turn; it never holds more than it must. */
export class EventQueue<Event extends { type: string } = RunEvent> implements AsyncIterable<Event> {
  #waiting: Event[] = [];
  #wake: (() => void)[] = [];
  #end: { error?: unknown } | undefined;

  push(event: Event): void {
    this.#waiting.push(event);
    if (this.#waiting.length > MAX_WAITING) {
      const progress = this.#waiting.findIndex(({ type }) => type === 'progress' || type === 'metrics');
      this.#waiting.splice(Math.max(0, progress), 1);
    }
    this.#notify();
  }

  /** After the last event readers end, or throw the error. */
  close(end: { error?: unknown } = {}): void {
    this.#end ??= end;
    this.#notify();
  }

  #notify(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Event, void, undefined> {
    for (;;) {
      const event = this.#waiting.shift();
      if (event !== undefined) yield event;
      else if (this.#end === undefined) await new Promise<void>((resolve) => this.#wake.push(resolve));
      else if ('error' in this.#end) throw this.#end.error;
      else return;
    }
  }
}
