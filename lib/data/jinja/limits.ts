import { TemplateError } from './errors.js';

// The limits on the rendering in progress. A template is a program that came with a model; one process renders one
// text at a time, so the state is the module's.

export interface Limits {
  timeoutMs: number;
  /** In UTF-16 units, of the text that is rendered. */
  maxOutputLength: number;
}

/** Elements of a list or characters of a text that one operation may make. */
const MAX_LENGTH = 4 * 1024 * 1024;
/** How many steps pass between two looks at the clock. */
const STEPS_PER_LOOK = 1024;

let deadline = Number.POSITIVE_INFINITY;
let limits: Limits = { timeoutMs: Number.POSITIVE_INFINITY, maxOutputLength: MAX_LENGTH };
let steps = 0;

export function startLimits(next: Limits): void {
  limits = next;
  deadline = performance.now() + next.timeoutMs;
  steps = 0;
}

/** Counts work, so that a template ends even where nobody is left to stop its process. */
export function spend(count = 1): void {
  steps += count;
  if (steps < STEPS_PER_LOOK) return;
  steps = 0;
  if (performance.now() > deadline) throw new TemplateError(`it ran for more than ${limits.timeoutMs} ms`);
}

/** Call before a text or list of this length is made. */
export function checkLength(length: number): number {
  if (!(length <= MAX_LENGTH)) {
    throw new TemplateError(`it makes a text or list of ${length} elements; at most ${MAX_LENGTH}`);
  }
  spend(length / 64);
  return length;
}

/** Where rendered text is collected. */
export class Output {
  text = '';
  write(text: string): void {
    this.text += text;
    if (this.text.length > limits.maxOutputLength) {
      throw new TemplateError(
        `the result has more characters than the limit of ${limits.maxOutputLength} (${this.text.length} so far)`,
      );
    }
  }
}
