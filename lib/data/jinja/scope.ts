import type { Output } from './limits.js';
import type { Value } from './values.js';

/** What one rendering shares between its scopes. */
export interface Run {
  /** The text of the template itself, not of a macro or another block that is collected first. */
  root: Output;
  /** Start and end of every generation block, in UTF-16 units of the text. */
  generation: [start: number, end: number][];
}

/** Names of a loop's turn, a macro's call or a block; what is not found here is looked up further out. */
export class Scope {
  readonly run: Run;
  readonly #parent: Scope | undefined;
  readonly #values = new Map<string, Value>();

  constructor(parent: Scope | Run) {
    this.#parent = parent instanceof Scope ? parent : undefined;
    this.run = parent instanceof Scope ? parent.run : parent;
  }

  get(name: string): Value | undefined {
    const value = this.#values.get(name);
    return value === undefined ? this.#parent?.get(name) : value;
  }

  set(name: string, value: Value): void {
    this.#values.set(name, value);
  }
}
