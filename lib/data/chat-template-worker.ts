import { parentPort, workerData } from 'node:worker_threads';
import { Environment, Interpreter, parse, tokenize } from '@huggingface/jinja';
import type { Message } from '../types.js';
import { strftime } from './strftime.js';

// The worker thread in which a chat template runs: a template is a program of the model folder, so it gets a time,
// memory and output limit of its own (set by chat-template.ts, which is the only user of this file).

export interface WorkerData {
  source: string;
  variables: Record<string, string>;
  /** Milliseconds since 1970 for strftime_now; undefined means the time of the call. */
  now: number | undefined;
  maxOutputLength: number;
}

export interface RenderJob {
  messages: Message[];
  addGenerationPrompt: boolean;
}

export type WorkerReply =
  | { type: 'loaded' }
  | { type: 'text'; text: string }
  /** `raised`: the template itself refused the conversation with raise_exception. */
  | { type: 'failed'; raised: boolean; reason: string };

class RaisedByTemplate extends Error {}

const { source, variables, now, maxOutputLength } = workerData as WorkerData;
/** The syntax tree; the library exports no type for it that resolves under nodenext. */
let program: object | undefined;

/** As Jinja2 with trim_blocks and lstrip_blocks, which is how transformers runs chat templates. */
function compile(): object {
  const tokens = tokenize(source, { lstrip_blocks: true, trim_blocks: true });
  // The library parses the loop controls of Jinja2 but runs them wrongly: text would be dropped.
  for (const [i, token] of tokens.entries()) {
    const isControl = token.type === 'Identifier' && (token.value === 'break' || token.value === 'continue');
    if (isControl && tokens[i - 1]?.type === 'OpenStatement') {
      throw new Error(`{% ${token.value} %} is not supported; rewrite the loop with {% if %}`);
    }
  }
  return parse(tokens);
}

const MAX_RANGE = 1_000_000;

function range(start: number, stop?: number, step = 1): number[] {
  const [from, to] = stop === undefined ? [0, start] : [start, stop];
  const length = Math.max(0, Math.ceil((to - from) / step));
  if (!(length <= MAX_RANGE)) throw new Error(`range() of ${length} elements; at most ${MAX_RANGE}`);
  return Array.from({ length }, (_, i) => from + i * step);
}

function render(job: RenderJob): string {
  program ??= compile();
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
    strftime_now: (format: string) => strftime(now === undefined ? new Date() : new Date(now), format),
    ...variables,
    messages: job.messages,
    add_generation_prompt: job.addGenerationPrompt,
    tools: null,
    documents: null,
  };
  const environment = new Environment();
  for (const [name, value] of Object.entries(globals)) environment.set(name, value);
  const text = String(new Interpreter(environment).run(program).value);
  if (text.length > maxOutputLength) {
    throw new Error(`the result has ${text.length} characters, more than the limit of ${maxOutputLength}`);
  }
  return text;
}

parentPort?.on('message', (jobs: RenderJob[]) => {
  for (const job of jobs) {
    let reply: WorkerReply;
    try {
      reply = { type: 'text', text: render(job) };
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      reply = { type: 'failed', raised: error instanceof RaisedByTemplate, reason: reason.slice(0, 500) };
    }
    parentPort?.postMessage(reply);
  }
});
parentPort?.postMessage({ type: 'loaded' } satisfies WorkerReply);
