import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import * as nodeFiles from 'node:fs/promises';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { CreamError } from '../errors.js';

// Writes that survive a kill and a power loss: temporary file, fsync, rename, fsync of the folder. A reader sees the
// old content or the new one, never a part.

/** The part of node:fs/promises that is used here; tests put a file system that forgets unsynced writes in its place. */
export type Files = Pick<
  typeof nodeFiles,
  'mkdir' | 'open' | 'readFile' | 'readdir' | 'rename' | 'rm' | 'stat'
>;

/** A content's identity: what a manifest records and a resumed run checks. */
export interface FileRecord {
  sha256: string;
  bytes: number;
}

/** Starts the names of files that are not (yet) part of the run; they are removed when a run starts. */
export const TEMPORARY = '.tmp-';

const REASONS: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full',
  EDQUOT: 'the disk quota is used up',
  EROFS: 'the file system is read-only',
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  EIO: 'input/output error of the device',
  ENOENT: 'there is no such file or folder',
  ENOTDIR: 'a part of the path is not a folder',
  EMFILE: 'too many open files',
};

/** A failure of the file system as an IO error that names the path and, for writes, the bytes needed. */
export function ioError(action: string, path: string, cause: unknown, bytes?: number): CreamError {
  if (cause instanceof CreamError) return cause;
  const code = (cause as NodeJS.ErrnoException | undefined)?.code ?? '';
  const reason = REASONS[code] ?? (cause instanceof Error ? cause.message : String(cause));
  const needed = bytes === undefined ? '' : ` (${bytes} bytes)`;
  return new CreamError(
    'IO',
    `cannot ${action} ${path}${needed}: ${reason}${code === '' ? '' : ` [${code}]`}`,
    { cause },
  );
}

export const isMissing = (error: unknown) => (error as NodeJS.ErrnoException | undefined)?.code === 'ENOENT';

export const sha256 = (data: string | Uint8Array) => createHash('sha256').update(data).digest('hex');

/** Digest of a file of any size, read in pieces. */
export async function fileRecord(path: string): Promise<FileRecord> {
  const hash = createHash('sha256');
  let bytes = 0;
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) {
      hash.update(chunk as Buffer);
      bytes += (chunk as Buffer).length;
    }
  } catch (cause) {
    if (isMissing(cause)) throw cause;
    throw ioError('read', path, cause);
  }
  return { sha256: hash.digest('hex'), bytes };
}

export async function syncFolder(folder: string, files: Files = nodeFiles): Promise<void> {
  const handle = await files.open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Creates a folder and its parents; those that are new are durable. */
export async function makeFolder(folder: string, files: Files = nodeFiles): Promise<void> {
  try {
    await makeOne(resolve(folder), files);
  } catch (cause) {
    throw ioError('create', folder, cause);
  }
}

/** Not `recursive`: that never returns on a file system that refuses new folders with ENOENT, such as /proc. */
async function makeOne(folder: string, files: Files, isRetry = false): Promise<void> {
  try {
    await files.mkdir(folder);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'EEXIST' && (await files.stat(folder)).isDirectory()) return;
    if (code !== 'ENOENT' || isRetry || dirname(folder) === folder) throw cause;
    await makeOne(dirname(folder), files);
    return makeOne(folder, files, true);
  }
  await syncFolder(dirname(folder), files);
}

/** Replaces a file at once, or leaves the old one. Returns what a manifest records. */
export async function writeFileDurably(
  path: string,
  data: string | Uint8Array,
  files: Files = nodeFiles,
): Promise<FileRecord> {
  const content = typeof data === 'string' ? Buffer.from(data) : data;
  const temporary = join(dirname(path), `${TEMPORARY}${basename(path)}`);
  try {
    const handle = await files.open(temporary, 'w');
    try {
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await files.rename(temporary, path);
    await syncFolder(dirname(path), files);
  } catch (cause) {
    await files.rm(temporary, { force: true }).catch(() => undefined); // the first failure is the one to report
    throw ioError('write', path, cause, content.byteLength);
  }
  return { sha256: sha256(content), bytes: content.byteLength };
}

/** Publishes a finished folder under its final name, replacing what is there. */
export async function publishFolder(
  temporary: string,
  path: string,
  files: Files = nodeFiles,
): Promise<void> {
  try {
    await syncFolder(temporary, files);
    await files.rm(path, { recursive: true, force: true });
    await files.rename(temporary, path);
    await syncFolder(dirname(path), files);
  } catch (cause) {
    throw ioError('write', path, cause);
  }
}

/** Every file below a folder, as paths relative to `root`, sorted. Links are not followed. */
export async function listFiles(folder: string, root = folder): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await nodeFiles.readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) found.push(...(await listFiles(path, root)));
    else if (entry.isFile() || entry.isSymbolicLink()) found.push(relative(root, path));
  }
  return found.sort();
}

/** Removes what an interrupted write left behind, everywhere below a folder. */
export async function removeTemporaries(folder: string): Promise<void> {
  for (const entry of await nodeFiles.readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.name.startsWith(TEMPORARY)) await nodeFiles.rm(path, { recursive: true, force: true });
    else if (entry.isDirectory()) await removeTemporaries(path);
  }
}
