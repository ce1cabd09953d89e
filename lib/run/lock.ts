import { link, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CreamError } from '../errors.js';
import { ioError, isMissing, TEMPORARY } from './storage.js';

// One process works in a run folder. The lock is a file "lock.N" that names its holder; it appears complete and at
// once (a hard link), so two processes cannot both create it. The lock of a dead process is passed over by taking
// N + 1: a stale file is never renamed or overwritten, so a takeover cannot remove somebody's live lock.

interface Holder {
  pid: number;
  /** Start of the process in clock ticks since boot: another process with the same pid has another one. */
  startTime: string | null;
  host: string;
}

interface Found {
  generation: number;
  holder: Holder | null;
}

export interface Lock {
  release(): Promise<void>;
}

/** How long a holder that is about to end is waited for. */
const PATIENCE_MS = 600;

/** Field 22 of /proc/pid/stat; null where there is no such file. The command, field 2, may contain anything. */
async function startTimeOf(pid: number): Promise<string | null> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? 'zombie' : (fields[19] ?? null);
  } catch {
    return null;
  }
}

async function isAlive(holder: Holder): Promise<boolean> {
  if (holder.host !== hostname()) return true; // cannot be known from here
  try {
    process.kill(holder.pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  const startTime = await startTimeOf(holder.pid);
  return holder.startTime === null || startTime === null || startTime === holder.startTime;
}

async function locksIn(folder: string): Promise<Found[]> {
  const found: Found[] = [];
  for (const name of await readdir(folder)) {
    const generation = /^lock\.(\d{1,15})$/.exec(name)?.[1];
    if (generation === undefined) continue;
    try {
      const holder = JSON.parse(await readFile(join(folder, name), 'utf8')) as Holder;
      found.push({ generation: Number(generation), holder: typeof holder?.pid === 'number' ? holder : null });
    } catch (error) {
      // Released while we looked; or damaged by a power loss, and then its holder is gone.
      if (!isMissing(error)) found.push({ generation: Number(generation), holder: null });
    }
  }
  return found.sort((a, b) => a.generation - b.generation);
}

async function liveHolder(locks: readonly Found[], except?: number): Promise<Holder | undefined> {
  for (const { generation, holder } of locks) {
    if (generation !== except && holder !== null && (await isAlive(holder))) return holder;
  }
  return undefined;
}

/** Whether a process works in a run folder. */
export const isFolderLocked = async (folder: string): Promise<boolean> =>
  (await liveHolder(await locksIn(folder))) !== undefined;

/** One attempt: the lock, or who holds it. */
async function tryLock(folder: string, content: string): Promise<Lock | Holder | 'again'> {
  const before = await locksIn(folder);
  const holder = await liveHolder(before);
  if (holder !== undefined) return holder;

  const generation = (before.at(-1)?.generation ?? 0) + 1;
  const path = join(folder, `lock.${generation}`);
  const temporary = join(folder, `${TEMPORARY}lock-${process.pid}`);
  await writeFile(temporary, content);
  try {
    await link(temporary, path);
  } catch (error) {
    // Another process was first, or its clean-up took our temporary file.
    if ((error as NodeJS.ErrnoException).code === 'EEXIST' || isMissing(error)) return 'again';
    throw error;
  } finally {
    await rm(temporary, { force: true });
  }
  const other = await liveHolder(await locksIn(folder), generation);
  if (other !== undefined) {
    await rm(path, { force: true });
    return other;
  }
  for (const stale of before) await rm(join(folder, `lock.${stale.generation}`), { force: true });
  return { release: () => rm(path, { force: true }) };
}

/** Locks a run folder for this process, or throws RUN_LOCKED with the holder's pid within a second. */
export async function lockFolder(folder: string): Promise<Lock> {
  const own: Holder = { pid: process.pid, startTime: await startTimeOf(process.pid), host: hostname() };
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    let result: Lock | Holder | 'again';
    try {
      result = await tryLock(folder, `${JSON.stringify(own)}\n`);
    } catch (cause) {
      throw ioError('lock', folder, cause);
    }
    if (result !== 'again' && 'release' in result) return result;
    if (result !== 'again' && Date.now() > deadline) {
      const elsewhere =
        result.host === hostname() ? '' : ` on ${result.host}; if that machine is gone, delete lock.*`;
      throw new CreamError('RUN_LOCKED', `process ${result.pid} works in ${folder}${elsewhere}`);
    }
    await sleep(20);
  }
}
