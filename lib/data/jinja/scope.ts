import type { Output } from './limits.js';
import type { Symbols } from './symbols.js';
import type { Value } from './values.js';

/** What one rendering shares between its scopes. */
export interface Run {
  /** The text of the template itself, not of a macro or another block that is collected first. */
  root: Output;
  /** Every generation block: where it starts in UTF-16 units of the root's text, and its length in code points. */
  generation: { start: number; length: number }[];
  /** The variables of the conversation and the functions of Jinja2. */
  variables: ReadonlyMap<string, Value>;
}

/** The variables of the template, of a loop's turn, a macro's call or a block; undefined for one without a value. */
export class Scope {
  readonly run: Run;
  readonly #parent: Scope | undefined;
  readonly #values = new Map<string, Value | undefined>();

  constructor(parent: Scope | Run, symbols: Symbols) {
    this.#parent = parent instanceof Scope ? parent : undefined;
    this.run = parent instanceof Scope ? parent.run : parent;
    for (const [name, load] of symbols.loads) {
      let value: Value | undefined;
      if (load === 'conversation') value = this.run.variables.get(name);
      else if (load === 'outer') value = this.#parent?.get(name);
      this.#values.set(name, value);
    }
  }

  get(name: string): Value | undefined {
    return this.#values.has(name) ? this.#values.get(name) : this.#parent?.get(name);
  }

  set(name: string, value: Value): void {
    this.#values.set(name, value);
  }
}
