import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { Model } from '../lib/native/model.js';
import { Tokenizer } from '../lib/data/tokenizer.js';
import {
  encodeLabelled,
  loadLabelledGroups,
  rankingReport,
  rankingRewards,
  runCream,
  score,
} from '../lib/index.js';

// A real model and real data, where they are: a folder beside the repository that is not part of it.

const SHARED = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'shared');
const STORIES = join(SHARED, 'models', 'stories260K');
const DATA = join(SHARED, 'data');
const skip = existsSync(STORIES) && existsSync(DATA) ? false : `there is no ${SHARED}`;

const lines = <T>(path: string): T[] =>
  readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as T);

// Greedy decoding from BOS alone, as the documentation of llama2.c publishes it.
const STORY = `Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball. She wanted to play with it, but it was too high.
Lily's mom said, "Lily, let's go to the park." Lily was sad and didn't know what to do. She said, "I want to play with your ball, but I can't find it."
Lily was sad and didn't know what to do. She said, "I'm sorry, Lily. I didn't know what to do."
Lily didn't want to help her mom, so she said, "I'm sorry, mom. I didn't know what to do." Her mom said, "Don't worry, Lily. We can help you.`;
const BEGINNING = 'Once upon a time, there was a little girl named Lily.';

t.test('stories260K: the tokenizer gives the known ids', { skip }, async (t) => {
  const tokenizer = await Tokenizer.load(STORIES);
  t.strictSame(
    await tokenizer.promptIds('Once upon a time, Tim had 3 apples.', { chat: false }),
    [1, 403, 407, 261, 378, 432, 326, 381, 410, 472, 261, 339, 305, 419, 426],
  );
  t.strictSame(await tokenizer.promptIds('', { chat: false }), [1], 'the empty prompt is BOS alone');
});

t.test('stories260K: greedy decoding from BOS gives its published text', { skip }, async (t) => {
  const tokenizer = await Tokenizer.load(STORIES);
  await using model = await Model.load(STORIES);
  const request = { prompts: [{ id: 'story', ids: [1] }], temperature: 0, maxNewTokens: 256 };
  for await (const response of model.generate(request)) {
    const text = tokenizer.decode([...response.ids]);
    t.equal(text.slice(0, STORY.length), STORY);
    t.equal(response.ids.length, 256);
    t.equal(response.finishReason, 'length');
  }
});

t.test('stories260K: the log-prob of a known sentence is -1.50206', { skip }, async (t) => {
  const tokenizer = await Tokenizer.load(STORIES);
  await using model = await Model.load(STORIES);
  const response = tokenizer.encode(BEGINNING, { addSpecialTokens: false });
  t.equal(response.length, 15);
  const [scores] = await model.score([{ promptIds: [1], responses: [response] }]);
  t.ok(Math.abs(scores!.logprobs[0]! - -1.50206) <= 1e-4, `${scores!.logprobs[0]}`);
});

t.test('cream run trains stories260K on real GSM8K prompts, end to end', { skip }, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'cream-shared-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const train = lines<{ id: string; question: string; answer: string; label: string }>(
    join(DATA, 'gsm8k.train.jsonl'),
  ).filter(({ question, answer }) => question.length + answer.length < 400);
  const test = lines<object>(join(DATA, 'gsm8k.test.jsonl'));
  const write = (name: string, rows: object[]) => {
    const path = join(directory, name);
    writeFileSync(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
    return path;
  };
  const sft = train
    .slice(0, 8)
    .map(({ id, question, answer }) => ({ id, prompt: question, completion: answer }));

  const run = runCream({
    model: STORIES,
    output: join(directory, 'run'),
    iterations: 2,
    seed: 3,
    threads: 2,
    data: {
      sft: write('sft.jsonl', sft),
      prompts: write('prompts.jsonl', train.slice(8, 20)),
      evaluation: [{ name: 'gsm8k', path: write('test.jsonl', test.slice(0, 2)) }],
      chat: false,
    },
    sft: { epochs: 1, batchSize: 4, learningRate: 1e-4 },
    sampling: { n: 4, maxNewTokens: 24, chunkSize: 4 },
    train: { batchSize: 3, learningRate: 1e-4 },
    evaluation: { maxNewTokens: 8 },
  });
  const stages: string[] = [];
  const losses: number[] = [];
  for await (const event of run) {
    if (event.type === 'stage' && event.status === 'finished')
      stages.push(`${event.iteration} ${event.stage}`);
    if (event.type === 'metrics' && event.stage === 'train') losses.push(event.metrics['loss']!);
  }
  const summary = await run.result;

  for (const iteration of [1, 2]) {
    for (const stage of ['sample', 'score', 'rank', 'pair', 'train']) {
      t.ok(stages.includes(`${iteration} ${stage}`), `${stage} of iteration ${iteration}`);
    }
  }
  t.strictSame(
    summary.models.map((model) => model.model),
    ['M0', 'M1', 'M2', 'M3'],
  );
  t.ok(Math.abs(losses[0]! - Math.LN2) < 1e-4, `the first loss is log 2: ${losses[0]}`);
  for (const iteration of summary.iterations) {
    t.equal(iteration.prompts, 6);
    t.equal(iteration.responses, 24);
    const dropped = Object.values(iteration.droppedGroups).reduce((sum, count) => sum + count, 0);
    t.equal(iteration.pairs + dropped, 6, 'every prompt makes a pair or is counted');
    t.ok(iteration.pairs > 0);
    t.ok(
      iteration.consistency.mean !== null &&
        iteration.consistency.mean >= 0 &&
        iteration.consistency.mean <= 1,
    );
  }

  // The final folder is a model again, and it is another one.
  await using final = await Model.load(summary.model);
  await using base = await Model.load(STORIES);
  const group = { promptIds: [1], responses: [[403, 407, 261]] };
  const [after, before] = [await final.score([group]), await base.score([group])];
  t.not(after[0]!.logprobs[0], before[0]!.logprobs[0]);
  t.ok(Number.isFinite(after[0]!.logprobs[0]));
});

t.test(
  'labelled GSM8K solutions: ranking accuracy of likelihoods, and of the labels themselves',
  { skip },
  async (t) => {
    const rows = (await loadLabelledGroups(join(DATA, 'gsm8k.model_solutions.jsonl'))).slice(0, 24);
    t.ok(rows.every(({ responses, correct }) => responses.length === 4 && correct.length === 4));
    const tokenizer = await Tokenizer.load(STORIES);
    await using model = await Model.load(STORIES);
    const maxLength = model.config.maxPositionEmbeddings;
    const { groups, tooLong } = await encodeLabelled(rows, tokenizer, { chat: false, maxLength });
    t.equal(groups.length + tooLong, 24);
    const policy = await score(groups, model, { maxTokensPerBatch: 8192 });
    const sums = rankingRewards(groups, { policy }, { reward: 'likelihood-sum', beta: 1 });
    t.strictSame(
      sums,
      policy.map(({ logprobs }) => logprobs),
    );
    for (const reward of ['likelihood', 'likelihood-sum'] as const) {
      const rewards = rankingRewards(groups, { policy }, { reward, beta: 1 });
      const report = rankingReport(groups, rewards);
      const { accuracy, interval, ties, unranked, withoutPairs } = report;
      t.comment(`${reward}: ${accuracy?.toFixed(3)} of ${report.pairs} pairs, ${groups.length} prompts`);
      t.ok(interval![0] <= accuracy! && accuracy! <= interval![1]);
      t.equal(report.groups + withoutPairs, groups.length);
      t.equal(unranked + ties, 0, 'different texts, different likelihoods');
    }
    const oracle = rankingReport(
      groups,
      groups.map(({ correct }) => correct.map(Number)),
    );
    t.match(oracle, { accuracy: 1, best: 1, ties: 0 });
    t.throws(() => rankingRewards(groups, { policy }, { reward: 'implicit', beta: 1 }), {
      code: 'MISSING_SCORES',
    });
  },
);
