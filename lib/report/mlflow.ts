import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isFields, textOf } from './lines.js';
import { type Outcome, type Sink, stageScalars, type StepRow } from './sinks.js';
import type { StageEvent } from '../run/events.js';

// An MLflow run by the REST interface, version 2.0. It is told what the run does and never asked: whatever goes wrong
// there, the run goes on.

const REQUEST_TIMEOUT_MS = 10_000;
const LAST_WORDS_MS = 5_000;
const METRICS_PER_REQUEST = 1000;
const PARAMS_PER_REQUEST = 100;
const MAX_PARAM_LENGTH = 500;
/** While the server does not answer, so many values wait; older ones are dropped. */
const MAX_QUEUE = 50_000;
const FIRST_PAUSE_MS = 2_000;
const LONGEST_PAUSE_MS = 60_000;

interface Metric {
  key: string;
  value: number;
  timestamp: number;
  step: number;
}

export interface MlflowOptions {
  address: string;
  experiment: string;
  /** Run folder. */
  directory: string;
  params: Readonly<Record<string, string>>;
  tags: Readonly<Record<string, string>>;
  /** Id of the MLflow run of an earlier process, which goes on. */
  runId?: string | undefined;
  /** Keeps the id for a later process. */
  saveRunId: (runId: string) => Promise<void>;
  env: Readonly<Record<string, string | undefined>>;
}

/** What the server answered in place of what was asked for. */
class Refusal extends Error {
  readonly code: string;

  constructor(message: string, code: string) {
    super(message);
    this.code = code;
  }
}

export class MlflowSink implements Sink {
  readonly name: string;
  readonly #options: MlflowOptions;
  #runId: string | undefined;
  #queue: Metric[] = [];
  #dropped = 0;
  #pause = FIRST_PAUSE_MS;
  #notBefore = 0;
  readonly #closing = new AbortController();

  constructor(options: MlflowOptions) {
    this.#options = options;
    this.name = `MLflow at ${options.address}`;
  }

  /** Values that were dropped because the server did not take them. */
  get dropped(): number {
    return this.#dropped + this.#queue.length;
  }

  step({ time, stage, globalStep, metrics }: StepRow): void {
    for (const [name, value] of Object.entries(metrics)) {
      this.#add(name.startsWith('system/') ? name : `${stage}/${name}`, value, time, globalStep);
    }
  }

  stage(event: StageEvent, time: number): void {
    const { step, scalars } = stageScalars(event);
    for (const [name, value] of Object.entries(scalars)) this.#add(name, value, time, step);
  }

  #add(name: string, value: number, timestamp: number, step: number): void {
    if (!Number.isFinite(value)) return;
    // The characters that MLflow takes in a name.
    this.#queue.push({ key: name.replaceAll(/[^\w\-. /]/g, '_'), value, timestamp, step });
    if (this.#queue.length > MAX_QUEUE) this.#dropped += this.#queue.splice(0, METRICS_PER_REQUEST).length;
  }

  async flush(): Promise<void> {
    if (Date.now() < this.#notBefore) return;
    try {
      await this.#send();
      this.#pause = FIRST_PAUSE_MS;
    } catch (error) {
      this.#notBefore = Date.now() + this.#pause;
      this.#pause = Math.min(2 * this.#pause, LONGEST_PAUSE_MS);
      throw error;
    }
  }

  async #send(): Promise<void> {
    const run_id = await this.#start();
    while (this.#queue.length > 0) {
      const metrics = this.#queue.slice(0, METRICS_PER_REQUEST);
      await this.#post('runs/log-batch', { run_id, metrics });
      this.#queue.splice(0, metrics.length);
    }
  }

  async close(outcome: Outcome): Promise<void> {
    const deadline = sleep(LAST_WORDS_MS, undefined, { ref: false, signal: this.#closing.signal })
      .then(() => this.#closing.abort(new Error('the run has ended')))
      .catch(() => undefined);
    try {
      await this.#send();
      await this.#post('runs/update', {
        run_id: this.#runId,
        status: { finished: 'FINISHED', failed: 'FAILED', interrupted: 'KILLED' }[outcome],
        end_time: Date.now(),
      });
    } finally {
      this.#closing.abort();
      await deadline;
    }
  }

  /** The id of the MLflow run, which is made or continued with the first values. */
  async #start(): Promise<string> {
    if (this.#runId !== undefined) return this.#runId;
    const { runId, directory, tags, params, saveRunId } = this.#options;
    let found: string | undefined;
    if (runId !== undefined) {
      try {
        await this.#post('runs/update', { run_id: runId, status: 'RUNNING' });
        found = runId;
      } catch (error) {
        if (!(error instanceof Refusal) || error.code !== 'RESOURCE_DOES_NOT_EXIST') throw error;
      }
    }
    if (found === undefined) {
      const answer = await this.#post('runs/create', {
        experiment_id: await this.#experiment(),
        run_name: basename(directory),
        start_time: Date.now(),
        tags: Object.entries(tags).map(([key, value]) => ({ key, value })),
      });
      const info = isFields(answer['run']) ? answer['run']['info'] : undefined;
      found = isFields(info) ? textOf(info['run_id']) : '';
      if (found === '') throw new Error('runs/create answered without a run id');
      const all = Object.entries(params).map(([key, value]) => ({
        key,
        value: value.slice(0, MAX_PARAM_LENGTH),
      }));
      for (let start = 0; start < all.length; start += PARAMS_PER_REQUEST) {
        const batch = all.slice(start, start + PARAMS_PER_REQUEST);
        await this.#post('runs/log-batch', { run_id: found, params: batch });
      }
      await saveRunId(found);
    }
    this.#runId = found;
    return found;
  }

  async #experiment(): Promise<string> {
    const { experiment } = this.#options;
    const byName = async () => {
      const query = `experiment_name=${encodeURIComponent(experiment)}`;
      const answer = await this.#request('GET', `experiments/get-by-name?${query}`);
      return isFields(answer['experiment']) ? textOf(answer['experiment']['experiment_id']) : '';
    };
    try {
      return await byName();
    } catch (error) {
      if (!(error instanceof Refusal) || error.code !== 'RESOURCE_DOES_NOT_EXIST') throw error;
    }
    try {
      return textOf((await this.#post('experiments/create', { name: experiment }))['experiment_id']);
    } catch (error) {
      // Another run has made it meanwhile.
      if (error instanceof Refusal && error.code === 'RESOURCE_ALREADY_EXISTS') return byName();
      throw error;
    }
  }

  #post(path: string, body: object): Promise<Readonly<Record<string, unknown>>> {
    return this.#request('POST', path, body);
  }

  async #request(method: string, path: string, body?: object): Promise<Readonly<Record<string, unknown>>> {
    const response = await fetch(`${this.#options.address}/api/2.0/mlflow/${path}`, {
      method,
      headers: { 'content-type': 'application/json', ...authorization(this.#options.env) },
      redirect: 'error', // credentials go to the named server alone
      signal: AbortSignal.any([AbortSignal.timeout(REQUEST_TIMEOUT_MS), this.#closing.signal]),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const answer: unknown = await response.json().catch(() => undefined);
    const fields = isFields(answer) ? answer : {};
    if (response.ok) return fields;
    const code = textOf(fields['error_code']);
    const said = textOf(fields['message']).slice(0, 200);
    throw new Refusal(`${path.replace(/\?.*/, '')} answered ${response.status} ${code} ${said}`.trim(), code);
  }
}

/** As MLflow's own clients take it from the environment. */
function authorization(env: MlflowOptions['env']): Record<string, string> {
  const {
    MLFLOW_TRACKING_TOKEN: token,
    MLFLOW_TRACKING_USERNAME: user,
    MLFLOW_TRACKING_PASSWORD: password,
  } = env;
  if (token) return { authorization: `Bearer ${token}` };
  if (!user) return {};
  return { authorization: `Basic ${Buffer.from(`${user}:${password ?? ''}`).toString('base64')}` };
}
