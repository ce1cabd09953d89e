import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { readRecords } from '../../lib/run/records.js';
import type { PreferencePair, ScoredGroup } from '../../lib/types.js';
import { built } from '../helpers/built.js';
import { close } from '../helpers/close.js';
import { writeTinyRun } from '../helpers/tiny-run.js';

// A whole tiny run that takes the policy's log-probs from its sampler.

t.setTimeout(240_000);

t.test('one pass less, the same log-probs but for rounding, and the difference reported', async (t) => {
  const folder = t.testdir({});
  const base = await writeTinyRun(folder);
  const config = { ...base, score: { policyFrom: 'generation' as const } };
  await built.runCream(config).result;
  const manifest = JSON.parse(readFileSync(join(config.output, 'manifest.json'), 'utf8')) as {
    stages: { key: string; record: { result: Record<string, unknown> } }[];
  };
  for (const [iteration, passes] of [
    [1, 1],
    [2, 2],
  ] as const) {
    const { record } = manifest.stages.find(
      ({ key }) => key === `iteration-${iteration}/score:M${iteration}`,
    )!;
    t.equal(record.result['passes'], passes);
    const { groups, maxDifference, meanDifference, tau } = record.result['sampler'] as Record<string, number>;
    const scored = await readRecords<ScoredGroup>(
      join(config.output, `iteration-${iteration}`, 'scores.jsonl'),
    );
    t.equal(groups, Math.min(32, scored.length));
    t.ok(maxDifference! < 1e-3, `${maxDifference}`);
    t.ok(meanDifference! > 0, 'they were computed in different ways');
    t.ok(tau! > 0.99, `${tau}`);
    for (const { responses, logprobs } of scored) {
      const own = responses.map(({ samplerLogprob }) => samplerLogprob!);
      close(t, logprobs, own, { atol: 1e-4 });
    }
    const pairs = await readRecords<PreferencePair>(
      join(config.output, `iteration-${iteration}`, 'pairs.jsonl'),
    );
    const byId = new Map(scored.map((group) => [group.id, group.logprobs] as const));
    t.ok(pairs.every(({ id, referenceChosenLogprob }) => byId.get(id)!.includes(referenceChosenLogprob)));
    t.equal(record.result['policyFrom'], 'generation');
  }
});
