import { constants } from 'node:fs';
import { copyFile, link, open, readdir, readFile, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { CreamError } from '../errors.js';
import type { RunRecord } from '../run/lineage.js';
import type { StageRecord } from '../run/run-dir.js';
import {
  ioError,
  isMissing,
  makeFolder,
  publishFolder,
  syncFolder,
  TEMPORARY,
  writeFileDurably,
} from '../run/storage.js';
import { shareableStages } from './shared-stages.js';

// A run folder that begins with stages that other runs have done: their files are linked, or copied where the file
// system has no links, and its manifest names them as done. From then on it is a run like any other.

/** A run whose finished stages may be taken. */
export interface Donor {
  /** "srlm/seed-1", for people. */
  label: string;
  directory: string;
  record: RunRecord;
  stages: readonly { key: string; record: StageRecord }[];
}

/** Says in a run folder which stages came from where: stage -> donor. */
export const SHARED_JSON = 'shared.json';

interface Source {
  donor: Donor;
  stage: StageRecord;
}

/** Stages of the new run that some donor has done, in the order of a run. */
function sourcesFor(record: RunRecord, donors: readonly Donor[]): Map<string, Source> {
  const done = new Map<string, Source>();
  for (const donor of donors) {
    const finished = new Map(donor.stages.map(({ key, record: stage }) => [key, stage]));
    for (const { key, digest } of shareableStages(donor.record)) {
      const stage = finished.get(key);
      if (stage !== undefined && !done.has(digest)) done.set(digest, { donor, stage });
    }
  }
  const sources = new Map<string, Source>();
  for (const { key, digest } of shareableStages(record)) {
    const source = done.get(digest);
    if (source !== undefined) sources.set(key, source);
  }
  return sources;
}

async function linkOrCopy(from: string, to: string): Promise<void> {
  await makeFolder(dirname(to));
  try {
    // No file of a finished stage is ever written in place, so a link is as good as a copy.
    await link(from, to);
  } catch (cause) {
    if (isMissing(cause)) throw cause;
    try {
      await copyFile(from, to, constants.COPYFILE_FICLONE);
      const handle = await open(to, 'r+');
      try {
        await handle.sync();
      } finally {
        await handle.close();
      }
    } catch (reason) {
      throw ioError('copy', `${from} to ${to}`, reason);
    }
  }
}

/** The lines of metrics.jsonl up to the end of the last of the shared stages. */
async function metricsOf(sources: ReadonlyMap<string, Source>): Promise<Buffer> {
  const fineTuning = sources.get('sft:M1');
  if (fineTuning === undefined) return Buffer.alloc(0);
  const { donor, stage } = fineTuning;
  const log = await readFile(join(donor.directory, 'metrics.jsonl'));
  return log.subarray(0, stage.metricsBytes);
}

/** A folder that was made but in which no run began is no obstacle; one with something else is. */
async function checkVacant(directory: string): Promise<void> {
  const names = await readdir(directory).catch((cause: unknown) => {
    if (isMissing(cause)) return [];
    throw ioError('read', directory, cause);
  });
  const strangers = names.filter((name) => !/^(lock\.\d+|\.tmp-.*)$/.test(name));
  if (strangers.length === 0) return;
  throw new CreamError(
    'RUN_MISMATCH',
    `${directory} holds files that are no run (${strangers.slice(0, 3).join(', ')}); choose another output`,
  );
}

/**
 * Makes the folder of a new run, at once or not at all, with every stage that a donor has done. Returns the shared
 * stages and where they come from.
 */
export async function beginRun(record: RunRecord, donors: readonly Donor[]): Promise<Record<string, string>> {
  const directory = record.config.output;
  await checkVacant(directory);
  const sources = sourcesFor(record, donors);
  const shared = Object.fromEntries([...sources].map(([key, { donor }]) => [key, donor.label]));
  const temporary = join(dirname(directory), `${TEMPORARY}${basename(directory)}`);
  await makeFolder(dirname(directory));
  await rm(temporary, { recursive: true, force: true });
  await makeFolder(temporary);

  const metrics = await metricsOf(sources);
  const stages: { key: string; record: StageRecord }[] = [];
  let metricsBytes = 0;
  for (const [key, { donor, stage }] of sources) {
    for (const name of Object.keys(stage.files)) {
      try {
        await linkOrCopy(join(donor.directory, name), join(temporary, name));
      } catch (cause) {
        if (!isMissing(cause)) throw cause;
        throw new CreamError(
          'RUN_CORRUPT',
          `${join(donor.directory, name)} is missing, which ${key} of ${donor.label} made; run that again`,
          { cause },
        );
      }
    }
    for (const folder of new Set(Object.keys(stage.files).map(dirname))) {
      await syncFolder(join(temporary, folder));
    }
    // Only the fine-tuning writes metrics; what is done before and after it knows the log's size at that time.
    if (key === 'sft:M1') metricsBytes = metrics.length;
    stages.push({ key, record: { ...stage, metricsBytes } });
  }
  await writeFileDurably(join(temporary, 'metrics.jsonl'), metrics);
  const json = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;
  await writeFileDurably(join(temporary, SHARED_JSON), json(shared));
  await writeFileDurably(join(temporary, 'manifest.json'), json({ version: 1, stages }));
  await writeFileDurably(join(temporary, 'run.json'), json(record));
  await publishFolder(temporary, directory);
  return shared;
}
