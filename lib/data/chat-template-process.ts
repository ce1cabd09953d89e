import { Environment, Interpreter, parse, tokenize } from '@huggingface/jinja';
import type { Message } from '../types.js';
import { strftime } from './strftime.js';

// The process in which chat templates run; chat-template.ts starts it and is its only user. It is a process and not a
// worker thread because an array that outgrows the heap ends the whole process, whatever limits a thread has.

export interface RenderJob {
  source: string;
  variables: Record<string, string>;
  messages: readonly Message[];
  addGenerationPrompt: boolean;
  /** Milliseconds since 1970 for strftime_now; undefined means the time of the call. */
  now: number | undefined;
  maxOutputLength: number;
  timeoutMs: number;
}

export type RenderReply =
  | { type: 'loaded' }
  | { type: 'text'; text: string }
  /** `raised`: the template itself refused the conversation with raise_exception. */
  | { type: 'failed'; raised: boolean; reason: string };

class RaisedByTemplate extends Error {}

/** Syntax trees by source; the library exports no type for them that resolves under nodenext. */
const programs = new Map<string, object>();
const MAX_PROGRAMS = 16;

/** As Jinja2 with trim_blocks and lstrip_blocks, which is how transformers runs chat templates. */
function compile(source: string): object {
  const known = programs.get(source);
  if (known !== undefined) return known;
  const tokens = tokenize(source, { lstrip_blocks: true, trim_blocks: true });
  // The library parses the loop controls of Jinja2 but runs them wrongly: text would be dropped.
  for (const [i, token] of tokens.entries()) {
    const isControl = token.type === 'Identifier' && (token.value === 'break' || token.value === 'continue');
    if (isControl && tokens[i - 1]?.type === 'OpenStatement') {
      throw new Error(`{% ${token.value} %} is not supported; rewrite the loop with {% if %}`);
    }
  }
  const program: object = parse(tokens);
  if (programs.size >= MAX_PROGRAMS) programs.clear();
  programs.set(source, program);
  return program;
}

/** The parts of the library's interpreter that are used here; its own types do not resolve under nodenext. */
interface TemplateInterpreter {
  evaluate(...step: unknown[]): unknown;
  run(program: object): { value: unknown };
}

/** Stops a template from within, so that it ends even where nobody is left to stop the process. */
function limitedInterpreter(environment: Environment, timeoutMs: number): TemplateInterpreter {
  const interpreter = new Interpreter(environment) as TemplateInterpreter;
  const evaluate = interpreter.evaluate.bind(interpreter);
  const deadline = performance.now() + timeoutMs;
  interpreter.evaluate = (...step) => {
    if (performance.now() > deadline) throw new Error(`it ran for more than ${timeoutMs} ms`);
    return evaluate(...step);
  };
  return interpreter;
}

const MAX_RANGE = 1_000_000;

function range(start: number, stop?: number, step = 1): number[] {
  const [from, to] = stop === undefined ? [0, start] : [start, stop];
  const length = Math.max(0, Math.ceil((to - from) / step));
  if (!(length <= MAX_RANGE)) throw new Error(`range() of ${length} elements; at most ${MAX_RANGE}`);
  return Array.from({ length }, (_, i) => from + i * step);
}

function render(job: RenderJob): string {
  const program = compile(job.source);
  const globals: Record<string, unknown> = {
    true: true,
    false: false,
    none: null,
    True: true,
    False: false,
    None: null,
    range,
    raise_exception: (message: unknown) => {
      throw new RaisedByTemplate(String(message));
    },
    strftime_now: (format: string) =>
      strftime(job.now === undefined ? new Date() : new Date(job.now), format),
    ...job.variables,
    messages: job.messages,
    add_generation_prompt: job.addGenerationPrompt,
    tools: null,
    documents: null,
  };
  const environment = new Environment();
  for (const [name, value] of Object.entries(globals)) environment.set(name, value);
  const text = String(limitedInterpreter(environment, job.timeoutMs).run(program).value);
  if (text.length > job.maxOutputLength) {
    throw new Error(
      `the result has ${text.length} characters, more than the limit of ${job.maxOutputLength}`,
    );
  }
  return text;
}

/** The library writes booleans as JavaScript does; Jinja2 writes True and False. */
function writeBooleansAsPython(): void {
  const prototype = Object.getPrototypeOf(new Environment().set('x', true)) as { toString: () => string };
  prototype.toString = function (this: { value?: unknown }) {
    return this.value === true ? 'True' : 'False';
  };
}

writeBooleansAsPython();

const reply = (message: RenderReply) => process.send?.(message);

process.on('message', (jobs: RenderJob[]) => {
  for (const job of jobs) {
    try {
      reply({ type: 'text', text: render(job) });
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      reply({ type: 'failed', raised: error instanceof RaisedByTemplate, reason: reason.slice(0, 500) });
    }
  }
});
// Ctrl-C in a terminal reaches this process too, but the parent decides when it ends.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => undefined);
process.on('disconnect', () => process.exit());
reply({ type: 'loaded' });
