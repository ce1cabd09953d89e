import { Worker } from 'node:worker_threads';
import { CreamError } from '../errors.js';
import type { RenderJob, WorkerData, WorkerReply } from './chat-template-worker.js';

// Renders a model's chat template (Jinja2) as transformers' apply_chat_template does. The template runs in a worker
// thread with limits on time, memory and output, because it is a program that came with the model.

export interface ChatTemplateLimits {
  /** For one rendering. Default 2 s. */
  timeoutMs?: number;
  /** Characters of one rendering. Default 4 Mi. */
  maxOutputLength?: number;
  /** Heap of the worker. Default 128 MiB. */
  maxMemoryMb?: number;
}

export interface ChatTemplateOptions extends ChatTemplateLimits {
  /** bos_token, eos_token, ... as the template sees them. */
  variables?: Record<string, string>;
  /** What strftime_now tells. Default: the time of the call. */
  now?: Date;
}

/** A rendered text, or why there is none. */
export type Rendering = { text: string } | { error: CreamError };

const START_TIMEOUT_MS = 60_000;

export class ChatTemplate {
  readonly source: string;
  readonly #data: WorkerData;
  readonly #timeoutMs: number;
  readonly #maxMemoryMb: number;
  #worker: Worker | undefined;
  #last: Promise<unknown> = Promise.resolve();

  constructor(source: string, options: ChatTemplateOptions = {}) {
    this.source = source;
    this.#timeoutMs = options.timeoutMs ?? 2000;
    this.#maxMemoryMb = options.maxMemoryMb ?? 128;
    this.#data = {
      source,
      variables: options.variables ?? {},
      now: options.now?.getTime(),
      maxOutputLength: options.maxOutputLength ?? 4 * 1024 * 1024,
    };
  }

  /** One result per job, in order. A conversation that the template refuses does not disturb the others. */
  render(jobs: readonly RenderJob[]): Promise<Rendering[]> {
    const result = this.#last.then(() => this.#renderAll(jobs));
    this.#last = result.catch(() => undefined);
    return result;
  }

  /** Stops the worker; a later rendering starts another. An idle worker does not keep the process alive. */
  async dispose(): Promise<void> {
    const worker = this.#worker;
    this.#worker = undefined;
    await worker?.terminate();
  }

  async #renderAll(jobs: readonly RenderJob[]): Promise<Rendering[]> {
    const renderings: Rendering[] = [];
    while (renderings.length < jobs.length) {
      const worker = this.#worker ?? (await this.#start());
      worker.ref();
      try {
        await this.#exchange(worker, jobs.slice(renderings.length), renderings);
      } catch (error) {
        // The worker is gone; the conversation on which it died has this error, and a new one takes the rest.
        await this.dispose();
        if (!(error instanceof CreamError)) throw error;
        renderings.push({ error });
      } finally {
        this.#worker?.unref();
      }
    }
    return renderings;
  }

  async #start(): Promise<Worker> {
    // The worker is beside this file, in TypeScript sources as well as compiled.
    const extension = import.meta.url.endsWith('.ts') ? '.ts' : '.js';
    const worker = new Worker(new URL(`./chat-template-worker${extension}`, import.meta.url), {
      name: 'chat-template',
      workerData: this.#data,
      resourceLimits: {
        maxOldGenerationSizeMb: this.#maxMemoryMb,
        maxYoungGenerationSizeMb: 16,
        stackSizeMb: 4,
      },
    });
    await replies(worker, 1, START_TIMEOUT_MS, () => undefined);
    this.#worker = worker;
    return worker;
  }

  async #exchange(worker: Worker, jobs: RenderJob[], renderings: Rendering[]): Promise<void> {
    worker.postMessage(jobs);
    await replies(worker, jobs.length, this.#timeoutMs, (reply) => {
      if (reply.type === 'text') renderings.push({ text: reply.text });
      else if (reply.type === 'failed') renderings.push({ error: renderError(reply.raised, reply.reason) });
    });
  }
}

/** Waits for `count` replies, each within `timeoutMs` of the one before. Rejects when the worker dies. */
function replies(
  worker: Worker,
  count: number,
  timeoutMs: number,
  onReply: (reply: WorkerReply) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let remaining = count;
    const end = (settle: () => void) => {
      clearTimeout(timer);
      worker.off('message', onMessage).off('error', onError).off('exit', onExit);
      settle();
    };
    const onMessage = (reply: WorkerReply) => {
      timer.refresh();
      onReply(reply);
      remaining -= 1;
      if (remaining === 0) end(resolve);
    };
    const onError = (cause: Error) => end(() => reject(renderError(false, cause.message, cause)));
    const onExit = () => end(() => reject(renderError(false, 'its worker ended')));
    const timer = setTimeout(() => {
      end(() => reject(renderError(false, `it ran for more than ${timeoutMs} ms`)));
    }, timeoutMs);
    worker.on('message', onMessage).on('error', onError).on('exit', onExit);
  });
}

function renderError(raised: boolean, reason: string, cause?: unknown): CreamError {
  const options = cause === undefined ? {} : { cause };
  if (raised)
    return new CreamError('INVALID_DATA', `the chat template refuses the conversation: ${reason}`, options);
  return new CreamError('INVALID_CHECKPOINT', `the chat template cannot be used: ${reason}`, options);
}
