import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { CreamConfigInput } from '../../lib/config.js';
import type { RunEvent } from '../../lib/run/events.js';
import { engineFlags, runCream as runFromSources } from '../../lib/run/host.js';
import { lockFolder } from '../../lib/run/lock.js';
import { readRecords } from '../../lib/run/records.js';
import type { RunSummary } from '../../lib/run/summary.js';
import { kendallTau } from '../../lib/kendall-tau.js';
import type { PreferencePair, RankedGroup } from '../../lib/types.js';
import { built } from '../helpers/built.js';
import { digests, writeTinyRun } from '../helpers/tiny-run.js';

// Whole runs on a tiny model, in the engine process as users have them. Killing is in resume.test.ts.

t.setTimeout(240_000);

const { runCream } = built;

const folder = t.testdir({});
const config: CreamConfigInput = await writeTinyRun(folder);
const at = (...parts: string[]) => join(config.output!, ...parts);

async function collect(run: AsyncIterable<RunEvent>): Promise<RunEvent[]> {
  const events: RunEvent[] = [];
  for await (const event of run) events.push(event);
  return events;
}

const lines = (path: string) =>
  readFileSync(path, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, number | string>);

let events: RunEvent[];
let summary: RunSummary;
let reference: Record<string, string>;

t.test('a run goes from M0 to M3 and says so', async (t) => {
  const run = runCream(config);
  t.not(run.pid, process.pid, 'the engine has a process of its own');
  [events, summary] = await Promise.all([collect(run), run.result]);
  reference = digests(at());

  t.match(events[0], { type: 'run', status: 'started', directory: at() });
  t.match(events.at(-1), { type: 'run', status: 'finished' });
  const finished = events.flatMap((e) => (e.type === 'stage' && e.status === 'finished' ? [e] : []));
  const iteration = ['sample', 'score', 'rank', 'pair', 'train', 'evaluate'];
  t.strictSame(
    finished.map(({ stage }) => stage),
    ['evaluate', 'sft', 'evaluate', ...iteration, ...iteration],
  );
  t.ok(events.some((e) => e.type === 'progress'));
  t.strictSame(
    summary.models.map(({ model }) => model),
    ['M0', 'M1', 'M2', 'M3'],
  );
  t.equal(summary.model, at('iteration-2', 'policy'));
  t.ok(existsSync(join(summary.model, 'tokenizer.json')), 'the final model is complete');
  for (const { tasks } of summary.models)
    t.match(tasks, [{ name: 'sums', greedy: { total: 8 }, sampled: { total: 16 } }]);
  t.strictSame(JSON.parse(readFileSync(at('summary.json'), 'utf8')), JSON.parse(JSON.stringify(summary)));
});

t.test('every prompt is a pair or dropped with a reason, and the numbers agree between files', async (t) => {
  for (const { iteration, ...found } of summary.iterations) {
    const dir = `iteration-${iteration}`;
    const ranks = await readRecords<RankedGroup>(at(dir, 'ranks.jsonl'));
    const pairs = await readRecords<PreferencePair>(at(dir, 'pairs.jsonl'));
    const dropped = Object.values(found.droppedGroups).reduce((sum, n) => sum + n, 0);
    t.equal(ranks.length, 12);
    t.equal(found.prompts, pairs.length + dropped);
    t.equal(found.responses, 48);
    const defined = ranks.flatMap(({ consistency }) => consistency ?? []);
    const mean = defined.reduce((sum, c) => sum + c, 0) / defined.length;
    t.equal(found.consistency.mean, mean);
    for (const group of ranks) {
      t.ok(group.tau === null || group.tau === kendallTau(group.rewards!, group.previousRewards!));
    }
    for (const p of pairs) t.equal(p.weight, mean, 'weight: dataset');
    t.match(found.consistency.nullTauDeviation?.toFixed(3), '0.491'); // N = 4
  }
  const promptsOf = async (n: number) =>
    (await readRecords<RankedGroup>(at(`iteration-${n}`, 'ranks.jsonl'))).map(({ id }) => id);
  t.equal(new Set([...(await promptsOf(1)), ...(await promptsOf(2))]).size, 24, 'the slices are disjoint');
});

t.test(
  '§6.7 what was sampled is what is scored and trained, with one BOS and its finish reason',
  async (t) => {
    const BOS = 12;
    const EOS = 13;
    const ranks = await readRecords<RankedGroup>(at('iteration-1', 'ranks.jsonl'));
    for (const { promptIds, responses, numTokens } of ranks) {
      t.equal(promptIds.filter((id) => id === BOS).length, 1);
      t.equal(promptIds[0], BOS);
      responses.forEach(({ ids, finishReason }, i) => {
        t.equal(numTokens[i], ids.length);
        t.equal(ids.at(-1) === EOS, finishReason === 'stop', 'a stop token exactly where the model gave one');
        if (finishReason === 'length') t.equal(ids.length, 12);
      });
    }
    const byId = new Map(ranks.map((group) => [group.id, group]));
    for (const p of await readRecords<PreferencePair>(at('iteration-1', 'pairs.jsonl'))) {
      const { responses, logprobs } = byId.get(p.id)!;
      const place = responses.findIndex(({ ids }) => ids.join() === p.chosenIds.join());
      t.not(place, -1);
      t.equal(
        p.referenceChosenLogprob,
        logprobs[place],
        'the reference of the loss is the score of the policy',
      );
    }
  },
);

t.test('the log-probs of the scores are those that the sampler saw, up to rounding', async (t) => {
  for (const { responses, logprobs } of await readRecords<RankedGroup>(at('iteration-2', 'ranks.jsonl'))) {
    for (const [i, { samplerLogprob }] of responses.entries()) {
      t.ok(Math.abs(samplerLogprob! - logprobs[i]!) < 1e-3);
    }
  }
});

t.test('the first preference step of every iteration has the loss log 2', async (t) => {
  const metrics = lines(at('metrics.jsonl'));
  for (const iteration of [1, 2]) {
    const steps = metrics.filter(({ stream }) => stream === `iteration-${iteration}/train`);
    t.ok(Math.abs(Number(steps[0]!['loss']) - Math.log(2)) < 1e-4);
    t.strictSame(
      steps.map(({ step }) => step),
      steps.map((_, i) => i + 1),
    );
    for (const name of [
      'rewards/chosen',
      'rewards/margins',
      'logps/rejected',
      'cream/consistency',
      'cream/tau',
      'cream/weight',
      'cream/weights_moved',
      'grad_norm',
      'learning_rate',
    ]) {
      t.type(steps[0]![name], 'number', name);
    }
  }
  t.ok(metrics.some(({ stream }) => stream === 'sft'));
});

t.test('§6.11 the same settings give the same bits, another seed does not', async (t) => {
  const again = { ...config, output: join(folder, 'again') };
  await runFromSources(again).result;
  t.strictSame(digests(again.output), reference, 'also when the engine runs from TypeScript sources');
  const other = { ...config, output: join(folder, 'other'), seed: 4, iterations: 1 };
  await runCream(other).result;
  t.not(digests(other.output)['iteration-1/samples.jsonl'], reference['iteration-1/samples.jsonl']);
});

t.test('a finished run is not done again', async (t) => {
  const run = runCream(config);
  const again = await collect(run);
  t.ok(again.every((e) => e.type !== 'stage' || e.status === 'skipped'));
  t.match(again[0], { type: 'run', status: 'resumed' });
  const { seconds: _, ...same } = await run.result;
  const { seconds: __, ...first } = summary;
  t.strictSame(same, first);
  t.strictSame(digests(at()), reference);
});

t.test(
  'what is changed is refused by name; what is damaged is found; what is missing is done again',
  async (t) => {
    const prompts = config.data!.prompts!;
    const text = readFileSync(prompts, 'utf8');
    const refusal = (extra: Partial<CreamConfigInput>, resume?: 'never' | 'required') =>
      runCream({ ...config, ...extra }, resume === undefined ? {} : { resume }).result.then(
        () => 'accepted',
        (error: { code: string; message: string }) => `${error.code} ${error.message}`,
      );
    t.match(
      await refusal({ beta: 0.2, seed: 9 }),
      /RUN_MISMATCH .*\n {2}beta: was 0\.1, is 0\.2\n {2}seed: was 3, is 9|seed: was 3, is 9\n {2}beta: was 0\.1, is 0\.2/,
    );
    t.match(await refusal({}, 'never'), /RUN_MISMATCH .* already holds a run/);
    t.match(
      await refusal({ output: join(folder, 'none') }, 'required'),
      /RUN_MISMATCH .* no run to continue/,
    );
    t.match(await refusal({ output: join(folder, 'model') }), /RUN_MISMATCH .* files that are no run/);
    writeFileSync(prompts, text.replace('"p3"', '"p33"'));
    t.match(await refusal({}), /RUN_MISMATCH .*\n {2}content of data\.prompts/);
    writeFileSync(prompts, text);

    const scores = at('iteration-2', 'scores.jsonl');
    const content = readFileSync(scores);
    writeFileSync(scores, content.subarray(0, 4096));
    t.match(await refusal({}), /RUN_CORRUPT .*iteration-2\/scores\.jsonl is not what the run wrote/);
    rmSync(scores);
    const run = runCream(config);
    const redone = await collect(run);
    t.match(
      redone.find((e) => e.type === 'warning'),
      { code: 'files-missing', message: /iteration-2\/score/ },
    );
    t.strictSame(digests(at()), reference, 'with the same result');
  },
);

t.test('iterations can be added to a run, where prompts are left for them', async (t) => {
  const short = {
    ...config,
    output: join(folder, 'short'),
    iterations: 1,
    sampling: { ...config.sampling, promptsPerIteration: 12 },
  };
  await runCream(short).result;
  await runCream({ ...short, iterations: 2 }).result;
  t.strictSame(digests(short.output), reference);
  await t.rejects(runCream({ ...short, iterations: 3 }).result, {
    code: 'INVALID_DATA',
    message: /3 iterations of 12 prompts need 36/,
  });
});

t.test(
  'a change is accepted when that is asked for: what is done stays, the rest is made anew',
  async (t) => {
    const changed = { ...config, output: join(folder, 'changed') };
    await runCream({ ...changed, iterations: 1, sampling: { ...config.sampling, promptsPerIteration: 12 } })
      .result;
    const before = digests(changed.output);
    const sampling = { ...config.sampling, promptsPerIteration: 12, temperature: 0.7 };
    const run = runCream({ ...changed, sampling }, { resume: 'accept-changes' });
    const warning = (await collect(run)).find((e) => e.type === 'warning');
    t.match(warning, { code: 'run-changed', message: /sampling\.temperature: was 1, is 0\.7/ });
    const after = digests(changed.output);
    for (const name of Object.keys(before))
      if (name !== 'metrics.jsonl') t.equal(after[name], before[name], name);
    t.not(after['iteration-2/samples.jsonl'], reference['iteration-2/samples.jsonl']);
  },
);

t.test('an abort saves, the next run ends with the same bits', async (t) => {
  const output = join(folder, 'aborted');
  for (const [stage, done] of [
    ['sft', 2],
    ['sample', 4],
    ['train', 3],
  ] as const) {
    const controller = new AbortController();
    const run = runCream({ ...config, output }, { signal: controller.signal });
    const stopped = (async () => {
      for await (const event of run) {
        if (event.type === 'progress' && event.stage === stage && event.done >= done) controller.abort();
      }
    })();
    await t.rejects(stopped, { code: 'ABORTED' });
    await t.rejects(run.result, { code: 'ABORTED' });
  }
  await runCream({ ...config, output }).result;
  t.strictSame(digests(output), reference);
  await t.rejects(runCream(config, { signal: AbortSignal.abort() }).result, { code: 'ABORTED' });
});

t.test('a lost engine is an error of the run, with its last words, and the host lives on', async (t) => {
  const output = join(folder, 'lost');
  const run = runCream({ ...config, output });
  for await (const event of run) if (event.type === 'stage') break;
  process.kill(run.pid!, 'SIGSEGV');
  await t.rejects(run.result, {
    code: 'ENGINE_LOST',
    message: /was ended by SIGSEGV; finished work is kept/,
  });
  const stopped = runCream({ ...config, output });
  await stopped[Symbol.asyncDispose]();
  await t.rejects(stopped.result, { code: 'ABORTED' });
});

t.test('a second process in the folder is refused with the pid of the first', async (t) => {
  const output = join(folder, 'locked');
  mkdirSync(output);
  const lock = await lockFolder(output);
  await t.rejects(runCream({ ...config, output }).result, {
    code: 'RUN_LOCKED',
    message: new RegExp(`process ${process.pid} works in`),
  });
  await lock.release();
});

t.test('the event loop of the host is free while the engine works', async (t) => {
  const output = join(folder, 'loop');
  const run = runCream({ ...config, output, iterations: 1 });
  // Processor time of this process between two turns: what other processes do does not count.
  let [worst, last] = [0, process.cpuUsage()];
  const timer = setInterval(() => {
    const { user, system } = process.cpuUsage(last);
    worst = Math.max(worst, (user + system) / 1000);
    last = process.cpuUsage();
  }, 5);
  await run.result;
  clearInterval(timer);
  t.ok(
    worst < 250,
    `${worst} ms; a single optimizer step in this process would not show, a blocked loop would`,
  );
});

t.test('without data.sft M1 is M0, and this is said', async (t) => {
  const { sft: _, ...rest } = config;
  const { sft: __, ...data } = config.data!;
  const run = runCream({ ...rest, data, output: join(folder, 'untuned') });
  const warnings = (await collect(run)).filter((e) => e.type === 'warning').map(({ code }) => code);
  t.ok(warnings.includes('m1-is-m0'));
  const { models, iterations } = await run.result;
  t.equal(models[1]?.directory, config.model);
  t.strictSame(models[1]?.tasks, models[0]?.tasks);
  t.equal(iterations[0]?.consistency.mean, 1, 'one model agrees with itself');
});

t.test('settings that cannot work are refused at once, data errors by file and line', async (t) => {
  t.throws(() => runCream({ ...config, beta: -1 }), {
    code: 'INVALID_CONFIG',
    message: /beta must be > 0, got -1/,
  });
  const bad = join(folder, 'bad.jsonl');
  writeFileSync(bad, '{"prompt": "1+1="}\n{"prompt": \n');
  await t.rejects(
    runCream({ ...config, output: join(folder, 'bad'), data: { ...config.data, prompts: bad } }).result,
    {
      code: 'INVALID_DATA',
      message: /bad\.jsonl:2/,
    },
  );
  await t.rejects(runCream({ ...config, output: join(folder, 'long'), maxLength: 4096 }).result, {
    code: 'INVALID_CONFIG',
    message: /maxLength 4096 is more than the model's context of 64/,
  });
});

t.test("the engine's process gets loaders, not debuggers or scripts", async (t) => {
  t.strictSame(
    engineFlags([
      '--inspect=0',
      '--import',
      'x.mjs',
      '--import=y.mjs',
      '-e',
      'code',
      '--enable-source-maps',
      '--test',
      '-r',
      'z',
    ]),
    ['--import', 'x.mjs', '--import=y.mjs', '--enable-source-maps', '-r', 'z'],
  );
});

t.test('a prompt that cannot be used ends the run before its first stage', async (t) => {
  const own = t.testdir({});
  const tiny = await writeTinyRun(own);
  writeFileSync(join(own, 'prompts.jsonl'), '{"prompt": "1+1="}\n{"promt": "1+2="}\n');
  const run = runCream(tiny);
  const [events, error] = await Promise.all([
    collect(run).catch(() => []),
    run.result.then(
      () => undefined,
      (error: unknown) => error,
    ),
  ]);
  t.match(error, { code: 'INVALID_DATA', message: /prompts\.jsonl:2/ });
  t.notOk(events.some((event) => event.type === 'stage'));
  t.notOk(existsSync(join(tiny.output, 'sft')));
});
