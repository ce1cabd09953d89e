import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { CreamConfig } from '../config.js';
import { CreamError } from '../errors.js';
import { type FileRecord, fileRecord, ioError, isMissing, listFiles, writeFileDurably } from './storage.js';

// A run folder:
//   run.json                 resolved settings, digests of the inputs, versions, threads
//   manifest.json            the stages that are done, with the digest of every file they made; written last
//   lock.N                   the process that works here
//   metrics.jsonl            one line per optimizer step
//   events.jsonl             log of all events but progress
//   sft/model/               M1
//   iteration-1/samples.jsonl, scores.jsonl, ranks.jsonl, correct.jsonl, pairs.jsonl
//   iteration-1/policy/      M2
//   evaluation/M0.jsonl ...  answers with their verdict
//   summary.json
//   report.html, metrics.csv, tensorboard/, progress.json   for people and other tools; nothing here reads them to compute

export interface Warning {
  code: string;
  message: string;
}

/** A stage that is done. */
export interface StageRecord {
  /** Paths relative to the run folder. */
  files: Record<string, FileRecord>;
  seconds: number;
  /** Size of metrics.jsonl with the lines of the stages up to this one. */
  metricsBytes: number;
  /** What later stages and the summary need of it. */
  result: Record<string, unknown>;
  warnings: Warning[];
}

interface Manifest {
  version: 1;
  /** In the order in which they were done. */
  stages: { key: string; record: StageRecord }[];
}

/** The folder of the checkpoint M_number. Without data.sft M1 is M0. */
export function checkpointFolder(
  { model, data }: Pick<CreamConfig, 'model' | 'data'>,
  dir: Pick<RunDir, 'path'>,
  number: number,
): string {
  if (number === 0 || (number === 1 && data.sft === undefined)) return model;
  return dir.path(number === 1 ? 'sft/model' : `iteration-${number - 1}/policy`);
}

export class RunDir {
  readonly directory: string;
  #stages: Manifest['stages'] = [];

  constructor(directory: string) {
    this.directory = directory;
  }

  path(...parts: string[]): string {
    return join(this.directory, ...parts);
  }

  /** The JSON object in a file of the folder, or undefined when there is no such file. */
  async readJson(name: string): Promise<unknown> {
    let text: string;
    try {
      text = await readFile(this.path(name), 'utf8');
    } catch (cause) {
      if (isMissing(cause)) return undefined;
      throw ioError('read', this.path(name), cause);
    }
    try {
      return JSON.parse(text) as unknown;
    } catch (cause) {
      throw new CreamError(
        'RUN_CORRUPT',
        `${this.path(name)} is not JSON; restore it or start in another folder`,
        { cause },
      );
    }
  }

  writeJson(name: string, value: unknown): Promise<FileRecord> {
    return writeFileDurably(this.path(name), `${JSON.stringify(value, null, 2)}\n`);
  }

  /**
   * Reads the manifest and checks every file of it by content. A file with another content is RUN_CORRUPT. A
   * missing file means that its stage and all later ones are done again; they are returned.
   */
  async open(): Promise<string[]> {
    const manifest = (await this.readJson('manifest.json')) as Manifest | undefined;
    if (manifest === undefined) return [];
    if (manifest.version !== 1 || !Array.isArray(manifest.stages)) {
      throw new CreamError(
        'RUN_CORRUPT',
        `${this.path('manifest.json')} is of another version of this package`,
      );
    }
    for (const [index, { record }] of manifest.stages.entries()) {
      for (const [name, recorded] of Object.entries(record.files)) {
        let found: FileRecord;
        try {
          found = await fileRecord(this.path(name));
        } catch (cause) {
          if (!isMissing(cause)) throw cause;
          // Checkpoints of later stages know places in the metrics log that will not be there.
          await this.forgetUnfinished();
          this.#stages = manifest.stages.slice(0, index);
          await this.#writeManifest();
          return manifest.stages.slice(index).map((stage) => stage.key);
        }
        if (found.sha256 !== recorded.sha256) {
          throw new CreamError(
            'RUN_CORRUPT',
            `${this.path(name)} is not what the run wrote (sha256 ${found.sha256.slice(0, 12)}, recorded ` +
              `${recorded.sha256.slice(0, 12)}); restore it, or delete it to have its stage and all later ones done again`,
          );
        }
      }
    }
    this.#stages = manifest.stages;
    return [];
  }

  done(key: string): StageRecord | undefined {
    return this.#stages.find((stage) => stage.key === key)?.record;
  }

  /** Stages that are done, in order. */
  get stages(): readonly { key: string; record: StageRecord }[] {
    return this.#stages;
  }

  /** The stage is done once this resolves: files (relative names; a folder stands for all files in it) are recorded. */
  async commit(key: string, names: readonly string[], record: Omit<StageRecord, 'files'>): Promise<void> {
    const files: Record<string, FileRecord> = {};
    for (const name of names) {
      if (name.endsWith('/')) {
        for (const inner of await listFiles(this.path(name), this.directory)) {
          files[inner] = await fileRecord(this.path(inner));
        }
      } else {
        files[name] = await fileRecord(this.path(name));
      }
    }
    this.#stages = [...this.#stages, { key, record: { files, ...record } }];
    await this.#writeManifest();
  }

  /** Removes chunks and checkpoints of stages that are not done. */
  async forgetUnfinished(): Promise<void> {
    for (const name of await readdir(this.directory, { recursive: true })) {
      if (name.endsWith('.partial')) await this.remove(name);
    }
  }

  /** Removes a file or folder of the run, if it is there. */
  async remove(name: string): Promise<void> {
    try {
      await rm(this.path(name), { recursive: true, force: true });
    } catch (cause) {
      throw ioError('remove', this.path(name), cause);
    }
  }

  async #writeManifest(): Promise<void> {
    await this.writeJson('manifest.json', { version: 1, stages: this.#stages } satisfies Manifest);
  }
}
