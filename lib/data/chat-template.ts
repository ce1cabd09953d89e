import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { CreamError } from '../errors.js';
import type { Message, TemplateInputs } from '../types.js';
import type { RenderJob, RenderReply } from './chat-template-process.js';

// Renders a model's chat template (Jinja2) as transformers' apply_chat_template does. A template is a program that came
// with the model, so it runs in a process of its own with limits on time, memory and output. There is one such
// process, started when it is needed and ended when it has been idle.

export interface ChatTemplateOptions {
  /** bos_token, eos_token, ... and further variables as the template sees them. */
  variables?: Readonly<Record<string, unknown>>;
  /** What strftime_now tells. Default: the time of the call. */
  now?: Date;
  /** Limit on one rendering. Default 2 s. */
  timeoutMs?: number;
  /** Limit on one rendering, in characters. Default 4 Mi. */
  maxOutputLength?: number;
}

/** A conversation to render. */
export interface Conversation extends TemplateInputs {
  messages: readonly Message[];
  /** End with the header of the assistant's turn. */
  addGenerationPrompt: boolean;
}

/** A rendered text with the UTF-16 spans of its generation blocks, or why there is none. */
export type Rendering = { text: string; generation: [start: number, end: number][] } | { error: CreamError };

export class ChatTemplate {
  readonly source: string;
  readonly #timeoutMs: number;
  readonly #job: Omit<RenderJob, keyof Conversation>;

  constructor(source: string, options: ChatTemplateOptions = {}) {
    this.source = source;
    this.#timeoutMs = options.timeoutMs ?? 2000;
    this.#job = {
      source,
      variables: options.variables ?? {},
      now: options.now?.getTime(),
      maxOutputLength: options.maxOutputLength ?? 4 * 1024 * 1024,
      timeoutMs: this.#timeoutMs,
    };
  }

  /** One result per conversation, in order. One that the template refuses does not disturb the others. */
  render(conversations: readonly Conversation[]): Promise<Rendering[]> {
    const jobs = conversations.map(({ messages, addGenerationPrompt, ...inputs }) => ({
      ...this.#job,
      variables: { ...this.#job.variables, ...inputs.chat_template_kwargs },
      messages,
      addGenerationPrompt,
      tools: inputs.tools,
      documents: inputs.documents,
    }));
    return renderer.render(jobs, this.#timeoutMs);
  }

  /** Ends the rendering process unless it is at work; the next rendering starts another. */
  dispose(): Promise<void> {
    return renderer.stopIfIdle();
  }
}

const START_TIMEOUT_MS = 60_000;
const IDLE_MS = 10_000;
const MAX_MEMORY_MB = 128;
/** The process stops a template itself; this is how much later it is stopped from outside. */
const GRACE_MS = 500;

/** The process and the queue in front of it. */
class Renderer {
  #child: ChildProcess | undefined;
  #idle: NodeJS.Timeout | undefined;
  #waiting = 0;
  #last: Promise<unknown> = Promise.resolve();

  render(jobs: readonly RenderJob[], timeoutMs: number): Promise<Rendering[]> {
    this.#waiting += 1;
    const result = this.#last
      .then(() => this.#renderAll(jobs, timeoutMs))
      .finally(() => {
        this.#waiting -= 1;
        clearTimeout(this.#idle);
        this.#idle = setTimeout(() => void this.stopIfIdle(), IDLE_MS).unref();
      });
    this.#last = result.catch(() => undefined);
    return result;
  }

  async stopIfIdle(): Promise<void> {
    if (this.#waiting === 0) await this.#stop();
  }

  async #stop(): Promise<void> {
    clearTimeout(this.#idle);
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.ref();
    child.kill('SIGKILL');
    await ended;
  }

  async #renderAll(jobs: readonly RenderJob[], timeoutMs: number): Promise<Rendering[]> {
    const renderings: Rendering[] = [];
    while (renderings.length < jobs.length) {
      const rest = jobs.slice(renderings.length);
      const child = this.#child ?? (await this.#start());
      // Only a process that works keeps this one alive.
      keepAlive(child, true);
      try {
        child.send(rest, () => undefined);
        await replies(child, rest.length, timeoutMs, (reply) => {
          if (reply.type === 'text') {
            renderings.push({ text: reply.text, generation: reply.generation });
          } else if (reply.type === 'failed')
            renderings.push({ error: renderError(reply.raised, reply.reason) });
        });
        keepAlive(child, false);
      } catch (error) {
        // The process is lost; the conversation on which it was has this error, and a new one takes the rest.
        await this.#stop();
        if (!(error instanceof CreamError)) throw error;
        renderings.push({ error });
      }
    }
    return renderings;
  }

  async #start(): Promise<ChildProcess> {
    // The program is beside this file, in TypeScript sources as well as compiled.
    const extension = import.meta.url.endsWith('.ts') ? '.ts' : '.js';
    const program = fileURLToPath(new URL(`./chat-template-process${extension}`, import.meta.url));
    const child = fork(program, [], {
      execArgv: [
        // A debugger of this process has its port.
        ...process.execArgv.filter((argument) => !argument.startsWith('--inspect')),
        `--max-old-space-size=${MAX_MEMORY_MB}`,
      ],
      // "advanced" keeps text exactly as it is. What Node prints when memory runs out is nobody's output.
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    });
    // Errors are seen by whoever waits for a reply; an idle process that ends is replaced.
    child.on('error', () => undefined);
    child.on('exit', () => {
      if (this.#child === child) this.#child = undefined;
    });
    try {
      await replies(child, 1, START_TIMEOUT_MS, () => undefined);
    } catch (cause) {
      child.kill('SIGKILL');
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new CreamError('ENVIRONMENT', `the process for chat templates does not start: ${reason}`, {
        cause,
      });
    }
    this.#child = child;
    return child;
  }
}

function keepAlive(child: ChildProcess, isNeeded: boolean): void {
  if (isNeeded) {
    child.ref();
    child.channel?.ref();
  } else {
    child.unref();
    child.channel?.unref();
  }
}

const renderer = new Renderer();

/** Waits for `count` replies, each within `timeoutMs` of the one before. Rejects when the process ends. */
function replies(
  child: ChildProcess,
  count: number,
  timeoutMs: number,
  onReply: (reply: RenderReply) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let remaining = count;
    const end = (settle: () => void) => {
      clearTimeout(timer);
      child.off('message', onMessage).off('error', onError).off('exit', onExit);
      settle();
    };
    const onMessage = (reply: unknown) => {
      timer.refresh();
      onReply(reply as RenderReply);
      remaining -= 1;
      if (remaining === 0) end(resolve);
    };
    const onError = (cause: Error) => end(() => reject(renderError(false, cause.message, cause)));
    const onExit = () => {
      end(() =>
        reject(renderError(false, `its process ended, probably for lack of memory (${MAX_MEMORY_MB} MiB)`)),
      );
    };
    const timer = setTimeout(() => {
      end(() => reject(renderError(false, `it ran for more than ${timeoutMs} ms`)));
    }, timeoutMs + GRACE_MS);
    child.on('message', onMessage).on('error', onError).on('exit', onExit);
  });
}

function renderError(raised: boolean, reason: string, cause?: unknown): CreamError {
  const options = cause === undefined ? {} : { cause };
  if (raised)
    return new CreamError('INVALID_DATA', `the chat template refuses the conversation: ${reason}`, options);
  return new CreamError('INVALID_CHECKPOINT', `the chat template cannot be used: ${reason}`, options);
}
