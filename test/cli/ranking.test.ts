import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { Tokenizer } from '../../lib/data/tokenizer.js';
import { RewardModel } from '../../lib/native/reward-model.js';
import { close } from '../helpers/close.js';
import { cream, jsonLines, trainOther, writeLlama } from '../helpers/cream.js';
import { checkpoint } from '../helpers/golden.js';

// `cream ranking` on a Llama of 30,816 random parameters and one that was trained from it.

const cwd = t.testdir();
const rows = [
  { id: 1, subset: 'hep-go', prompt: 'abc', chosen: 'de', rejected: 'fgh' },
  { id: 1, subset: 'mine', prompt: 'abc', chosen: 'same', rejected: 'same' },
  { id: 'g', subset: 'mine', question: 'What?', responses: ['x', 'yy', 'zzz'], correct: [true, false, true] },
  { id: 'h', prompt: 'all right', responses: ['x', 'y'], correct: [true, true] },
];
const text = (some: readonly object[]) => some.map((row) => `${JSON.stringify(row)}\n`).join('');

interface Result {
  accuracy: number;
  pairs: number;
  ties: number;
  withoutPairs: number;
  subsets: Record<string, { accuracy: number; pairs: number }>;
  rewardBench: { score: number | null; sections: { name: string }[] };
}

t.before(async () => {
  await writeLlama(join(cwd, 'model'));
  await trainOther(cwd);
  await writeFile(join(cwd, 'labelled.jsonl'), text(rows));
});

const ranking = (...rest: string[]) => cream(['ranking', '-i', 'labelled.jsonl', ...rest], { cwd });
const rewardsOf = async (name: string) =>
  jsonLines<{ id: string; rewards: number[] }>(await readFile(join(cwd, name), 'utf8'));

t.test('the implicit reward is that of cream score; equal responses tie', async (t) => {
  const { code, stdout, stderr } = await ranking(
    '-m',
    'other',
    '--reference',
    'model',
    '--json',
    '-o',
    'implicit.jsonl',
  );
  t.equal(code, 0, stderr);
  const result = JSON.parse(stdout) as Result;
  t.match(result, { name: 'labelled', reward: 'implicit', pairs: 4, ties: 1, withoutPairs: 1, tooLong: 0 });
  t.match(result.subsets, { 'hep-go': { pairs: 1 }, mine: { pairs: 3 } });
  t.match(result.rewardBench, { score: null, sections: [{ name: 'Reasoning' }] });

  const groups = rows.slice(0, 2).map(({ id, prompt, chosen, rejected }) => ({
    id: `${id}${chosen}`,
    prompt,
    responses: [chosen, rejected],
  }));
  await writeFile(join(cwd, 'groups.jsonl'), text(groups));
  const scored = await cream(
    ['score', '-m', 'other', '--base', 'model', '-i', 'groups.jsonl', '-o', 'scored.jsonl', '--append-stop'],
    { cwd },
  );
  t.equal(scored.code, 0, scored.stderr);
  const found = await rewardsOf('implicit.jsonl');
  const expected = await rewardsOf('scored.jsonl');
  t.strictSame(
    found.map(({ id }) => id),
    ['hep-go/1', 'mine/1', 'mine/g', 'h'],
  );
  for (const i of [0, 1]) close(t, found[i]!.rewards, expected[i]!.rewards, { rtol: 1e-5, atol: 1e-6 });
  t.equal(found[1]!.rewards[0], found[1]!.rewards[1]);
});

t.test('worst-of is the lower of two ratios; a model against itself ties everywhere', async (t) => {
  const lower = await ranking(
    '-m',
    'other',
    '--reference',
    'model',
    '--previous',
    'model',
    '--reward',
    'worst-of',
    '-o',
    'worst.jsonl',
  );
  t.equal(lower.code, 0, lower.stderr);
  const [implicit, worst] = [await rewardsOf('implicit.jsonl'), await rewardsOf('worst.jsonl')];
  implicit.forEach(({ rewards }, g) => {
    close(
      t,
      worst[g]!.rewards,
      rewards.map((reward) => Math.min(reward, 0)),
      { atol: 1e-9 },
    );
  });
  const self = await ranking('-m', 'model', '--reference', 'model', '--json');
  t.match(JSON.parse(self.stdout), { accuracy: 0.5, pairs: 4, ties: 4 });
});

t.test('likelihood, a function of your own, and the table', async (t) => {
  const table = await ranking('-m', 'model', '--reward', 'likelihood');
  t.equal(table.code, 0, table.stderr);
  t.match(table.stdout, /^labelled +0\.\d{4} +\[0\.\d{4}, [01]\.\d{4}\] +4 +1 +3 /m);
  t.match(table.stdout, /left out: 1 prompts with only right or only wrong responses/);
  t.match(table.stdout, /^Reasoning +[01]\.\d{4}$/m);

  await writeFile(
    join(cwd, 'longest.mjs'),
    'export default (groups) => groups.map(({ responses }) => responses.map(({ text }) => text.length));',
  );
  const own = await ranking('--reward', 'module', '--module', 'longest.mjs', '--json');
  t.equal(own.code, 0, own.stderr);
  // fgh over de: wrong; same: tie; x under yy: wrong, zzz over yy: right.
  t.match(JSON.parse(own.stdout), { accuracy: 1.5 / 4, pairs: 4, ties: 1, reward: 'module' });
});

t.test('options without effect and files without labels are refused', async (t) => {
  const cases: [string[], number, RegExp][] = [
    [[], 2, /--reward implicit needs --model/],
    [['-m', 'model'], 2, /--reward implicit needs --reference/],
    [['-m', 'model', '--reward', 'likelihood', '--reference', 'model'], 2, /--reference has no effect/],
    [['-m', 'model', '--reward', 'likelihood', '--length-normalize'], 2, /--length-normalize has no effect/],
    [['--reward', 'module', '--module', 'x.mjs', '-m', 'model'], 2, /--model has no effect/],
    [['-m', 'model', '--reward', 'worst-of', '--reference', 'model'], 2, /needs --previous/],
  ];
  for (const [line, code, message] of cases) {
    const outcome = await ranking(...line);
    t.equal(outcome.code, code, outcome.stderr);
    t.match(outcome.stderr, message);
  }
  await writeFile(join(cwd, 'bare.jsonl'), text([{ prompt: 'p', responses: ['a', 'b'] }]));
  const bare = await cream(['ranking', '-i', 'bare.jsonl', '-m', 'model', '--reward', 'likelihood'], { cwd });
  t.equal(bare.code, 4);
  t.match(bare.stderr, /bare\.jsonl:1: correct is missing/);
});

t.test('a reward model: its logits on ids of its own tokenizer', async (t) => {
  const folder = join(cwd, 'reward');
  await cp(checkpoint('reward-llama'), folder, { recursive: true });
  for (const name of ['tokenizer.json', 'tokenizer_config.json'])
    await cp(join(cwd, 'model', name), join(folder, name));
  const found = await ranking('-m', 'reward', '--reward', 'reward-model', '--json', '-o', 'logits.jsonl');
  t.equal(found.code, 0, found.stderr);
  t.match(JSON.parse(found.stdout), { reward: 'reward-model', pairs: 4, ties: 1, tooLong: 0 });

  const tokenizer = await Tokenizer.load(folder);
  await using model = await RewardModel.load(folder, { threads: 1 });
  const promptIds = await tokenizer.promptIds('abc');
  const responses = ['de', 'fgh'].map((text) => [...tokenizer.encode(text), ...tokenizer.eosIds]);
  const [expected] = await model.rewards([{ promptIds, responses }]);
  close(t, (await rewardsOf('logits.jsonl'))[0]!.rewards, expected!, { atol: 1e-5 });

  const idle = await ranking('-m', 'reward', '--reward', 'reward-model', '--reference', 'model');
  t.equal(idle.code, 2);
  t.match(idle.stderr, /--reference has no effect with --reward reward-model/);
  const adapted = await ranking('-m', 'reward', '--reward', 'reward-model', '--adapter', 'none');
  t.equal(adapted.code, 2);
  t.match(adapted.stderr, /--adapter has no effect with --reward reward-model/);
});
