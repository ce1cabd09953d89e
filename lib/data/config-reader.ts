import { CreamError } from '../errors.js';

export type JsonObject = Record<string, unknown>;

/**
 * Typed access to the keys of a JSON object that remembers which were read. JSON null counts as absent. Every
 * failure is INVALID_CHECKPOINT with the place and the value.
 */
export class ConfigReader {
  readonly json: JsonObject;
  readonly #where: string;
  readonly #taken = new Set<string>();

  constructor(json: unknown, where: string) {
    this.#where = where;
    if (typeof json !== 'object' || json === null || Array.isArray(json)) {
      throw new CreamError('INVALID_CHECKPOINT', `${where} must hold a JSON object`);
    }
    this.json = json as JsonObject;
  }

  fail(message: string): never {
    throw new CreamError('INVALID_CHECKPOINT', `${this.#where}: ${message}`);
  }

  has(key: string): boolean {
    return Object.hasOwn(this.json, key) && this.json[key] !== null;
  }

  /** Present, and null: a setting that says "none". */
  isNull(key: string): boolean {
    if (!Object.hasOwn(this.json, key) || this.json[key] !== null) return false;
    this.#taken.add(key);
    return true;
  }

  /** Absent, null, or without content: a setting that says "none" in one of the ways in which files say it. */
  isEmpty(key: string): boolean {
    const value = this.take(key);
    if (value === undefined || value === false || value === '') return true;
    return typeof value === 'object' && value !== null && Object.keys(value).length === 0;
  }

  /** The value, or undefined when it is absent. */
  take(key: string): unknown {
    this.#taken.add(key);
    return this.has(key) ? this.json[key] : undefined;
  }

  integer(key: string, min: number, max: number, fallback?: number): number {
    const value = this.#valueOf(key, fallback);
    if (Number.isInteger(value) && (value as number) >= min && (value as number) <= max)
      return value as number;
    if (!this.has(key)) return value as number;
    return this.fail(`${key} must be an integer in [${min}, ${max}], got ${JSON.stringify(value)}`);
  }

  number(key: string, min: number, max: number, fallback?: number): number {
    const value = this.#valueOf(key, fallback);
    if (typeof value === 'number' && value >= min && value <= max) return value;
    return this.fail(`${key} must be a number in [${min}, ${max}], got ${JSON.stringify(value)}`);
  }

  boolean(key: string, fallback?: boolean): boolean {
    const value = this.#valueOf(key, fallback);
    if (typeof value === 'boolean') return value;
    return this.fail(`${key} must be true or false, got ${JSON.stringify(value)}`);
  }

  object(key: string): ConfigReader | undefined {
    const value = this.take(key);
    return value === undefined ? undefined : new ConfigReader(value, `${this.#where}: ${key}`);
  }

  /** Fails when the key is there with another value. */
  mustBe(key: string, value: unknown): void {
    const actual = this.take(key);
    if (actual === undefined || actual === value) return;
    this.fail(
      `${key} must be ${JSON.stringify(value)}, got ${JSON.stringify(actual)}: nothing else is computed`,
    );
  }

  /** Keys with a value that nobody read. */
  remaining(): string[] {
    return Object.keys(this.json).filter((key) => this.has(key) && !this.#taken.has(key));
  }

  #valueOf(key: string, fallback: unknown): unknown {
    const value = this.take(key) ?? fallback;
    if (value === undefined) this.fail(`${key} is missing`);
    return value;
  }
}
