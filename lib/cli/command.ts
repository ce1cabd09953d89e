import type { Options, Values } from './options.js';
import type { Terminal } from './terminal.js';

/** What every handler gets beside its values. */
export interface Context {
  /** Aborted by Ctrl-C, SIGTERM and its kin, or when the reader of standard output has gone (see makesFolder). */
  readonly signal: AbortSignal;
  /** Standard output and standard error. Only what was asked for goes to the first. */
  readonly terminal: Terminal;
  /** The words after the options: a file, `a.b=value` overrides. */
  readonly words: readonly string[];
  readonly isQuiet: boolean;
}

/**
 * One command. This object and the modules that it imports statically are loaded for every `--help`, so `run`
 * imports what does the work when it is called.
 */
export interface Command<O extends Options = Options> {
  readonly name: string;
  readonly describe: string;
  /** In yargs notation: `<file> [overrides..]`. */
  readonly positionals?: { readonly syntax: string; readonly describe: Readonly<Record<string, string>> };
  readonly options: O;
  /** Command line after `cream `, and what it does. */
  readonly examples?: readonly (readonly [string, string])[];
  /** What is made is a folder: the command goes on when the reader of standard output has gone. */
  readonly makesFolder?: true;
  /** Interrupted work is saved, and the same command continues it (exit code 130). Of other commands nothing is kept. */
  readonly isContinued?: true;
  /** More about inputs and outputs, below the options. */
  readonly notes?: string;
  /** Resolves to the exit code when it is not 0. */
  run(values: Values<O>, context: Context): Promise<number | undefined>;
}

/** Checks the types of a command where it is written and forgets them where all commands are listed. */
export function defineCommand<const O extends Options>(command: Command<O>): Command {
  return command;
}
