import { createHash } from 'node:crypto';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RunEvent } from '../../lib/run/events.js';
import { runCream } from '../../lib/run/host.js';
import type { Group, ScoredGroup } from '../../lib/types.js';
import { close } from '../helpers/close.js';
import { GPU, t } from '../helpers/gpu.js';
import { digests, writeTinyRun } from '../helpers/tiny-run.js';

// score.policyFrom: auto on a GPU. It keeps the sampler's log-probs, or takes a pass of its own where they rank otherwise.

/** More groups than are compared. */
const PROMPTS = 36;
const COMPARED = 32;

const rowsOf = <Row>(path: string): Row[] =>
  readFileSync(path, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Row);

interface Manifest {
  stages: {
    key: string;
    record: {
      files: Record<string, { sha256: string; bytes: number }>;
      result: Record<string, unknown>;
      warnings: { code: string; message: string }[];
    };
  }[];
}

const manifestOf = (output: string) =>
  JSON.parse(readFileSync(join(output, 'manifest.json'), 'utf8')) as Manifest;
const recordOf = (output: string, key: string) =>
  manifestOf(output).stages.find((stage) => stage.key === key)!.record;

async function settings(folder: string) {
  const config = await writeTinyRun(folder);
  const prompts = Array.from({ length: PROMPTS }, (_, i) => ({ id: `p${i}`, prompt: `${i}+${7 * i}=` }));
  writeFileSync(config.data.prompts, prompts.map((row) => `${JSON.stringify(row)}\n`).join(''));
  return {
    ...config,
    data: { ...config.data, evaluation: [] },
    evaluation: {},
    sampling: { ...config.sampling, maxNewTokens: 5 },
    sft: { ...config.sft, batchSize: 24 },
    device: GPU,
    iterations: 1,
  };
}

type Settings = Awaited<ReturnType<typeof settings>> & { score?: { policyFrom: 'auto' | 'scoring' } };

const isTraining = (event: RunEvent) => event.type === 'stage' && event.stage === 'train';

/** Runs, or continues, until `isEnough` says so; resolves to the events. */
async function runUntil(config: Settings, isEnough: (event: RunEvent) => boolean = isTraining) {
  const controller = new AbortController();
  const run = runCream(config, { inProcess: true, signal: controller.signal });
  const events: RunEvent[] = [];
  try {
    for await (const event of run) {
      events.push(event);
      if (isEnough(event)) controller.abort();
    }
  } catch (error) {
    if (!controller.signal.aborted || (error as { code?: string }).code !== 'ABORTED') throw error;
  }
  return events;
}

t.test(
  "auto takes the sampler's log-probs, says so first, and measures what a reward is off by",
  async (t) => {
    const config = await settings(t.testdir({}));
    const events = await runUntil(config);
    const { output } = config;
    t.match(events[1], { type: 'choice', setting: 'score.policyFrom', value: 'generation', because: /GPU/ });
    t.equal(recordOf(output, 'policy-from').result['value'], 'generation');
    const { result, warnings } = recordOf(output, 'iteration-1/score:M1');
    t.match(result, { policyFrom: 'generation', passes: 1, sampler: { groups: COMPARED } });
    t.strictSame(warnings, []);
    const { spread, noise, repeatTau, groups } = result['rewardNoise'] as Record<string, number>;
    t.equal(groups, COMPARED);
    t.ok(noise! > 0 && noise! < 0.01 * spread!, `${noise} of ${spread}`);
    t.ok(repeatTau! > 0.99 && repeatTau! < 1);
    for (const { responses, logprobs } of rowsOf<ScoredGroup>(join(output, 'iteration-1', 'scores.jsonl'))) {
      const first = new Map<string, number>();
      for (const { ids, samplerLogprob } of responses) {
        if (!first.has(ids.join())) first.set(ids.join(), samplerLogprob!);
      }
      t.strictSame(
        logprobs,
        responses.map(({ ids }) => first.get(ids.join())),
      );
    }
    const finished = events.find(
      (event) => event.type === 'stage' && event.stage === 'score' && event.status === 'finished',
    );
    t.match(finished, { metrics: { 'cream/reward_spread': spread, 'cream/reward_noise': noise } });

    await t.rejects(runUntil({ ...config, score: { policyFrom: 'scoring' } }), {
      code: 'RUN_MISMATCH',
      message: /score\.policyFrom: was "auto", is "scoring"/,
    });
  },
);

/** The recorded responses with the sampler's log-probs in another order, as a fault would leave them. */
function disorder(output: string): void {
  const name = 'iteration-1/samples.jsonl';
  const groups = rowsOf<Group>(join(output, name)).map((group) => {
    const logprobs = group.responses.map(({ samplerLogprob }) => samplerLogprob!).reverse();
    return {
      ...group,
      responses: group.responses.map((one, i) => ({ ...one, samplerLogprob: logprobs[i]! })),
    };
  });
  const text = groups.map((group) => `${JSON.stringify(group)}\n`).join('');
  writeFileSync(join(output, name), text);
  const manifest = manifestOf(output);
  const sample = manifest.stages.find(({ key }) => key === 'iteration-1/sample:M1')!;
  const sha256 = createHash('sha256').update(text).digest('hex');
  sample.record.files[name] = { sha256, bytes: Buffer.byteLength(text) };
  writeFileSync(join(output, 'manifest.json'), JSON.stringify(manifest));
}

t.test(
  'where they rank otherwise, auto scores the other groups as well, and alike after an interruption',
  async (t) => {
    const folder = t.testdir({});
    const config = await settings(folder);
    const isScoring = (event: RunEvent) => event.type === 'stage' && event.stage === 'score';
    await runUntil(config, isScoring);
    const sampled = rowsOf<Group>(join(config.output, 'iteration-1', 'samples.jsonl'));
    disorder(config.output);
    const cut = { ...config, output: join(folder, 'cut') };
    cpSync(config.output, cut.output, { recursive: true });

    const events = await runUntil(config);
    const { result, warnings } = recordOf(config.output, 'iteration-1/score:M1');
    t.match(result, { policyFrom: 'scoring', passes: 2, sampler: { groups: COMPARED } });
    t.ok((result['sampler'] as { tau: number }).tau < 0.9);
    t.match(warnings, [
      { code: 'sampler-disagrees', message: /this iteration takes a scoring pass of its own/ },
    ]);
    const totals = events.flatMap((event) =>
      event.type === 'progress' && event.stage === 'score' && event.done === event.total ? [event.total] : [],
    );
    t.strictSame(totals, [COMPARED + PROMPTS, PROMPTS - COMPARED], 'no group is scored twice by one model');

    await runUntil(cut, (event) => event.type === 'warning' && event.code === 'sampler-disagrees');
    t.notOk(
      manifestOf(cut.output).stages.some(({ key }) => key === 'iteration-1/score:M1'),
      'it was interrupted between the comparison and the rest',
    );
    await runUntil(cut);
    t.strictSame(digests(cut.output), digests(config.output));
    t.match(recordOf(cut.output, 'iteration-1/score:M1').result, result);

    for (const [place, { id, responses, logprobs }] of rowsOf<ScoredGroup>(
      join(config.output, 'iteration-1', 'scores.jsonl'),
    ).entries()) {
      t.equal(id, sampled[place]!.id, 'in the order of the samples');
      t.equal(logprobs.length, responses.length);
      const own = sampled[place]!.responses.map(({ samplerLogprob }) => samplerLogprob!);
      close(t, logprobs, own, { atol: 1e-4 });
    }
  },
);
