import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { PlanEvent, RunEvent } from '../../lib/run/events.js';
import { built } from '../helpers/built.js';
import { writeTinyRun } from '../helpers/tiny-run.js';

// A run whose trainings plan their memory: what is told, what is kept for a continued run.

t.setTimeout(240_000);

const { runCream } = built;
const folder = t.testdir({});
const base = await writeTinyRun(folder);
const training = {
  maxTokensPerBatch: 'auto',
  recompute: 'full',
  momentsDtype: 'bfloat16',
  learningRateFactors: { embeddings: 0.5, layerDecay: 0.9 },
} as const;

t.test('every training tells its plan before its first step, and a continued run keeps it', async (t) => {
  const config = {
    ...base,
    iterations: 1,
    data: { ...base.data, evaluation: [] },
    evaluation: {},
    sft: { ...base.sft, ...training },
    train: { ...base.train, ...training },
  };
  const run = runCream(config);
  const events: RunEvent[] = [];
  for await (const event of run) events.push(event);
  const summary = await run.result;
  t.ok(summary);

  const plans = events.filter((event): event is PlanEvent => event.type === 'plan');
  t.strictSame(
    plans.map(({ stage, iteration }) => [stage, iteration]),
    [
      ['sft', 0],
      ['train', 1],
    ],
  );
  for (const plan of plans) {
    const first = events.findIndex((e) => e.type === 'metrics' && e.stage === plan.stage);
    t.ok(events.indexOf(plan) < first, 'before the first step');
    t.equal(
      plan.totalBytes,
      plan.parts.reduce((sum, { bytes }) => sum + bytes, 0),
    );
    t.ok(plan.parts.some(({ what }) => what === 'two moments, bfloat16'));
    t.match(plan, { maxTokensPerBatch: 256, gradientsDtype: 'float32' }, 'a batch of four, rounded up');
    t.ok(plan.freeBytes > 0);
  }
  const lines = readFileSync(join(config.output, 'events.jsonl'), 'utf8');
  t.match(lines, /"type":"plan","stage":"train"/);
  const manifest = JSON.parse(readFileSync(join(config.output, 'manifest.json'), 'utf8')) as {
    stages: { key: string; record: { result: { value?: { maxTokensPerBatch: number } } } }[];
  };
  const kept = manifest.stages.filter(({ key }) => key.endsWith('-memory'));
  t.strictSame(
    kept.map(({ key, record }) => [key, record.result.value!.maxTokensPerBatch]),
    [
      ['sft-memory', 256],
      ['iteration-1/train-memory', 256],
    ],
  );
  const steps = readFileSync(join(config.output, 'metrics.jsonl'), 'utf8').trim().split('\n');
  t.ok(
    steps.every(
      (line) => (JSON.parse(line) as { 'cream/micro_batches': number })['cream/micro_batches'] === 1,
    ),
  );
});
