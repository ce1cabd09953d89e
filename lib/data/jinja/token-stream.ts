import { TemplateError } from './errors.js';
import type { Token } from './lexer.js';

/** Tokens with a position. */
export class TokenStream {
  readonly #tokens: readonly Token[];
  #at = 0;

  /** The last token must be "eof". */
  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  look(ahead = 1): Token {
    return this.#tokens[Math.min(this.#at + ahead, this.#tokens.length - 1)] as Token;
  }

  get current(): Token {
    return this.look(0);
  }

  get type(): string {
    return this.current.type;
  }

  next(): Token {
    const token = this.current;
    this.#at += 1;
    return token;
  }

  isName(name: string, ahead = 0): boolean {
    const token = this.look(ahead);
    return token.type === 'name' && token.value === name;
  }

  skipIf(type: string): boolean {
    if (this.type !== type) return false;
    this.#at += 1;
    return true;
  }

  skipIfName(name: string): boolean {
    if (!this.isName(name)) return false;
    this.#at += 1;
    return true;
  }

  expect(type: string): Token {
    if (this.type !== type) this.fail(`expected token '${type}', got '${this.current.value || this.type}'`);
    return this.next();
  }

  expectName(name: string): void {
    if (!this.skipIfName(name))
      this.fail(`expected token '${name}', got '${this.current.value || this.type}'`);
  }

  isTupleEnd(endName: string | undefined): boolean {
    if (['variable_end', 'block_end', ')'].includes(this.type)) return true;
    return endName !== undefined && this.isName(endName);
  }

  fail(message: string): never {
    throw new TemplateError(`TemplateSyntaxError: ${message} (line ${this.current.line})`);
  }
}
