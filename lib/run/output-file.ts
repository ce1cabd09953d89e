import { createWriteStream } from 'node:fs';
import { constants, open, readlink, realpath, stat } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { CreamError } from '../errors.js';
import { type Content, ioError, isMissing, piecesOf, writeFileDurably, writePieces } from './storage.js';

// A file that a user names for a result. What is there decides how it is written: a file is replaced at once or not at
// all, a link is followed to its file, a pipe or a device is written into.

interface Target {
  /** Where the content goes. */
  path: string;
  /** Replaced as a whole, by rename; else written into as it is. */
  isReplaced: boolean;
  /** Number of the descriptor of this process that the path stands for, as /dev/stdout and /dev/fd/63 do. */
  descriptor?: number;
}

/** Links in a row, more than any system follows. */
const MAX_LINKS = 40;

/** Folders of descriptors, to which /dev/fd leads. */
const DESCRIPTORS = /^\/proc\/.*\/fd$/;

/** Where output to `path` goes. Throws USAGE for a folder, a link to nothing, a disk and a socket. */
export async function outputTarget(path: string): Promise<Target> {
  const refuse = (what: string) => new CreamError('USAGE', `${path} is ${what}; name a file`);
  const found = await stat(path).catch((cause: unknown) => {
    if (isMissing(cause)) return undefined;
    throw ioError('write', path, cause);
  });
  if (found?.isDirectory()) throw refuse('a folder');
  if (found?.isBlockDevice()) throw refuse('a disk');
  if (found?.isSocket()) throw refuse('a socket');
  const isReplaced = found === undefined || found.isFile();
  let real = resolve(path);
  for (let links = 0; links < MAX_LINKS; links++) {
    const next = await readlink(real).catch(() => undefined); // a file, or nothing yet
    const folder = await realpath(dirname(real)).catch(() => dirname(real));
    if (next === undefined) {
      if (found === undefined && DESCRIPTORS.test(folder)) throw refuse('not open');
      if (found === undefined && links > 0) throw refuse('a link to nothing');
      return { path: isReplaced ? real : path, isReplaced };
    }
    // The name of a file that somebody holds open, as behind `> file`, is no more than a hint.
    if (folder === `/proc/${process.pid}/fd`) {
      return { path, isReplaced: false, descriptor: Number(basename(real)) };
    }
    if (DESCRIPTORS.test(folder)) return { path, isReplaced: false };
    real = resolve(dirname(real), next);
  }
  throw refuse('a circle of links');
}

/** Writes a result to the file, pipe or device that a user named. A file appears complete or not at all. */
export async function writeOutput(path: string, content: Content): Promise<void> {
  const { path: real, isReplaced, descriptor } = await outputTarget(path);
  if (isReplaced) {
    await writeFileDurably(real, content);
    return;
  }
  try {
    if (descriptor !== undefined) {
      // Through the descriptor itself, whose place in a file is the caller's.
      await pipeline(piecesOf(content), createWriteStream('', { fd: descriptor, autoClose: false }));
      return;
    }
    // A pipe that nobody reads yet waits for its reader.
    const handle = await open(real, constants.O_WRONLY | constants.O_APPEND);
    try {
      await writePieces(handle, content);
    } finally {
      await handle.close();
    }
  } catch (cause) {
    throw ioError('write', path, cause);
  }
}
