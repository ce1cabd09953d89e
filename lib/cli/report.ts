import { EXIT_CODES, isCreamError } from '../errors.js';
import type { CreamError } from '../errors.js';
import type { Terminal } from './terminal.js';

/** Tells a failure in one line per thing that is wrong, with its code, and gives the exit code. Unknown errors are ours: they get a stack. */
export function reportFailure(
  error: unknown,
  terminal: Terminal,
  { isDebug, isSaved = true }: { isDebug: boolean; isSaved?: boolean },
): number {
  const label = terminal.style('red', 'error:');
  if (!isCreamError(error)) {
    const system = asSystemError(error);
    if (system !== undefined) {
      terminal.note(`${label} ${system} [IO]`);
      return EXIT_CODES.IO;
    }
    terminal.note(`${label} ${error instanceof Error ? error.message : String(error)}`);
    if (isDebug) terminal.note(stackOf(error));
    else terminal.note('This is a mistake in cream-lm itself; run again with --debug to see where.');
    return 1;
  }
  if (error.code === 'ABORTED') {
    const isPlain = !isSaved || /interrupted$|operation was aborted/.test(error.message);
    const why = isPlain ? '' : `: ${oneLine(error.message)}`;
    terminal.note(`${terminal.style('yellow', 'interrupted')}${why}${isSaved ? '' : ': nothing was saved'}`);
  } else {
    for (const line of error.message.trim().split(/\s*\n\s*/)) {
      terminal.note(`${label} ${line} ${terminal.style('dim', `[${error.code}]`)}`);
    }
  }
  if (isDebug) terminal.note(stackOf(error));
  // 130 promises that the same command goes on from here.
  return error.code === 'ABORTED' && !isSaved ? 1 : exitCodeOf(error);
}

export function exitCodeOf(error: CreamError): number {
  return EXIT_CODES[error.code] ?? 1;
}

function oneLine(message: string): string {
  return message.trim().replaceAll(/\s*\n\s*/g, '; ');
}

/** ENOENT and its kin, with the path that the system named. */
function asSystemError(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error) || !('syscall' in error)) return undefined;
  return oneLine(error.message);
}

function stackOf(error: unknown): string {
  const lines: string[] = [];
  for (let current: unknown = error; current instanceof Error; current = current.cause) {
    lines.push(`${lines.length > 0 ? 'caused by ' : ''}${current.stack ?? current.message}`);
  }
  return lines.join('\n');
}
