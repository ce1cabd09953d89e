import { CreamError } from './errors.js';
import type { Model } from './native/model.js';
import type { Models } from './run/models.js';
import { noiseOf, scoredAtFirst, settlePolicy } from './run/policy-logprobs.js';
import type { Run, StageInfo } from './run/run.js';
import { readRecords, recordLines } from './run/records.js';
import { rewardGroups } from './run/rewards.js';
import { writeFileDurably } from './run/storage.js';
import {
  rankingAccuracy,
  rewardCorrelation,
  summarizeConsistency,
  summarizeHistory,
  tally,
} from './run/summary.js';
import { scoringNeeds } from './scoring-needs.js';
import { startTraining } from './run/training-memory.js';
import type { World } from './run/world.js';
import { pair } from './stages/pair.js';
import { consistencyOf, rank, unranked } from './stages/rank.js';
import { sampleStream } from './stages/sample.js';
import { earlierJudges, judgesOf, score, withRewards } from './stages/score.js';
import { sft } from './stages/sft.js';
import { train } from './stages/train.js';
import type { Group, GroupLogprobs, PreferencePair, RankedGroup, ScoredGroup } from './types.js';

// The method on one page. Each step reads the file of the step before and writes its own; a step that is done is not
// done again, and one that was interrupted continues where it was.

/** M0 -> M1 by supervised fine-tuning, then M_t -> M_{t+1} by the policy's own preferences. */
export async function cream(world: World): Promise<void> {
  await world.checkData();
  await measure(world, 0);
  await fineTune(world);
  await measure(world, 1);
  for (let t = 1; t <= world.run.config.iterations; t++) {
    await sampleResponses(world, t); // N responses to each prompt of slice t, from M_t
    await scoreResponses(world, t); // their log-probs under M_t, M_{t-1} and M_0, and the two rewards
    if (world.run.config.pairing.rejectedFrom === 'base') {
      await sampleResponses(world, t, 'base'); // N responses to the same prompts from M_0,
      await scoreResponses(world, t, 'base'); // and their rewards by M_t
    }
    await rankResponses(world, t); // agreement C of the two rankings
    await makePairs(world, t); // best and worst by M_t, weighted by C
    await trainPolicy(world, t); // M_{t+1}
    await measure(world, t + 1);
  }
  await rankAtLast(world, world.run.config.iterations); // does M_{T+1} still agree with M_T?
}

const write = (run: Run, name: string, records: Iterable<object> | AsyncIterable<object>) =>
  writeFileDurably(run.dir.path(name), recordLines(records));

/** Seconds in which weights moved between a GPU and its host since the last stage that says so. */
function movesOf(models: Models): { movedSeconds?: number } {
  const movedSeconds = models.takeMovedSeconds();
  return movedSeconds > 0 ? { movedSeconds } : {};
}

async function fineTune(world: World): Promise<void> {
  const { run, models, sftExamples, onStep } = world;
  const { config } = run;
  if (config.data.sft === undefined) return;
  const info: StageInfo = { stage: 'sft', iteration: 0, model: 'M1', unit: 'steps' };
  await run.stage(info, ['sft/model/'], async () => {
    const { examples, dropped } = await sftExamples();
    const model = await models.policy(0);
    if (config.iterations > 0 && isAskedLater(world, 0, 1)) await models.keepPolicy();
    const rows = examples.map(({ promptIds, responseIds }) => promptIds.length + responseIds.length);
    const { options, trainer } = await startTraining({ run, info, number: 0 }, model, config.sft, rows);
    const metrics = await sft(examples, trainer, {
      options,
      seed: config.seed,
      stream: 'sft',
      signal: run.signal,
      checkpoints: run.checkpoints(info),
      onStep: onStep(info),
      onWarning: (code, message) => run.warn(code, message, info),
    });
    trainer.dispose();
    await run.dir.remove('sft/model');
    await model.save(run.dir.path('sft/model'));
    models.becomes(1);
    return { result: { examples: examples.length, dropped, metrics, ...movesOf(models) }, metrics };
  });
}

/** Whose responses: the policy's, or M_0's, whose files and random stream have a name of their own. */
type Author = 'policy' | 'base';

const samplesOf = (t: number, author: Author) =>
  `iteration-${t}/${author === 'base' ? 'base-' : ''}samples.jsonl`;
const scoresOf = (t: number, author: Author) =>
  `iteration-${t}/${author === 'base' ? 'base-' : ''}scores.jsonl`;

async function sampleResponses(
  { run, models, tokenizer, prompts }: World,
  t: number,
  author: Author = 'policy',
): Promise<void> {
  const { sampling, seed } = run.config;
  const slice = await prompts(t);
  const info: StageInfo = {
    stage: 'sample',
    iteration: t,
    model: author === 'base' ? 'M0' : `M${t}`,
    total: slice.length,
    unit: 'prompts',
  };
  await run.stage(info, [samplesOf(t, author)], async () => {
    const rate = run.rate(info, slice.length, 'prompts');
    const sampleFrom = (policy: Model) =>
      run.stream(
        info,
        slice,
        (prompts) =>
          sampleStream(prompts, sampling, {
            policy,
            decode: (ids) => tokenizer.decode(ids, { skipSpecialTokens: true }),
            stopIds: tokenizer.eosIds,
            seed,
            stream: author === 'base' ? `iteration-${t}/base` : `iteration-${t}`,
            signal: run.signal,
            onResponse: () => rate.advance(1 / sampling.n),
          }),
        { chunkSize: sampling.chunkSize, onFound: rate.found },
      );
    const { results } =
      author === 'base' ? await models.borrow(0, sampleFrom) : await sampleFrom(await models.policy(t));
    const counts = { prompts: 0, responses: 0, truncatedResponses: 0, emptyResponses: 0, tokens: 0 };
    await write(run, samplesOf(t, author), counted(results(), counts));
    const { tokens, ...rest } = counts;
    const result = { ...rest, meanResponseTokens: tokens / counts.responses };
    return { result, metrics: result };
  });
}

/** Passes groups on and counts what is in them. */
async function* counted(
  groups: AsyncIterable<Group>,
  counts: Record<'prompts' | 'responses' | 'truncatedResponses' | 'emptyResponses' | 'tokens', number>,
): AsyncGenerator<Group, void, undefined> {
  for await (const group of groups) {
    counts.prompts += 1;
    for (const { ids, finishReason } of group.responses) {
      counts.responses += 1;
      counts.truncatedResponses += Number(finishReason === 'length');
      counts.emptyResponses += Number(ids.length === 0);
      counts.tokens += ids.length;
    }
    yield group;
  }
}

/** The models that score what `author` wrote in iteration t, by the name of their pass, and how two of them rank. */
function scoringPasses({ run, fineTuned }: World, t: number, author: Author) {
  const { consistency, score: options } = run.config;
  const needs = scoringNeeds(run.config, author);
  const judging = { previousReward: options.previousReward, fineTuned };
  const judges = judgesOf(t, judging);
  const isBase = author === 'base'; // rejected responses need the policy's reward alone
  const earlier = isBase || consistency.history === 'previous' ? [] : earlierJudges(t, judging);
  // M_{t-1} is M_0 itself at t = 1, and is not asked when M_0 stands in for it: two passes, else three; fewer where
  // neither the pairs nor the report ask for them.
  const passes: Record<string, number> = {
    policy: t,
    ...(judges.previous === 'anchor' || t === 1 || !needs.previous ? {} : { previous: t - 1 }),
    ...(needs.base && { base: 0 }),
    ...Object.fromEntries(earlier.map(({ model }) => [`M${model}`, model])),
  };
  return { passes, needs, judges, earlier };
}

/** Whether iteration t asks for M_number beside the policy. */
function isAskedLater(world: World, number: number, t: number): boolean {
  const { passes } = scoringPasses(world, t, 'policy');
  const { directoryOf, run } = world;
  const writes = number === 0 && run.config.pairing.rejectedFrom === 'base';
  return (
    writes ||
    Object.entries(passes).some(
      ([pass, asked]) => pass !== 'policy' && directoryOf(asked) === directoryOf(number),
    )
  );
}

async function scoreResponses(world: World, t: number, author: Author = 'policy'): Promise<void> {
  const { run, models } = world;
  const { score: options, sampling, beta } = run.config;
  const isBase = author === 'base';
  const { passes, needs, judges, earlier } = scoringPasses(world, t, author);
  const model = isBase ? 'M0' : `M${t}`;
  const info: StageInfo = { stage: 'score', iteration: t, model, unit: 'prompts' };
  await run.stage(info, [scoresOf(t, author)], async () => {
    const groups = await readRecords<Group>(run.dir.path(samplesOf(t, author)));
    const source = isBase ? 'scoring' : world.policyFrom; // the sampler knows M_t's log-probs, which wrote what it scores
    const asked = Object.entries(passes).map(([part, number]) => {
      return { part, number, groups: part === 'policy' ? scoredAtFirst(source, groups) : groups };
    });
    const total = asked.reduce((sum, pass) => sum + pass.groups.length, 0);
    let rate = run.rate(info, total, 'prompts');
    let before = 0;
    const scorePass = async (part: string, number: number, some: readonly Group[]) => {
      const pass = await models.borrow(number, (model) =>
        run.chunks(
          info,
          some,
          (chunk) =>
            score(chunk, model, { maxTokensPerBatch: options.maxTokensPerBatch, signal: run.signal }),
          {
            part,
            chunkSize: sampling.chunkSize,
            onChunk: (done, isNew) => rate.reached(before + done, isNew),
          },
        ),
      );
      before += some.length;
      return pass;
    };
    const logprobs = new Map<string, readonly GroupLogprobs[]>();
    for (const pass of asked) logprobs.set(pass.part, await scorePass(pass.part, pass.number, pass.groups));
    const { lengthNormalize } = options;
    const settled = isBase
      ? undefined
      : await settlePolicy(run, info, groups, {
          source,
          scored: logprobs.get('policy')!,
          reading: { rule: judges.policy, beta, lengthNormalize, base: logprobs.get('base') },
          scoreRest: (rest) => {
            rate = run.rate(info, rest.length, 'prompts');
            before = 0;
            return scorePass('policy-rest', t, rest);
          },
        });
    const scored = withRewards(
      groups,
      {
        policy: settled?.logprobs ?? logprobs.get('policy')!,
        base: logprobs.get('base'),
        previous: logprobs.get('previous'),
        ...(earlier.length > 0 && {
          history: earlier.map((judge) => ({ ...judge, logprobs: logprobs.get(`M${judge.model}`)! })),
        }),
      },
      { beta, lengthNormalize, judges, previous: needs.previous },
    );
    const noise = settled && noiseOf(scored, settled.readings, judges.policy);
    const { groups: records, counts, metrics } = await rewardGroups(world, info, scored, t);
    await write(run, scoresOf(t, author), records);
    const moved = movesOf(models);
    const count = asked.length - Number(settled?.record.policyFrom === 'generation');
    const found = { ...settled?.record, ...(noise && { rewardNoise: noise.rewardNoise }) };
    return {
      result: { passes: count, ...moved, ...found, ...counts },
      metrics: { ...noise?.metrics, ...metrics },
    };
  });
}

async function rankResponses({ run, correctness }: World, t: number): Promise<void> {
  const { consistency: options, seed } = run.config;
  const info: StageInfo = { stage: 'rank', iteration: t };
  const files = [`iteration-${t}/ranks.jsonl`, `iteration-${t}/correct.jsonl`];
  await run.stage(info, files, async () => {
    const scored = await readRecords<ScoredGroup>(run.dir.path(scoresOf(t, 'policy')));
    const ranked = options.measure ? rank(scored, options) : unranked(scored);
    await write(run, `iteration-${t}/ranks.jsonl`, ranked);
    const consistency = summarizeConsistency(ranked, {
      metric: options.metric,
      toC: (tau) => consistencyOf(tau, options.rule),
      seed,
      stream: `iteration-${t}/bootstrap`,
    });
    const correct = await correctness(t, ranked);
    const verdicts = [...correct].map(([id, correct]) => ({ id, correct }));
    await write(run, `iteration-${t}/correct.jsonl`, verdicts); // which responses are right; nothing trains on it
    const flags = [...correct.values()].flat();
    const result = {
      consistency,
      rankingAccuracy: rankingAccuracy(ranked, correct),
      rewardCorrelation: rewardCorrelation(ranked, correct),
      sampleAccuracy: flags.length === 0 ? null : flags.filter(Boolean).length / flags.length,
    };
    const { mean, tau } = consistency;
    const history = options.history === 'previous' ? undefined : summarizeHistory(ranked);
    return {
      result: { ...result, ...(history && { history }) },
      metrics: {
        ...Object.fromEntries(
          (history ?? []).flatMap(({ model, tau }) => (tau === null ? [] : [[`cream/tau_${model}`, tau]])),
        ),
        ...(mean === null ? {} : { 'cream/consistency': mean }),
        ...(tau === null ? {} : { 'cream/tau': tau }),
      },
    };
  });
}

/**
 * How far the final policy agrees with the one before, on the responses of the last iteration: M3 against M2 in the
 * paper. One scoring pass, under M_{T+1}.
 */
async function rankAtLast({ run, models, fineTuned, correctness }: World, t: number): Promise<void> {
  const { config } = run;
  const { metric, rule, final } = config.consistency;
  if (!final || t === 0) return;
  const info: StageInfo = { stage: 'score', iteration: t, model: `M${t + 1}`, unit: 'prompts' };
  const file = `iteration-${t}/final-ranks.jsonl`;
  await run.stage(info, [file], async () => {
    const groups = await readRecords<ScoredGroup>(run.dir.path(scoresOf(t, 'policy')));
    const { maxTokensPerBatch, lengthNormalize } = config.score;
    const rate = run.rate(info, groups.length, 'prompts');
    const policy = await models.borrow(t + 1, (model) =>
      run.chunks(info, groups, (chunk) => score(chunk, model, { maxTokensPerBatch, signal: run.signal }), {
        chunkSize: config.sampling.chunkSize,
        onChunk: rate.reached,
      }),
    );
    const passes = {
      policy,
      previous: groups,
      base: groups.map(({ id, baseLogprobs }) => ({ id, logprobs: baseLogprobs! })),
    };
    const judges = judgesOf(t + 1, { previousReward: 'auto', fineTuned });
    const scored = withRewards(groups, passes, { beta: config.beta, lengthNormalize, judges });
    const ranked = rank(
      scored.map(({ pairRewards: _, history: __, ...group }) => group),
      { metric, rule },
    );
    await write(run, file, ranked);
    const consistency = summarizeConsistency(ranked, {
      metric,
      toC: (tau) => consistencyOf(tau, rule),
      seed: config.seed,
      stream: 'final/bootstrap',
    });
    const { mean, tau } = consistency;
    return {
      result: { consistency, rankingAccuracy: rankingAccuracy(ranked, await correctness(t, ranked)) },
      metrics: mean === null || tau === null ? {} : { 'cream/consistency': mean, 'cream/tau': tau },
    };
  });
}

async function makePairs({ run }: World, t: number): Promise<void> {
  const { weight } = run.config.consistency;
  const info: StageInfo = { stage: 'pair', iteration: t };
  await run.stage(info, [`iteration-${t}/pairs.jsonl`, `iteration-${t}/dropped.jsonl`], async () => {
    const ranked = await readRecords<RankedGroup>(run.dir.path(`iteration-${t}/ranks.jsonl`));
    const { consistency, pairing } = run.config;
    const base =
      pairing.rejectedFrom === 'base'
        ? await readRecords<ScoredGroup>(run.dir.path(scoresOf(t, 'base')))
        : undefined;
    const { pairs, dropped, choices } = pair(ranked, { ...consistency, ...pairing }, base);
    const droppedGroups = tally(dropped.map(({ reason }) => reason));
    if (pairs.length === 0) {
      const reasons = Object.entries(droppedGroups).map(([reason, count]) => `${count} ${reason}`);
      throw new CreamError(
        'NO_PAIRS',
        `iteration ${t}: none of ${ranked.length} groups made a pair (${reasons.join(', ')})`,
      );
    }
    await write(run, `iteration-${t}/pairs.jsonl`, pairs);
    await write(run, `iteration-${t}/dropped.jsonl`, dropped);
    const weights = pairs.map((p) => p.weight);
    const flipped = weights.filter((value) => value < 0.5).length;
    if (flipped > 0) {
      run.warn(
        'consistency-below-half',
        `iteration ${t}: ${flipped} of ${pairs.length} pairs have a weight C below 1/2 (weight: ${weight}), so they train ` +
          'towards the rejected response; consistency.rule floor or theorem avoids it (docs/experiment.md: neither ended better)',
        info,
      );
    }
    const meanWeight = weights.reduce((sum, value) => sum + value, 0) / weights.length;
    return {
      result: { pairs: pairs.length, droppedGroups, meanWeight, flipped, choices },
      metrics: { pairs: pairs.length, dropped: dropped.length },
    };
  });
}

async function trainPolicy(world: World, t: number): Promise<void> {
  const { run, models, onStep } = world;
  const { config } = run;
  const info: StageInfo = { stage: 'train', iteration: t, model: `M${t + 1}`, unit: 'steps' };
  const folder = `iteration-${t}/policy`;
  await run.stage(info, [`${folder}/`], async () => {
    const pairs = await readRecords<PreferencePair>(run.dir.path(`iteration-${t}/pairs.jsonl`));
    const model = await models.policy(t);
    if (t < config.iterations && isAskedLater(world, t, t + 1)) await models.keepPolicy();
    const rows = pairs.map(
      ({ promptIds, chosenIds, rejectedIds }) => promptIds.length + chosenIds.length + rejectedIds.length,
    );
    const { options, trainer } = await startTraining({ run, info, number: t }, model, config.train, rows);
    const metrics = await train(pairs, trainer, {
      options,
      beta: config.beta,
      dtype: model.dtype,
      adapter: model.adapter,
      seed: config.seed,
      stream: `iteration-${t}/train`,
      signal: run.signal,
      checkpoints: run.checkpoints(info),
      onStep: onStep(info),
      onWarning: (code, message) => run.warn(code, message, info),
    });
    trainer.dispose();
    await run.dir.remove(folder);
    await model.save(run.dir.path(folder));
    models.becomes(t + 1);
    return { result: { metrics, ...movesOf(models) }, metrics };
  });
}

/** Accuracy of M_number on the held-out tasks. M1 is not measured where it is M0. */
async function measure({ run, models, evaluateTasks, fineTuned }: World, number: number): Promise<void> {
  if (run.config.data.evaluation.length === 0 || (number === 1 && !fineTuned)) return;
  const model = `M${number}`;
  const info: StageInfo = { stage: 'evaluate', iteration: Math.max(0, number - 1), model, unit: 'answers' };
  await run.stage(info, [`evaluation/${model}.jsonl`], async () => {
    const { records, metrics, ...result } = await evaluateTasks(await models.policy(number), info);
    await write(run, `evaluation/${model}.jsonl`, records);
    return { result, metrics };
  });
}
