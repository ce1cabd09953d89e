import type { Model } from '../native/model.js';

/**
 * The models of a run, by number: M0, M1, ... The policy stays resident and is trained in place; the base and the
 * previous policy are loaded for their scoring pass and released after it, so that at most two models are in memory
 * (and one beside the optimizer). Loading costs seconds, a third resident model a third of the memory.
 */
export class Models {
  #resident: { number: number; model: Model } | undefined;
  readonly #directoryOf: (number: number) => string;
  readonly #load: (directory: string) => Promise<Model>;

  constructor(directoryOf: (number: number) => string, load: (directory: string) => Promise<Model>) {
    this.#directoryOf = directoryOf;
    this.#load = load;
  }

  /** M_number, kept in memory until another policy is asked for. */
  async policy(number: number): Promise<Model> {
    const resident = this.#resident;
    if (resident !== undefined && this.#isResident(number)) return resident.model;
    this.release();
    const model = await this.#load(this.#directoryOf(number));
    this.#resident = { number, model };
    return model;
  }

  /** Uses M_number for one pass: the resident model if it is that one, else loaded and released. */
  async borrow<T>(number: number, use: (model: Model) => Promise<T>): Promise<T> {
    if (this.#resident !== undefined && this.#isResident(number)) return use(this.#resident.model);
    const model = await this.#load(this.#directoryOf(number));
    try {
      return await use(model);
    } finally {
      model.dispose();
    }
  }

  /** The resident model was trained in place and saved: it is M_number now. */
  becomes(number: number): void {
    if (this.#resident !== undefined) this.#resident.number = number;
  }

  release(): void {
    this.#resident?.model.dispose();
    this.#resident = undefined;
  }

  #isResident(number: number): boolean {
    return (
      this.#resident !== undefined && this.#directoryOf(this.#resident.number) === this.#directoryOf(number)
    );
  }
}
