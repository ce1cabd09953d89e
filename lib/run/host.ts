import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type CreamConfig, type CreamConfigInput, absoluteConfig, validateConfig } from '../config.js';
import { type Origins, originsOf } from '../config-origins.js';
import { CreamError } from '../errors.js';
import { checkTracker } from '../report/mlflow-address.js';
import { EventQueue } from './event-queue.js';
import type { RunEvent } from './events.js';
import { fromPlainError, type ToHost, type ToWorker } from './messages.js';
import type { ResumeMode } from './run.js';
import type { RunSummary } from './summary.js';

// A run from the host's side. The engine lives in a process of its own: it may crash, and the host goes on.

export interface RunCreamOptions {
  /** Finishes the step in progress, saves, and rejects with ABORTED; a later run continues there. */
  signal?: AbortSignal;
  /** Default: auto. */
  resume?: ResumeMode;
  /** Where the settings come from, for the report; left out, those that are given come from the program. */
  origins?: Origins;
  /** Work in this process. For debuggers; a crash of the engine then ends the host. */
  inProcess?: boolean;
}

/** A run in progress: iterate over its events, await its result, or both. */
export interface CreamRun extends AsyncIterable<RunEvent>, AsyncDisposable {
  readonly result: Promise<RunSummary>;
  /** Process id of the engine. */
  readonly pid: number | undefined;
  /** Ends the engine at once, without saving the step in progress. What is committed stays. */
  kill(): void;
}

/** How much of the engine's last words an ENGINE_LOST error quotes. */
const TAIL_BYTES = 4096;

const PASSED_FLAGS =
  /^(--import|--require|-r|--loader|--experimental-loader|--conditions|-C|--enable-source-maps|--no-warnings|--max-old-space-size)(=|$)/;

/** Node flags that the engine's process needs too: loaders, not debuggers or a script given on the command line. */
export function engineFlags(flags: readonly string[]): string[] {
  return flags.flatMap((flag, index) => {
    if (!PASSED_FLAGS.test(flag)) return [];
    const takesNext = /^(--import|--require|-r|--loader|--experimental-loader|--conditions|-C)$/.test(flag);
    const next = flags[index + 1];
    return takesNext && next !== undefined ? [flag, next] : [flag];
  });
}

/**
 * Runs CREAM: M0 -> M1 -> ... as `config` says, in a process of its own. Relative paths in `config` are relative to
 * the current directory. Throws INVALID_CONFIG at once; all else rejects `result` and ends the iteration.
 */
export function runCream(config: CreamConfigInput, options: RunCreamOptions = {}): CreamRun {
  const complete = absoluteConfig(validateConfig(config), () => process.cwd());
  checkTracker(complete, process.env);
  const queue = new EventQueue();
  const { origins = originsOf(config, () => 'program') } = options;
  const start = options.inProcess === true ? startHere : startProcess;
  const engine = start(complete, { ...options, origins }, queue);
  engine.result.then(
    () => queue.close(),
    (error: unknown) => queue.close({ error }), // also: a host that only iterates has no unhandled rejection
  );
  return {
    result: engine.result,
    pid: engine.pid,
    kill: engine.kill,
    [Symbol.asyncIterator]: () => queue[Symbol.asyncIterator](),
    [Symbol.asyncDispose]: async () => {
      engine.kill();
      await engine.result.catch(() => undefined);
    },
  };
}

interface Engine {
  result: Promise<RunSummary>;
  pid: number | undefined;
  kill: () => void;
}

type StartOptions = RunCreamOptions & { origins: Origins };

const aborted = () => new CreamError('ABORTED', 'the run was interrupted before it began');

function startHere(
  config: CreamConfig,
  { signal, resume = 'auto', origins }: StartOptions,
  queue: EventQueue,
): Engine {
  const controller = new AbortController();
  const signals = signal === undefined ? controller.signal : AbortSignal.any([signal, controller.signal]);
  const result = import('./execute.js').then(({ execute }) => {
    if (signals.aborted) throw aborted();
    return execute(config, { resume, origins, signal: signals, emit: (event) => queue.push(event) });
  });
  return { result, pid: process.pid, kill: () => controller.abort() };
}

function startProcess(
  config: CreamConfig,
  { signal, resume = 'auto', origins }: StartOptions,
  queue: EventQueue,
): Engine {
  if (signal?.aborted) return { result: Promise.reject(aborted()), pid: undefined, kill: () => undefined };
  const worker = new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js', import.meta.url);
  const child = fork(fileURLToPath(worker), {
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    serialization: 'advanced',
    execArgv: engineFlags(process.execArgv),
  });
  let killed = false;
  const kill = () => {
    killed = true;
    child.kill('SIGKILL');
  };
  const send = (message: ToWorker) => {
    if (child.connected) child.send(message, () => undefined); // a lost engine shows itself by its exit
  };
  const abort = () => send({ type: 'abort' });
  signal?.addEventListener('abort', abort, { once: true });

  const tail = lastWords(child);
  const result = new Promise<RunSummary>((resolve, reject) => {
    let outcome: (() => void) | undefined;
    let exit: { code: number | null; signal: NodeJS.Signals | null } | undefined;
    let isDrained = false;
    const settle = () => {
      if (exit === undefined || !isDrained) return;
      signal?.removeEventListener('abort', abort);
      if (outcome !== undefined) outcome();
      else if (killed)
        reject(new CreamError('ABORTED', 'the run was stopped at once; finished work is kept'));
      else reject(engineLost(exit, tail()));
    };
    child.on('message', (message: ToHost) => {
      if (message.type === 'event') queue.push(message.event);
      else if (message.type === 'result') outcome = () => resolve(message.summary);
      else outcome = () => reject(fromPlainError(message.error));
    });
    child.on('error', (cause) => {
      reject(new CreamError('ENVIRONMENT', `the engine process does not start: ${cause.message}`, { cause }));
    });
    child.on('disconnect', () => {
      isDrained = true; // every message was delivered before
      settle();
    });
    child.on('close', (code, exitSignal) => {
      exit = { code, signal: exitSignal };
      isDrained ||= !child.connected;
      settle();
    });
  });
  send({ type: 'start', config, resume, origins });
  return { result, pid: child.pid, kill };
}

/** Keeps the end of what a process prints: the only trace of a crash. */
function lastWords(child: ChildProcess): () => string {
  let tail = Buffer.alloc(0);
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk: Buffer) => {
      tail = Buffer.concat([tail, chunk]);
      if (tail.length > TAIL_BYTES) tail = tail.subarray(-TAIL_BYTES);
    });
  }
  return () => tail.toString('utf8').trim();
}

function engineLost(exit: { code: number | null; signal: NodeJS.Signals | null }, tail: string): CreamError {
  const how = exit.signal === null ? `ended with code ${exit.code}` : `was ended by ${exit.signal}`;
  const memory = exit.signal === 'SIGKILL' ? ' (the system does this when memory runs out)' : '';
  const words = tail === '' ? '' : `\nits last output was:\n${tail}`;
  return new CreamError(
    'ENGINE_LOST',
    `the engine process ${how}${memory}; finished work is kept, run again to continue${words}`,
  );
}
