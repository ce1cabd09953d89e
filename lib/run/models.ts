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
  /** Memory of the GPU that the models are on, in bytes; left out on the CPU. */
  gpuMemory?: (() => Promise<{ free: number; total: number }>) | undefined;
  /** Free memory of the host, in bytes. */
  hostMemory?: (() => Promise<number>) | undefined;
  warn?: ((code: string, message: string) => void) | undefined;
}

/** Idle models stay on the GPU through sampling and training while they take at most this share of it together. */
export const IDLE_SHARE = 0.05;
/** Of the GPU's memory, what a scoring pass needs beside the weights. */
const WORKING_SHARE = 0.1;
/** Of the host's free memory, what stays free beside models that wait. */
const HOST_RESERVE = 0.15;

const bytesOf = ({ numParameters, dtype }: Pick<Model, 'numParameters' | 'dtype'>): number =>
  numParameters * (dtype === 'float32' ? 4 : 2);

interface Idle {
  model: Model;
  isAway: boolean;
  /** Its weights are in host memory, whether they are on the GPU as well or not. */
  hasHostCopy: boolean;
}

/**
 * The models of a run, by number: M0, M1, ... The policy stays resident and is trained in place.
 *
 * Full fine-tuning on the CPU: the base and the previous policy are loaded for their scoring pass and released after it,
 * so that at most two models are in memory (and one beside the optimizer). Loading costs seconds, a third resident model
 * a third of the memory. On a GPU nothing is read twice: a policy that is asked for later is copied before it is trained,
 * and the base and the previous policy wait beside the policy while they fit, else in pinned host memory, from where
 * they come back for their pass. Adapters: the base stays in memory, and every other model is an adapter over it, the
 * previous policy a copy of one.
 */
export class Models {
  #resident: { number: number; model: Model } | undefined;
  #base: Model | undefined;
  /** Models that wait on the GPU or beside it, by folder: the base, and the previous policy. */
  readonly #idle = new Map<string, Idle>();
  /** The adapter of the previous policy. */
  #previousAdapter: { folder: string; model: Model } | undefined;
  /** The folder of the policy that was copied last: the next iteration's previous policy. */
  #kept: string | undefined;
  #movedSeconds = 0;
  readonly #options: ModelsOptions;

  constructor(options: ModelsOptions) {
    this.#options = options;
  }

  /** M_number, kept in memory until another policy is asked for. */
  async policy(number: number): Promise<Model> {
    await this.#clearIdle();
    const resident = this.#resident;
    if (resident !== undefined && this.#isResident(number)) return resident.model;
    this.#releasePolicy();
    const model = await this.#make(number);
    this.#resident = { number, model };
    return model;
  }

  /**
   * Copies the resident policy before it is trained, because it is asked for later. Without a GPU or without the host
   * memory it is read from its folder then.
   */
  async keepPolicy(): Promise<void> {
    const resident = this.#resident;
    if (resident === undefined) return;
    const { directoryOf, lora, gpuMemory } = this.#options;
    const folder = directoryOf(resident.number);
    if (lora !== undefined) {
      if (this.#isBase(resident.number)) return; // which stays
      this.#previousAdapter?.model.dispose();
      this.#previousAdapter = { folder, model: await resident.model.snapshot() };
      return;
    }
    if (gpuMemory === undefined || this.#idle.has(folder)) return;
    await this.#forgetIdle([folder, directoryOf(0)]);
    const bytes = bytesOf(resident.model);
    const { free, total } = await gpuMemory();
    const here = [...this.#idle.values()].filter(({ isAway }) => !isAway);
    const onDevice = here.reduce((sum, { model }) => sum + bytesOf(model), bytes);
    const isSmall = onDevice <= IDLE_SHARE * total && bytes < free;
    if (!isSmall && !(await this.#hasHostRoom(bytes))) return;
    const start = performance.now();
    const model = await resident.model.snapshot({ on: isSmall ? 'device' : 'host' });
    this.#movedSeconds += (performance.now() - start) / 1e3;
    this.#idle.set(folder, { model, isAway: !isSmall, hasHostCopy: !isSmall });
    this.#kept = folder;
  }

  /** Uses M_number for one pass: the resident model if it is that one, else one that waits, else loaded. */
  async borrow<T>(number: number, use: (model: Model) => Promise<T>): Promise<T> {
    const { directoryOf, lora, gpuMemory } = this.#options;
    if (this.#isBase(number) && lora !== undefined) return use(await this.#baseModel());
    if (this.#resident !== undefined && this.#isResident(number)) return use(this.#resident.model);
    if (this.#previousAdapter?.folder === directoryOf(number)) return use(this.#previousAdapter.model);
    if (gpuMemory !== undefined && lora === undefined) return use(await this.#fetch(number, gpuMemory));
    const model = await this.#make(number);
    try {
      return await use(model);
    } finally {
      model.dispose();
    }
  }

  /** Seconds since the last call in which weights were copied or moved between GPU and host. */
  takeMovedSeconds(): number {
    const seconds = this.#movedSeconds;
    this.#movedSeconds = 0;
    return seconds;
  }

  /** The resident model was trained in place and saved: it is M_number now. */
  becomes(number: number): void {
    if (this.#resident !== undefined) this.#resident.number = number;
  }

  release(): void {
    this.#releasePolicy();
    this.#previousAdapter?.model.dispose();
    this.#previousAdapter = undefined;
    this.#base?.dispose();
    this.#base = undefined;
    for (const { model } of this.#idle.values()) model.dispose();
    this.#idle.clear();
  }

  /** M_number on the GPU, kept there or brought back, with room beside it to work. */
  async #fetch(number: number, memory: NonNullable<ModelsOptions['gpuMemory']>): Promise<Model> {
    const folder = this.#options.directoryOf(number);
    const base = this.#options.directoryOf(0);
    if (folder !== base) await this.#forgetIdle([folder, base, this.#kept]);
    const known = this.#idle.get(folder);
    if (known !== undefined && !known.isAway) return known.model;
    const reference = known?.model ?? this.#resident?.model;
    const { free, total } = await memory();
    if (reference !== undefined && free < bytesOf(reference) + WORKING_SHARE * total) await this.#moveAway();
    if (known === undefined) {
      const model = await this.#make(number);
      this.#idle.set(folder, { model, isAway: false, hasHostCopy: false });
      return model;
    }
    this.#movedSeconds += await known.model.onload();
    known.isAway = false;
    return known.model;
  }

  /** Drops the models that wait and that nobody will ask for: the previous policies of earlier iterations. */
  async #forgetIdle(folders: readonly (string | undefined)[]): Promise<void> {
    for (const [name, { model }] of this.#idle) {
      if (folders.includes(name)) continue;
      model.dispose();
      this.#idle.delete(name);
    }
  }

  async #moveAway(): Promise<void> {
    for (const [name, entry] of this.#idle) {
      if (entry.isAway) continue;
      if (!entry.hasHostCopy && !(await this.#hasHostRoom(bytesOf(entry.model)))) {
        entry.model.dispose();
        this.#idle.delete(name);
        continue;
      }
      this.#movedSeconds += await entry.model.offload();
      entry.isAway = entry.hasHostCopy = true;
    }
  }

  async #hasHostRoom(bytes: number): Promise<boolean> {
    const { hostMemory, warn } = this.#options;
    const free = (await hostMemory?.()) ?? Number.POSITIVE_INFINITY;
    if (bytes < (1 - HOST_RESERVE) * free) return true;
    const gib = (size: number) => `${(size / 2 ** 30).toFixed(1)} GiB`;
    warn?.(
      'host-memory',
      `a model of ${gib(bytes)} does not wait in host memory, of which ${gib(free)} are free: it is read from its folder ` +
        'when it is asked for. More host memory, a smaller model or lora avoid that',
    );
    return false;
  }

  /** Before the policy samples or trains: large idle models leave the GPU to it. */
  async #clearIdle(): Promise<void> {
    if (this.#options.gpuMemory === undefined || this.#idle.size === 0) return;
    const idle = [...this.#idle.values()].filter(({ isAway }) => !isAway);
    const bytes = idle.reduce((sum, { model }) => sum + bytesOf(model), 0);
    const { total } = await this.#options.gpuMemory();
    if (bytes > IDLE_SHARE * total) await this.#moveAway();
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
