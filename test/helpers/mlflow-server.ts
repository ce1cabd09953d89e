import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

// The part of MLflow's tracking server that a client needs, with its answers and error codes.

interface TrackedRun {
  info: { run_id: string; experiment_id: string; run_name: string; status: string; end_time?: number };
  tags: Record<string, string>;
  params: Record<string, string>;
  metrics: { key: string; value: number; timestamp: number; step: number }[];
}

export interface MlflowServer {
  url: string;
  experiments: Map<string, string>;
  runs: Map<string, TrackedRun>;
  /** Authorization headers, as they came. */
  credentials: (string | undefined)[];
  /** ok; error: answer 503; hang: never answer. */
  mode: 'ok' | 'error' | 'hang';
  close(): Promise<void>;
}

interface LogBatch {
  run_id: string;
  metrics?: TrackedRun['metrics'];
  params?: { key: string; value: string }[];
}

class ApiError extends Error {
  readonly code: string;

  constructor(code: string) {
    super(`no such thing: ${code}`);
    this.code = code;
  }
}

export async function startMlflow(): Promise<MlflowServer> {
  const experiments = new Map<string, string>();
  const runs = new Map<string, TrackedRun>();
  const found = (id: unknown) => {
    const run = runs.get(String(id));
    if (run === undefined) throw new ApiError('RESOURCE_DOES_NOT_EXIST');
    return run;
  };
  const calls: Record<string, (input: never) => object> = {
    'GET experiments/get-by-name': ({ experiment_name: name }: { experiment_name: string }) => {
      const experiment_id = experiments.get(name);
      if (experiment_id === undefined) throw new ApiError('RESOURCE_DOES_NOT_EXIST');
      return { experiment: { experiment_id, name } };
    },
    'POST experiments/create': ({ name }: { name: string }) => {
      if (experiments.has(name)) throw new ApiError('RESOURCE_ALREADY_EXISTS');
      experiments.set(name, String(experiments.size + 1));
      return { experiment_id: experiments.get(name) };
    },
    'POST runs/create': (input: {
      experiment_id: string;
      run_name: string;
      tags: { key: string; value: string }[];
    }) => {
      const run_id = `run${runs.size + 1}`;
      const { experiment_id, run_name } = input;
      const run: TrackedRun = {
        info: { run_id, experiment_id, run_name, status: 'RUNNING' },
        tags: Object.fromEntries(input.tags.map(({ key, value }) => [key, value])),
        params: {},
        metrics: [],
      };
      runs.set(run_id, run);
      return { run: { info: run.info } };
    },
    'POST runs/update': ({ run_id, ...info }: { run_id: string }) => {
      Object.assign(found(run_id).info, info);
      return {};
    },
    'POST runs/log-batch': ({ run_id, metrics = [], params = [] }: LogBatch) => {
      const run = found(run_id);
      if (metrics.length > 1000 || params.length > 100) throw new ApiError('INVALID_PARAMETER_VALUE');
      for (const { key, value } of params) {
        if (value.length > 500 || (run.params[key] ?? value) !== value)
          throw new ApiError('INVALID_PARAMETER_VALUE');
        run.params[key] = value;
      }
      for (const metric of metrics) {
        if (!/^[\w\-. /]+$/.test(metric.key) || !Number.isInteger(metric.step))
          throw new ApiError('INVALID_PARAMETER_VALUE');
        run.metrics.push(metric);
      }
      return {};
    },
  };
  const state: MlflowServer = {
    url: '',
    experiments,
    runs,
    credentials: [],
    mode: 'ok',
    close: async () => {},
  };
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      state.credentials.push(request.headers.authorization);
      if (state.mode === 'hang') return;
      const reply = (status: number, body: object) => {
        response.writeHead(status, { 'content-type': 'application/json' });
        response.end(JSON.stringify(body));
      };
      if (state.mode === 'error') {
        reply(503, { error_code: 'TEMPORARILY_UNAVAILABLE', message: 'later' });
        return;
      }
      const url = new URL(request.url!, 'http://server');
      const call = calls[`${request.method} ${url.pathname.replace('/api/2.0/mlflow/', '')}`];
      const text = Buffer.concat(chunks).toString();
      try {
        if (call === undefined) throw new ApiError('ENDPOINT_NOT_FOUND');
        reply(200, call((text === '' ? Object.fromEntries(url.searchParams) : JSON.parse(text)) as never));
      } catch (error) {
        const code = error instanceof ApiError ? error.code : 'INTERNAL_ERROR';
        reply(code === 'RESOURCE_DOES_NOT_EXIST' ? 404 : 400, { error_code: code, message: String(error) });
      }
    });
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  state.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  state.close = () =>
    new Promise((done) => {
      server.close(() => done());
      server.closeAllConnections();
    });
  return state;
}
