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
  EPIPE: 'its reader has gone',
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

/** Bytes, or pieces of text one after another: what is longer than a string may be is never held at once. */
export type Content = string | Uint8Array | Iterable<string> | AsyncIterable<string>;

/** What goes to the file system in one call. */
const PIECE_BYTES = 1 << 20;

/** The content in pieces of about {@link PIECE_BYTES}; at least one, which may be empty. */
export async function* piecesOf(content: Content): AsyncGenerator<Uint8Array> {
  if (typeof content === 'string' || content instanceof Uint8Array) {
    yield typeof content === 'string' ? Buffer.from(content) : content;
    return;
  }
  let waiting: string[] = [];
  let length = 0;
  for await (const text of content) {
    waiting.push(text);
    length += text.length;
    if (length < PIECE_BYTES) continue;
    yield Buffer.from(waiting.join(''));
    waiting = [];
    length = 0;
  }
  yield Buffer.from(waiting.join(''));
}

/** Writes the content through an open file, piece by piece, and returns its identity. */
export async function writePieces(
  handle: Pick<nodeFiles.FileHandle, 'writeFile'>,
  content: Content,
): Promise<FileRecord> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const piece of piecesOf(content)) {
    await handle.writeFile(piece); // goes on where the last one ended
    hash.update(piece);
    bytes += piece.byteLength;
  }
  return { sha256: hash.digest('hex'), bytes };
}

/** Replaces a file at once, or leaves the old one. Returns what a manifest records. */
export async function writeFileDurably(
  path: string,
  content: Content,
  files: Files = nodeFiles,
): Promise<FileRecord> {
  const temporary = join(dirname(path), `${TEMPORARY}${basename(path)}`);
  try {
    let record: FileRecord;
    const handle = await files.open(temporary, 'w');
    try {
      record = await writePieces(handle, content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await files.rename(temporary, path);
    await syncFolder(dirname(path), files);
    return record;
  } catch (cause) {
    await files.rm(temporary, { force: true }).catch(() => undefined); // the first failure is the one to report
    const isWhole = typeof content === 'string' || content instanceof Uint8Array;
    throw ioError('write', path, cause, isWhole ? Buffer.byteLength(content) : undefined);
  }
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
