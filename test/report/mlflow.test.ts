import t from 'tap';
import { validateConfig } from '../../lib/config.js';
import { MlflowSink, type MlflowOptions } from '../../lib/report/mlflow.js';
import { checkTracker, trackerAddress } from '../../lib/report/mlflow-address.js';
import { type MlflowServer, startMlflow } from '../helpers/mlflow-server.js';

// What a tracking server is told, and what happens when there is none.

let server: MlflowServer;
t.before(async () => {
  server = await startMlflow();
});
t.teardown(() => server.close());

const saved: string[] = [];
const sink = (changes: Partial<MlflowOptions> = {}) =>
  new MlflowSink({
    address: server.url,
    experiment: 'experiment é',
    directory: '/runs/first',
    params: { beta: '0.1', 'data.prompts': `/data/${'x'.repeat(900)}` },
    tags: { 'cream-lm': '0.1.0' },
    saveRunId: async (id) => void saved.push(id),
    env: {},
    ...changes,
  });
const step = (number: number, metrics: Record<string, number>) => ({
  time: 1_700_000_000_000 + number,
  stream: 'iteration-1/train',
  stage: 'train',
  step: number,
  globalStep: 100 + number,
  metrics,
});

t.test('an experiment, a run, settings, metrics, and how it ended', async (t) => {
  const mlflow = sink();
  mlflow.step(step(1, { loss: 0.69, 'rewards/margins': 0, 'system/memory_mib': 5 }));
  mlflow.step(step(2, { loss: Number.NaN, 'rewards/margins': 0.5 }));
  mlflow.stage(
    {
      type: 'stage',
      status: 'finished',
      stage: 'evaluate',
      iteration: 1,
      model: 'M2',
      metrics: { 'accuracy/a:b': 0.5 },
    },
    7,
  );
  await mlflow.flush();
  for (let i = 3; i < 1203; i++) mlflow.step(step(i, { loss: i }));
  await mlflow.close('finished');
  t.equal(mlflow.dropped, 0);
  t.strictSame([...server.experiments], [['experiment é', '1']]);
  t.strictSame(saved, ['run1']);
  const run = server.runs.get('run1')!;
  t.match(run.info, { experiment_id: '1', run_name: 'first', status: 'FINISHED', end_time: Number });
  t.strictSame(run.tags, { 'cream-lm': '0.1.0' });
  t.equal(run.params['beta'], '0.1');
  t.equal(run.params['data.prompts']?.length, 500);
  t.strictSame(run.metrics.slice(0, 5), [
    { key: 'train/loss', value: 0.69, timestamp: 1_700_000_000_001, step: 101 },
    { key: 'train/rewards/margins', value: 0, timestamp: 1_700_000_000_001, step: 101 },
    { key: 'system/memory_mib', value: 5, timestamp: 1_700_000_000_001, step: 101 },
    { key: 'train/rewards/margins', value: 0.5, timestamp: 1_700_000_000_002, step: 102 },
    { key: 'evaluation/accuracy/a_b', value: 0.5, timestamp: 7, step: 2 },
  ]);
  t.equal(run.metrics.length, 1205, 'more than one request holds, each once');
});

t.test('a continued run goes on in its MLflow run, unless that is gone', async (t) => {
  const mlflow = sink({ runId: 'run1' });
  mlflow.step(step(1, { loss: 1 }));
  await mlflow.flush();
  t.equal(server.runs.get('run1')?.info.status, 'RUNNING');
  t.equal(server.runs.size, 1);
  await mlflow.close('interrupted');
  t.equal(server.runs.get('run1')?.info.status, 'KILLED');

  const gone = sink({ runId: 'deleted' });
  await gone.close('failed');
  t.equal(server.runs.get('run2')?.info.status, 'FAILED');
});

t.test('a server that is away for a while gets everything later', async (t) => {
  const mlflow = sink();
  server.mode = 'error';
  mlflow.step(step(1, { loss: 1 }));
  await t.rejects(mlflow.flush(), { message: /answered 503 TEMPORARILY_UNAVAILABLE later/ });
  mlflow.step(step(2, { loss: 2 }));
  await mlflow.flush(); // within the pause: nothing is asked
  t.equal(mlflow.dropped, 2);
  server.mode = 'ok';
  await mlflow.close('finished');
  t.equal(mlflow.dropped, 0);
  t.strictSame(
    server.runs.get('run3')?.metrics.map(({ value }) => value),
    [1, 2],
  );
});

t.test('values that wait are bounded', async (t) => {
  const mlflow = sink();
  for (let i = 0; i < 60_000; i++) mlflow.step(step(i, { loss: i }));
  t.equal(mlflow.dropped, 60_000, 'counted, those that wait and those that are gone');
  await mlflow.close('finished');
  t.ok(mlflow.dropped >= 10_000 && mlflow.dropped < 12_000);
});

t.test('a server that never answers holds up the end of a run for seconds, not for ever', async (t) => {
  server.mode = 'hang';
  const mlflow = sink();
  mlflow.step(step(1, { loss: 1 }));
  await t.rejects(mlflow.close('finished'), 'it ends, although no answer ever comes');
  server.mode = 'ok';
});

t.test('credentials come from the environment, as MLflow takes them, and go nowhere else', async (t) => {
  server.credentials.length = 0;
  await sink({ env: { MLFLOW_TRACKING_USERNAME: 'me', MLFLOW_TRACKING_PASSWORD: 'pw' } }).close('finished');
  await sink({ env: { MLFLOW_TRACKING_TOKEN: 'tok' } }).close('finished');
  t.strictSame(
    [...new Set(server.credentials)],
    [`Basic ${Buffer.from('me:pw').toString('base64')}`, 'Bearer tok'],
  );
});

t.test('an address that cannot work is refused before the run begins', async (t) => {
  const config = (report: object) => validateConfig({ model: 'm', iterations: 0, report });
  const tracked = config({ tracker: 'mlflow' });
  t.throws(() => checkTracker(tracked, {}), {
    code: 'INVALID_CONFIG',
    message: /report\.trackerUrl is missing/,
  });
  t.throws(() => checkTracker(tracked, { MLFLOW_TRACKING_URI: 'sqlite:///x' }), {
    message: /must be a http/,
  });
  checkTracker(tracked, { MLFLOW_TRACKING_URI: 'http://host:5000/' });
  t.equal(trackerAddress(tracked, { MLFLOW_TRACKING_URI: 'http://host:5000/' }), 'http://host:5000');
  t.equal(
    trackerAddress(config({}), { MLFLOW_TRACKING_URI: 'http://host' }),
    undefined,
    'nobody asked for it',
  );
  const named = config({ tracker: 'mlflow', trackerUrl: 'https://a/b/' });
  t.equal(trackerAddress(named, { MLFLOW_TRACKING_URI: 'http://host' }), 'https://a/b');
  for (const [report, message] of [
    [{ trackerUrl: 'http://a' }, /report\.trackerUrl has no effect with tracker: none/],
    [{ experiment: 'x' }, /report\.experiment has no effect/],
    [{ tracker: 'mlflow', trackerUrl: 'ftp://a' }, /report\.trackerUrl must be a http/],
    [{ tracker: 'mlflow', trackerUrl: 'http://me:pw@a' }, /must not hold a name and password/],
  ] as const) {
    t.throws(() => config(report), { code: 'INVALID_CONFIG', message });
  }
});
