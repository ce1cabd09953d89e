import type { Message } from '../types.js';
import { RaisedByTemplate } from './jinja/errors.js';
import { Template } from './jinja/template.js';

// The process in which chat templates run; chat-template.ts starts it and is its only user. It is a process and not a
// worker thread because an array that outgrows the heap ends the whole process, whatever limits a thread has.

export interface RenderJob {
  source: string;
  /** Values of JSON by the name that the template knows them by: bos_token, and what the settings and the row give. */
  variables: Readonly<Record<string, unknown>>;
  messages: readonly Message[];
  tools: readonly unknown[] | undefined;
  documents: readonly unknown[] | undefined;
  addGenerationPrompt: boolean;
  /** Milliseconds since 1970 for strftime_now; undefined means the time of the call. */
  now: number | undefined;
  maxOutputLength: number;
  timeoutMs: number;
}

export type RenderReply =
  | { type: 'loaded' }
  /** `generation`: start and end of every generation block, in UTF-16 units of the text. */
  | { type: 'text'; text: string; generation: [start: number, end: number][] }
  /** `raised`: the template itself refused the conversation with raise_exception. */
  | { type: 'failed'; raised: boolean; reason: string };

const templates = new Map<string, Template>();
const MAX_TEMPLATES = 16;

function templateOf(source: string): Template {
  const known = templates.get(source);
  if (known !== undefined) return known;
  const template = new Template(source);
  if (templates.size >= MAX_TEMPLATES) templates.clear();
  templates.set(source, template);
  return template;
}

function render(job: RenderJob): RenderReply {
  const { messages, addGenerationPrompt, now, maxOutputLength, timeoutMs } = job;
  const variables = {
    ...job.variables,
    tools: job.tools ?? null,
    documents: job.documents ?? null,
    messages,
    add_generation_prompt: addGenerationPrompt,
  };
  return { type: 'text', ...templateOf(job.source).render(variables, now, { timeoutMs, maxOutputLength }) };
}

const reply = (message: RenderReply) => process.send?.(message);

process.on('message', (jobs: RenderJob[]) => {
  for (const job of jobs) {
    try {
      reply(render(job));
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
