import type { CreamConfig } from '../config.js';
import { LORA_MODULES, type LoraOptions } from '../data/adapter.js';
import type { Model } from '../native/model.js';

/** The settings of a run's adapters, as the engine takes them; undefined for full fine-tuning. */
export function loraOptions(lora: CreamConfig['lora']): LoraOptions | undefined {
  if (lora === undefined) return undefined;
  return { ...lora, targetModules: lora.targetModules === 'all' ? LORA_MODULES : lora.targetModules };
}

export interface ModelsOptions {
  /** Folder of M_number: a checkpoint, or an adapter over M0. */
  directoryOf: (number: number) => string;
  load: (directory: string) => Promise<Model>;
  /** Adapters in place of full fine-tuning. */
  lora?: LoraOptions | undefined;
  seed: number;
}

/**
 * The models of a run, by number: M0, M1, ... The policy stays resident and is trained in place.
 *
 * Full fine-tuning: the base and the previous policy are loaded for their scoring pass and released after it, so that
 * at most two models are in memory (and one beside the optimizer). Loading costs seconds, a third resident model a third
 * of the memory. Adapters: the base stays in memory, and every other model is an adapter over it.
 */
export class Models {
  #resident: { number: number; model: Model } | undefined;
  #base: Model | undefined;
  readonly #options: ModelsOptions;

  constructor(options: ModelsOptions) {
    this.#options = options;
  }

  /** M_number, kept in memory until another policy is asked for. */
  async policy(number: number): Promise<Model> {
    const resident = this.#resident;
    if (resident !== undefined && this.#isResident(number)) return resident.model;
    this.#releasePolicy();
    const model = await this.#make(number);
    this.#resident = { number, model };
    return model;
  }

  /** Uses M_number for one pass: the resident model if it is that one, else loaded and released. */
  async borrow<T>(number: number, use: (model: Model) => Promise<T>): Promise<T> {
    if (this.#isBase(number) && this.#options.lora !== undefined) return use(await this.#baseModel());
    if (this.#resident !== undefined && this.#isResident(number)) return use(this.#resident.model);
    const model = await this.#make(number);
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
    this.#releasePolicy();
    this.#base?.dispose();
    this.#base = undefined;
  }

  #releasePolicy(): void {
    this.#resident?.model.dispose();
    this.#resident = undefined;
  }

  async #make(number: number): Promise<Model> {
    const { directoryOf, load, lora, seed } = this.#options;
    if (lora === undefined) return load(directoryOf(number));
    const base = await this.#baseModel();
    // An adapter that was never trained adds nothing: M0 with one is M0, ready to be trained.
    return this.#isBase(number) ? base.addAdapter(lora, { seed }) : base.loadAdapter(directoryOf(number));
  }

  async #baseModel(): Promise<Model> {
    this.#base ??= await this.#options.load(this.#options.directoryOf(0));
    return this.#base;
  }

  #isBase(number: number): boolean {
    return this.#options.directoryOf(number) === this.#options.directoryOf(0);
  }

  #isResident(number: number): boolean {
    return (
      this.#resident !== undefined &&
      this.#options.directoryOf(this.#resident.number) === this.#options.directoryOf(number)
    );
  }
}
