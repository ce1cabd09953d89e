import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { validateConfig } from '../../lib/config.js';
import { MetricsLog } from '../../lib/run/metrics.js';
import { batchesOf, runTraining, type Training } from '../../lib/run/training.js';

// The loop with an optimizer that is plain arithmetic, so that every interruption can be tried.

interface Example {
  id: string;
  value: number;
}

const EXAMPLES: Example[] = Array.from({ length: 10 }, (_, i) => ({ id: `e${i}`, value: i + 1 }));
const OPTIONS = {
  ...validateConfig({ model: 'm', iterations: 0 }).train,
  epochs: 3,
  batchSize: 4,
  learningRate: 0.1,
  checkpointEverySteps: 2,
};

/** Weight and moment follow from every step in order; `dieAt` and `notFinite` make trouble. */
class Arithmetic {
  state = { weight: 1, moment: 0 };
  steps = 0;
  dieAt = Number.POSITIVE_INFINITY;
  notFinite: number[] = [];
  seen: string[] = [];

  async step(batch: Example[], learningRate: number) {
    if (this.steps >= this.dieAt) throw new Error('killed');
    this.steps++;
    this.seen.push(batch.map(({ id }) => id).join());
    const applied = !this.notFinite.includes(this.steps);
    if (applied) {
      const gradient = batch.reduce((sum, { value }) => sum + value * this.state.weight, 0) / batch.length;
      this.state.moment = 0.9 * this.state.moment + gradient;
      this.state.weight -= learningRate * 0.01 * this.state.moment;
    }
    return { applied, metrics: { loss: applied ? this.state.weight : Number.NaN } };
  }
  async saveState(path: string) {
    writeFileSync(path, JSON.stringify(this.state));
  }
  async loadState(path: string) {
    this.state = JSON.parse(readFileSync(path, 'utf8')) as typeof this.state;
  }
}

async function train(folder: string, optimizer: Arithmetic, extra: Partial<Training<Example>> = {}) {
  const metrics = await MetricsLog.open(join(folder, 'metrics.jsonl'));
  try {
    return await runTraining<Example>({
      examples: EXAMPLES,
      key: ({ id }) => id,
      optimizer,
      options: OPTIONS,
      seed: 7,
      stream: 'train',
      checkpoints: { folder: join(folder, 'checkpoints'), metrics, metricsBytes: 0 },
      ...extra,
    });
  } finally {
    await metrics.close();
  }
}

const readMetrics = (folder: string) => readFileSync(join(folder, 'metrics.jsonl'), 'utf8');

t.test('killed after any step, a training ends with the same state and the same metrics', async (t) => {
  const folders = t.testdir({
    whole: {},
    ...Object.fromEntries(Array.from({ length: 9 }, (_, i) => [`kill-${i}`, {}])),
  });
  const whole = join(folders, 'whole');
  const uninterrupted = new Arithmetic();
  const last = await train(whole, uninterrupted);
  t.equal(uninterrupted.steps, 9);
  t.strictSame(Object.keys(last), ['loss', 'learning_rate']);

  for (let kill = 0; kill < 9; kill++) {
    const folder = join(folders, `kill-${kill}`);
    const first = new Arithmetic();
    first.dieAt = kill;
    await t.rejects(train(folder, first), /killed/);
    const second = new Arithmetic();
    second.dieAt = 3;
    if (9 - kill + (kill % 2) > 3) await t.rejects(train(folder, second), /killed/);
    const third = new Arithmetic();
    t.strictSame(await train(folder, third), last, `killed after step ${kill}`);
    t.strictSame(third.state, uninterrupted.state);
    t.equal(readMetrics(folder), readMetrics(whole), 'no step is there twice and none is missing');
  }
});

t.test('an abort finishes the step, saves it and loses nothing', async (t) => {
  const folder = t.testdir({});
  const controller = new AbortController();
  const optimizer = new Arithmetic();
  const stopped = train(folder, optimizer, {
    signal: controller.signal,
    onStep: (step) => {
      if (step === 5) controller.abort();
    },
  });
  await t.rejects(stopped, { code: 'ABORTED', message: /after step 5 of 9/ });
  const rest = new Arithmetic();
  await train(folder, rest);
  t.equal(rest.steps, 4);
});

t.test('a damaged checkpoint is found by its digest, and the one before is used', async (t) => {
  const folder = t.testdir({});
  const first = new Arithmetic();
  first.dieAt = 7;
  await t.rejects(train(folder, first), /killed/);
  const checkpoints = join(folder, 'checkpoints');
  t.strictSame(readdirSync(checkpoints), ['step-00000004', 'step-00000006'], 'two are kept');
  const path = join(checkpoints, 'step-00000006', 'state.safetensors');
  writeFileSync(path, readFileSync(path, 'utf8').replace('1', '2'));

  const warnings: string[] = [];
  const second = new Arithmetic();
  await train(folder, second, { onWarning: (code, message) => warnings.push(`${code} ${message}`) });
  t.equal(second.steps, 5, 'from step 4');
  t.match(warnings, [/^checkpoint-damaged .*step-00000006/]);
  const uninterrupted = new Arithmetic();
  await train(t.testdir({}), uninterrupted);
  t.strictSame(second.state, uninterrupted.state);
});

t.test('steps that are not finite are skipped and counted; three in a row end the run', async (t) => {
  const scattered = new Arithmetic();
  scattered.notFinite = [1, 2, 4, 5];
  const warnings: string[] = [];
  await train(t.testdir({}), scattered, { onWarning: (code) => warnings.push(code) });
  t.strictSame(warnings, Array(4).fill('step-skipped'));

  const folder = t.testdir({});
  const diverging = new Arithmetic();
  diverging.notFinite = [4, 5, 6];
  await t.rejects(train(folder, diverging), { code: 'DIVERGED', message: /3 steps in a row, up to step 6/ });
  t.ok(readdirSync(join(folder, 'checkpoints')).includes('step-00000004'), 'the last checkpoint is kept');
});

t.test('a training past a bound for three steps in a row ends early, and so does a killed one', async (t) => {
  // Steps 3 and 5, 6, 7 are past the bound.
  const past = (optimizer: Arithmetic, done: () => number) => ({
    stopWhen: () => ([3, 5, 6, 7].includes(done()) ? `step ${done()} is past it` : undefined),
    optimizer,
  });
  const run = async (folder: string, optimizer: Arithmetic, warnings: string[]) => {
    let step = 0;
    return train(folder, optimizer, {
      ...past(optimizer, () => step),
      onStep: (current) => {
        step = current;
      },
      onWarning: (code, message) => warnings.push(`${code} ${message}`),
    });
  };
  const whole = t.testdir({ whole: {}, ...Object.fromEntries([1, 2, 3, 4, 5, 6].map((i) => [`k${i}`, {}])) });
  const warnings: string[] = [];
  const uninterrupted = new Arithmetic();
  const last = await run(join(whole, 'whole'), uninterrupted, warnings);
  t.equal(uninterrupted.steps, 7, 'of 9');
  t.strictSame(warnings, [
    'stopped-early train ended after step 7 of 9: step 7 is past it, 3 steps in a row',
  ]);
  for (const kill of [1, 2, 3, 4, 5, 6]) {
    const first = new Arithmetic();
    first.dieAt = kill;
    await t.rejects(run(join(whole, `k${kill}`), first, []), /killed/);
    const second = new Arithmetic();
    t.strictSame(await run(join(whole, `k${kill}`), second, []), last, `killed after step ${kill}`);
    t.strictSame(second.state, uninterrupted.state);
  }
});

t.test('every epoch visits every example once, each in its own order', async (t) => {
  const batches = batchesOf({
    examples: EXAMPLES,
    key: ({ id }) => id,
    options: OPTIONS,
    seed: 1,
    stream: 's',
  });
  t.strictSame(
    batches.map((batch) => batch.length),
    [4, 4, 2, 4, 4, 2, 4, 4, 2],
  );
  const epochs = [0, 3, 6].map((start) =>
    batches
      .slice(start, start + 3)
      .flat()
      .map(({ id }) => id),
  );
  for (const epoch of epochs)
    t.strictSame(
      epoch.toSorted(),
      EXAMPLES.map(({ id }) => id),
    );
  t.not(epochs[0]!.join(), epochs[1]!.join());
});
