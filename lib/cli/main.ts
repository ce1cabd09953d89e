import yargs from 'yargs';
import type { Argv } from 'yargs';
import { CreamError, isCreamError } from '../errors.js';
import { nearest } from '../nearest.js';
import { COMMANDS } from './commands.js';
import type { Command } from './command.js';
import { Interrupt } from './interrupt.js';
import { flag, kebab, quote } from './options.js';
import type { Options } from './options.js';
import { packageVersion } from '../package.js';
import { reportFailure } from './report.js';
import { Terminal } from './terminal.js';

const GLOBAL_OPTIONS = {
  quiet: flag('no progress and no notes; warnings and errors only', { alias: 'q' }),
  debug: flag('show the stack of an error'),
} as const satisfies Options;

/** Option names that yargs itself understands. */
const BUILT_IN = ['help', 'version'];

/** Runs one command line and gives its exit code. */
export async function main(argv: readonly string[]): Promise<number> {
  let interrupt: Interrupt | undefined;
  let called: Command | undefined;
  const terminal = new Terminal(process.stdout, process.stderr, process.env, () => {
    if (called?.makesFolder !== true) interrupt?.readerGone();
  });
  const isDebug = argv.includes('--debug');
  try {
    let exitCode = 0;
    const parser = createParser(argv, async (command, parsed) => {
      called = command;
      const values = readValues(command, parsed);
      const context = { words: readWords(command, parsed), isQuiet: parsed['quiet'] === true, terminal };
      interrupt = startInterrupt(command, terminal);
      exitCode = (await command.run(values, { ...context, signal: interrupt.signal })) ?? 0;
    });
    if (argv.length === 0) {
      parser.showHelp('error');
      return 2;
    }
    await parser.parseAsync();
    await terminal.flush();
    return terminal.failure === undefined ? exitCode : reportFailure(terminal.failure, terminal, { isDebug });
  } catch (error) {
    await terminal.flush();
    if (interrupt?.isByReader && isCreamError(error) && error.code === 'ABORTED') {
      return terminal.failure === undefined ? 0 : reportFailure(terminal.failure, terminal, { isDebug });
    }
    const isSaved = called?.isContinued === true;
    return reportFailure(explain(error, argv), terminal, { isDebug, isSaved });
  } finally {
    terminal.setBlock(undefined);
  }
}

function startInterrupt({ isContinued }: Command, terminal: Terminal): Interrupt {
  return new Interrupt({
    onStop: (isPerson) => {
      const again = isPerson ? '; Ctrl-C again stops at once' : '';
      terminal.note(isContinued ? `stopping after this step${again}` : `stopping${again}`);
    },
    onLeave: () => {
      const kept = isContinued ? 'the step in progress is not saved' : 'nothing was saved';
      terminal.note(`${terminal.style('red', 'error:')} stopped at once: ${kept}`);
      process.exit(1);
    },
  });
}

const NO_COMMAND = 'a command is needed';

/** What yargs says about a command line that it does not accept. */
class UsageMistake extends Error {}

type Parsed = Readonly<Record<string, Given | readonly Given[] | undefined>>;
/** Numbers are not parsed by yargs, so there are none. */
type Given = string | boolean;

function createParser(
  argv: readonly string[],
  run: (command: Command, parsed: Parsed) => Promise<void>,
): Argv {
  let parser = yargs([...argv])
    .scriptName('cream')
    .usage('$0 <command>\n\nTrains language models by consistency-regularised self-rewarding (CREAM).')
    .parserConfiguration({
      'boolean-negation': false,
      'camel-case-expansion': false,
      'dot-notation': false,
      'duplicate-arguments-array': true,
      'nargs-eats-options': true,
      'parse-numbers': false,
      'parse-positional-numbers': false,
      'short-option-groups': false,
    })
    .detectLocale(false)
    .exitProcess(false)
    .fail((message: string | null, error?: Error) => {
      throw message === null ? error : new UsageMistake(message);
    })
    .showHelpOnFail(false)
    .strict()
    .demandCommand(1, NO_COMMAND)
    .help('help')
    .alias('help', 'h')
    .version(packageVersion())
    .completion('completion', 'print the completion script of your shell')
    .wrap(Math.min(110, process.stdout.columns ?? 100))
    .epilogue('cream <command> --help tells the options of a command. Start with: cream init');
  for (const command of COMMANDS) {
    parser = parser.command(
      [command.name, command.positionals?.syntax].filter(Boolean).join(' '),
      command.describe,
      (builder) => describeCommand(command, builder),
      (parsed) => run(command, parsed as Parsed),
    );
  }
  return parser;
}

function describeCommand(command: Command, parser: Argv): Argv {
  parser.usage(
    `$0 ${[command.name, command.positionals?.syntax, '[options]'].filter(Boolean).join(' ')}\n\n${command.describe}`,
  );
  for (const [name, describe] of Object.entries(command.positionals?.describe ?? {})) {
    parser.positional(name, { describe });
    // Without this, "-" (standard input or output) would be read as a flag.
    if (!command.positionals?.syntax.includes(`${name}..`)) parser.nargs(name, 1);
  }
  for (const [key, option] of Object.entries({ ...command.options, ...GLOBAL_OPTIONS } as Options)) {
    parser.option(kebab(key), {
      describe: option.describe,
      demandOption: option.isRequired,
      ...(option.isFlag ? { type: 'boolean' as const } : { nargs: 1, requiresArg: true }),
      ...(option.alias !== undefined && { alias: option.alias }),
      ...(option.choices !== undefined && {
        choices: option.choices,
        coerce: (given: unknown) => asWritten(given, option.choices!),
      }),
      ...(option.fallbackText !== undefined && { defaultDescription: option.fallbackText }),
    });
  }
  for (const [line, what] of command.examples ?? []) parser.example(`$0 ${line}`, what);
  return parser.epilogue(command.notes ?? '');
}

/** topOrder for toporder: case is no reason to refuse a word. */
function asWritten(given: unknown, choices: readonly string[]): unknown {
  if (typeof given !== 'string') return given;
  return choices.find((choice) => choice.toLowerCase() === given.toLowerCase()) ?? given;
}

function readValues(command: Command, parsed: Parsed): Record<string, unknown> {
  const flags = new Set(optionNames(command).map((name) => `--${name}`));
  return Object.fromEntries(
    Object.entries(command.options).map(([key, option]) => {
      const name = kebab(key);
      const given = parsed[name];
      if (given === undefined) return [key, option.fallback];
      if (option.isFlag) return [key, Array.isArray(given) ? given.at(-1) : given];
      if (Array.isArray(given)) throw new CreamError('USAGE', `--${name} is given ${given.length} times`);
      const text = String(given);
      if (flags.has(text)) throw new CreamError('USAGE', `--${name} needs a value, got the option ${text}`);
      return [key, option.parse(text, name)];
    }),
  );
}

function readWords(command: Command, parsed: Parsed): string[] {
  return Object.keys(command.positionals?.describe ?? {}).flatMap((name) => {
    const given = parsed[name];
    return given === undefined ? [] : Array.isArray(given) ? given.map(String) : [String(given)];
  });
}

function optionNames(command: Command | undefined): string[] {
  return [...Object.keys({ ...command?.options, ...GLOBAL_OPTIONS }).map(kebab), ...BUILT_IN];
}

/** Says what yargs found wrong in one sentence that names the option and what to do. */
function explain(error: unknown, argv: readonly string[]): unknown {
  if (!(error instanceof UsageMistake)) return error;
  const command = COMMANDS.find(({ name }) => name === argv[0]);
  const seeHelp = `see: cream ${command === undefined ? '' : `${command.name} `}--help`;
  return new CreamError('USAGE', `${explainMessage(error.message, command, argv)}; ${seeHelp}`, {
    cause: error,
  });
}

function explainMessage(message: string, command: Command | undefined, argv: readonly string[]): string {
  const unknown = /^Unknown (?:arguments?|commands?): (.*)$/s.exec(message)?.[1];
  if (unknown !== undefined) return explainUnknown(unknown.split(', '), command, argv);
  const missing = /^Missing required arguments?: (.*)$/s.exec(message)?.[1];
  if (missing !== undefined) {
    const mistyped = argv.filter((word) => /^--\w/.test(word)).map((word) => word.slice(2).split('=', 1)[0]!);
    const unknownNames = mistyped.filter((name) => !optionNames(command).includes(name));
    if (unknownNames.length > 0) return explainUnknown(unknownNames, command, argv);
    const names = missing.split(', ').map((name) => `--${name}`);
    return `${names.join(' and ')} ${names.length === 1 ? 'is' : 'are'} required`;
  }
  const needsValue = /^Not enough arguments following: (.*)$/s.exec(message)?.[1];
  if (needsValue !== undefined) return `${dashed(needsValue)} needs a value`;
  if (message === NO_COMMAND && argv[0]?.startsWith('-')) {
    return explainUnknown([argv[0].replace(/^--?/, '').split('=', 1)[0]!], command, argv);
  }
  if (message.startsWith('Not enough non-option arguments')) {
    return `cream ${command?.name ?? ''} needs ${command?.positionals?.syntax.split(' ')[0] ?? 'a command'}`;
  }
  const choice = /Argument: (.*?), Given: (.*), Choices: (.*)$/s.exec(message);
  if (choice !== null) {
    return `${dashed(choice[1]!)} must be one of ${choice[3]!.replaceAll('"', '')}, got ${choice[2]!}`;
  }
  return message;
}

function explainUnknown(
  names: readonly string[],
  command: Command | undefined,
  argv: readonly string[],
): string {
  if (command === undefined && argv[0] !== undefined && !argv[0].startsWith('-')) {
    const near = nearest(argv[0], [...COMMANDS.map(({ name }) => name), 'completion']);
    return `unknown command ${quote(argv[0])}${near === undefined ? '' : `; did you mean ${near}?`}`;
  }
  return names
    .map((name) => {
      const isOption = argv.some((word) => word === dashed(name) || word.startsWith(`${dashed(name)}=`));
      if (!isOption) return `unexpected argument ${quote(name)}`;
      if (name.includes('.'))
        return `unknown option ${dashed(name)}; an override is written without dashes: ${name}=value`;
      const near = nearest(name, optionNames(command));
      return `unknown option ${dashed(name)}${near === undefined ? '' : `; did you mean --${near}?`}`;
    })
    .join('; ');
}

function dashed(name: string): string {
  return name.length === 1 ? `-${name}` : `--${name}`;
}
