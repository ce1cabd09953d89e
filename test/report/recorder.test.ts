import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { CreamConfigInput } from '../../lib/config.js';
import type { RunEvent } from '../../lib/run/events.js';
import { readRun } from '../../lib/report/read-run.js';
import { built } from '../helpers/built.js';
import { startMlflow } from '../helpers/mlflow-server.js';
import { digests, writeTinyRun } from '../helpers/tiny-run.js';

// What a real run writes beside its records, and that none of it can stop the run.

t.setTimeout(240_000);

const { runCream } = built;
const folder = t.testdir({});
const base: CreamConfigInput = await writeTinyRun(folder);
const configOf = (name: string, changes: object = {}) => ({
  ...base,
  ...changes,
  output: join(folder, name),
});
const read = (name: string, file: string) => readFileSync(join(folder, name, file), 'utf8');
const rowsOf = (name: string) => {
  const [header, ...rows] = read(name, 'metrics.csv')
    .trimEnd()
    .split('\n')
    .map((line) => line.split(','));
  return rows.map((cells) => Object.fromEntries(header!.map((column, i) => [column, cells[i]])));
};
const stepsOf = (name: string) =>
  read(name, 'metrics.jsonl')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as { stream: string; step: number; loss: number });

/** Tags and steps of the scalars in a run's event files, in the order of the files. */
function scalarsOf(name: string): { tag: string; step: number }[] {
  const found: { tag: string; step: number }[] = [];
  for (const file of readdirSync(join(folder, name, 'tensorboard')).toSorted()) {
    const data = readFileSync(join(folder, name, 'tensorboard', file));
    for (let at = 0; at < data.length; ) {
      const length = Number(data.readBigUInt64LE(at));
      const record = data.subarray(at + 12, at + 12 + length);
      at += length + 16;
      // wall_time is 9 bytes; the step follows as field 2, the summary as field 5.
      let place = 9;
      const varint = () => {
        let value = 0;
        let shift = 0;
        for (;;) {
          const byte = record[place++]!;
          value += (byte & 0x7f) * 2 ** shift;
          shift += 7;
          if (byte < 0x80) return value;
        }
      };
      if (record[place++] !== 0x10) continue;
      const step = varint();
      if (record[place++] !== 0x2a) continue;
      const end = varint() + place;
      while (place < end) {
        place += 1;
        const next = varint() + place;
        place += 1;
        const size = varint();
        found.push({ tag: record.subarray(place, place + size).toString(), step });
        place = next;
      }
    }
  }
  return found;
}

t.test('a finished run has its report, a table with times, and event files', async (t) => {
  await runCream(configOf('plain')).result;
  const html = read('plain', 'report.html');
  t.match(html, 'Finished: 2 iterations.');
  t.notOk(existsSync(join(folder, 'plain', 'progress.json')));

  const [rows, steps] = [rowsOf('plain'), stepsOf('plain')];
  t.strictSame(
    rows.map(({ stream, step }) => `${stream} ${step}`),
    steps.map(({ stream, step }) => `${stream} ${step}`),
  );
  t.strictSame(
    rows.map((row) => Number(row['global_step'])),
    steps.map((_, i) => i + 1),
  );
  t.strictSame(
    rows.map(({ loss }) => Number(loss)),
    steps.map(({ loss }) => loss),
  );
  t.ok(rows.every((row) => Number(row['system/memory_mib']) > 10));
  t.ok(rows.some((row) => Number(row['system/tokens_per_second']) > 0));

  const scalars = scalarsOf('plain');
  const losses = scalars.filter(({ tag }) => tag === 'train/loss');
  t.equal(losses.length, steps.filter(({ stream }) => stream !== 'sft').length);
  t.strictSame(
    scalars.filter(({ tag }) => tag === 'evaluation/accuracy/sums').map(({ step }) => step),
    [0, 1, 2, 3],
  );
  t.strictSame(
    scalars.filter(({ tag }) => tag === 'iteration/cream/consistency').map(({ step }) => step),
    [1, 2],
  );

  const run = await readRun(join(folder, 'plain'), { shown: 100 });
  t.equal(run.status, 'finished');
  t.ok('system/memory_mib' in run.steps.series);
  t.equal(run.iterations[0]?.groups.length, 12);
  for (const { responses } of run.iterations.flatMap(({ groups }) => groups)) {
    t.ok(responses.every(({ correct }) => typeof correct === 'boolean'));
  }
  const beta = run.settings.find(({ name }) => name === 'sampling.n');
  t.match(beta, { value: '4', origin: 'program', standard: '5' });
});

t.test('interrupted and continued: every step once, in the table and for TensorBoard', async (t) => {
  const controller = new AbortController();
  const run = runCream(configOf('continued'), { signal: controller.signal });
  let seen = 0;
  const watched = (async () => {
    for await (const event of run) {
      if (event.type === 'metrics' && event.iteration === 1 && ++seen === 3) controller.abort();
    }
  })();
  await t.rejects(run.result, { code: 'ABORTED' });
  await watched.catch(() => undefined);
  t.match(read('continued', 'report.html'), 'Interrupted');
  t.equal((await readRun(join(folder, 'continued'), { shown: 0 })).status, 'interrupted');

  await runCream(configOf('continued')).result;
  t.strictSame(
    digests(join(folder, 'continued')),
    digests(join(folder, 'plain')),
    'the records are the same',
  );
  t.strictSame(
    rowsOf('continued').map(({ stream, step }) => `${stream} ${step}`),
    stepsOf('plain').map(({ stream, step }) => `${stream} ${step}`),
  );
  t.equal(readdirSync(join(folder, 'continued', 'tensorboard')).length, 2, 'a file for each process');
  t.match(read('continued', 'report.html'), 'Finished: 2 iterations.');
});

t.test('a failed run has a report that says why', async (t) => {
  const config = configOf('failed', { pairing: { ties: 'margin', margin: 1e9 } });
  const failure = await runCream(config).result.then(
    () => undefined,
    (error: Error & { code: string }) => error,
  );
  t.equal(failure?.code, 'NO_PAIRS');
  t.match(read('failed', 'report.html'), /Failed.*none of 12 groups made a pair.*\[NO_PAIRS\]/);
  const { lights, status } = await readRun(join(folder, 'failed'), { shown: 100 });
  t.equal(status, 'failed');
  t.ok(lights.length > 10);
});

t.test('MLflow is told of a run; a server that is not there is a warning', async (t) => {
  const server = await startMlflow();
  const report = { tracker: 'mlflow', trackerUrl: server.url, experiment: 'tiny' };
  await runCream(configOf('tracked', { report })).result;
  const [tracked] = server.runs.values();
  t.equal(tracked?.info.status, 'FINISHED');
  t.equal(tracked?.info.run_name, 'tracked');
  t.equal(tracked?.params['sampling.n'], '4');
  const losses = tracked!.metrics.filter(({ key }) => key === 'train/loss').map(({ value }) => value);
  t.strictSame(
    losses,
    stepsOf('tracked').flatMap(({ stream, loss }) => (stream === 'sft' ? [] : [loss])),
  );
  await server.close();

  const warnings: RunEvent[] = [];
  const run = runCream(configOf('alone', { report }));
  for await (const event of run) if (event.type === 'warning') warnings.push(event);
  const summary = await run.result;
  t.equal(summary.iterations.length, 2, 'the run went on');
  t.strictSame(digests(join(folder, 'alone')), digests(join(folder, 'plain')));
  const told = warnings.filter((event) => event.type === 'warning' && event.code === 'report-failed');
  t.match(told, [
    { message: /^MLflow at http:\/\/127.*; the run goes on$/ },
    { message: /values were not taken/ },
  ]);
});

t.test('a report that cannot be written is a warning; what is turned off is not written', async (t) => {
  const off = configOf('off', { report: { html: false, tensorboard: false } });
  await runCream(off).result;
  t.notOk(existsSync(join(folder, 'off', 'report.html')));
  t.notOk(existsSync(join(folder, 'off', 'tensorboard')));
  t.strictSame(digests(join(folder, 'off')), digests(join(folder, 'plain')));

  // The settings of the report decide nothing of the run, so it may be continued with others.
  rmSync(join(folder, 'off', 'summary.json'));
  await runCream(configOf('off')).result;
  t.ok(existsSync(join(folder, 'off', 'report.html')));
});
