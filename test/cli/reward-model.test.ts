import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { Tokenizer } from '../../lib/data/tokenizer.js';
import { RewardModel } from '../../lib/native/reward-model.js';
import { close } from '../helpers/close.js';
import { cream, jsonLines, writeLlama } from '../helpers/cream.js';
import { checkpoint, type GoldenArray, readGolden, toFloats } from '../helpers/golden.js';

// `cream score --reward-model`: rewards of transformers (test/golden/reward_models.py) in the rows of a policy.

interface Golden {
  groups: { promptIds: number[]; responses: number[][] }[];
  models: Record<'llama', { rewards: GoldenArray[] }>;
}
interface Scored {
  id: string;
  logprobs: number[];
  pairRewards: (number | null)[];
}
const golden = readGolden<Golden>('reward-models');
const cwd = t.testdir();
const write = (name: string, rows: readonly object[]) =>
  writeFile(join(cwd, name), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));

t.before(async () => {
  await writeLlama(join(cwd, 'model'));
  await cp(checkpoint('reward-llama'), join(cwd, 'reward'), { recursive: true });
  for (const name of ['tokenizer.json', 'tokenizer_config.json'])
    await cp(join(cwd, 'model', name), join(cwd, 'reward', name));
  // The same ids under another template: another tokenizer, so that texts are encoded anew.
  await cp(join(cwd, 'reward'), join(cwd, 'templated'), { recursive: true });
  const settings = join(cwd, 'templated', 'tokenizer_config.json');
  const config = JSON.parse(await readFile(settings, 'utf8')) as Record<string, unknown>;
  config['chat_template'] =
    "{{ bos_token }}{% for message in messages %}[{{ message['content'] }}]{% endfor %}{% if add_generation_prompt %}>{% endif %}";
  await writeFile(settings, JSON.stringify(config));
});

const score = (...rest: string[]) =>
  cream(['score', '-m', 'model', '--threads', '1', '-q', ...rest], { cwd });

t.test("score --reward-model adds transformers' rewards to every row", async (t) => {
  await write(
    'groups.jsonl',
    golden.groups.map(({ promptIds, responses }, i) => ({ id: `g${i}`, promptIds, responses })),
  );
  const { code, stdout, stderr } = await score('--reward-model', 'reward', '-i', 'groups.jsonl');
  t.equal(code, 0, stderr);
  const rows = jsonLines<Scored>(stdout);
  t.equal(rows.length, golden.groups.length);
  golden.models.llama.rewards.forEach((expected, g) => {
    const found = Float32Array.from(rows[g]!.pairRewards, (value) => value ?? Number.NaN);
    close(t, found, toFloats(expected), { rtol: 1e-5, atol: 1e-5 }, `g${g}`);
    t.equal(rows[g]!.logprobs.length, golden.groups[g]!.responses.length, "the policy's log-probs stay");
  });
});

t.test('a reward model with a tokenizer of its own gets the texts, in its own template', async (t) => {
  await write('texts.jsonl', [{ id: 'a', prompt: 'abc', responses: ['de', 'fgh'] }]);
  const tokenizer = await Tokenizer.load(join(cwd, 'templated'));
  await using model = await RewardModel.load(join(cwd, 'templated'), { threads: 1 });
  const expected = async (prompt: string, stop: boolean) => {
    const responses = ['de', 'fgh'].map((text) => [
      ...tokenizer.encode(text),
      ...(stop ? tokenizer.eosIds : []),
    ]);
    const promptIds = await tokenizer.promptIds(prompt);
    return (await model.rewards([{ promptIds, responses }]))[0]!;
  };
  const line = ['--reward-model', 'templated', '-i', 'texts.jsonl'];
  const [open, stopped] = await Promise.all([score(...line), score(...line, '--append-stop')]);
  for (const [outcome, rewards] of [
    [open, await expected('abc', false)],
    [stopped, await expected('abc', true)],
  ] as const) {
    t.equal(outcome.code, 0, outcome.stderr);
    close(t, jsonLines<Scored>(outcome.stdout)[0]!.pairRewards as number[], rewards, { atol: 1e-5 });
  }
  const chat = await score(...line, '--chat');
  t.equal(chat.code, 0, chat.stderr);
  t.notSame(jsonLines<Scored>(chat.stdout)[0]!.pairRewards, jsonLines<Scored>(open.stdout)[0]!.pairRewards);
  await write('ids.jsonl', [{ id: 'x', promptIds: [1, 9], responses: [[7, 6]] }]);
  const ids = await score('--reward-model', 'templated', '-i', 'ids.jsonl');
  t.equal(ids.code, 4);
  t.match(ids.stderr, 'prompt x has promptIds only, and the reward model has another tokenizer');
});

t.test("a response longer than the reward model's context has no reward, and that is said", async (t) => {
  await write('long.jsonl', [{ id: 'a', promptIds: [1], responses: [[7, 6], Array(20).fill(7)] }]);
  const short = join(cwd, 'short');
  await cp(join(cwd, 'reward'), short, { recursive: true });
  const config = JSON.parse(await readFile(join(short, 'config.json'), 'utf8')) as Record<string, unknown>;
  await writeFile(join(short, 'config.json'), JSON.stringify({ ...config, max_position_embeddings: 16 }));
  const { code, stdout, stderr } = await score('--reward-model', 'short', '-i', 'long.jsonl');
  t.equal(code, 0, stderr);
  const [{ pairRewards }] = jsonLines<Scored>(stdout) as [Scored];
  t.type(pairRewards[0], 'number');
  t.equal(pairRewards[1], null);
  t.match(stderr, /warning: 1 responses .*reward model's context of 16 tokens/);
});
