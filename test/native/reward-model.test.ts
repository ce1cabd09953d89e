import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Model } from '../../lib/native/model.js';
import { RewardModel } from '../../lib/native/reward-model.js';
import { close } from '../helpers/close.js';
import { checkpoint, type GoldenArray, readGolden, toFloats } from '../helpers/golden.js';
import { readSafetensors, writeSafetensors } from '../helpers/safetensors.js';

// Rewards of tiny sequence classifiers beside those of transformers (test/golden/reward_models.py).

const NAMES = ['llama', 'mistral', 'qwen2', 'qwen3'] as const;
interface Golden {
  groups: { promptIds: number[]; responses: number[][] }[];
  models: Record<
    (typeof NAMES)[number],
    { rewards: GoldenArray[]; bfloat16: { rewards: GoldenArray[]; exact: GoldenArray[] } }
  >;
}
const golden = readGolden<Golden>('reward-models');

for (const name of NAMES) {
  const folder = checkpoint(`reward-${name}`);

  t.test(`${name}: rewards of a group are the logits of transformers, sequence by sequence`, async (t) => {
    await using model = await RewardModel.load(folder, { device: 'cpu' });
    t.equal(model.dtype, 'float32');
    // All at once, and in passes of a few tokens that cut groups between responses.
    for (const maxTokensPerBatch of [0, 24, 1]) {
      const rewards = await model.rewards(golden.groups, { maxTokensPerBatch });
      golden.models[name].rewards.forEach((expected, g) => {
        close(t, Float32Array.from(rewards[g]!), toFloats(expected), { rtol: 1e-5, atol: 1e-5 });
      });
    }
  });

  t.test(`${name}: bfloat16 is as near to the exact logits as transformers in bfloat16`, async (t) => {
    await using model = await RewardModel.load(folder, { device: 'cpu', dtype: 'bfloat16' });
    const rewards = (await model.rewards(golden.groups)).flat();
    const { exact, rewards: theirs } = golden.models[name].bfloat16;
    const flat = (arrays: readonly GoldenArray[]) => arrays.flatMap((array) => [...toFloats(array)]);
    const worst = (values: readonly number[]) =>
      Math.max(...flat(exact).map((value, i) => Math.abs(value - values[i]!)));
    // Rounding of activations to 8 bits through two layers; the logits are about 1 to 4.
    t.ok(
      worst(rewards) <= Math.max(0.05, 1.5 * worst(flat(theirs))),
      `${worst(rewards)}, transformers ${worst(flat(theirs))}`,
    );
  });
}

t.test('a reward depends on nothing behind the last token that is not padding', async (t) => {
  await using model = await RewardModel.load(checkpoint('reward-llama'), { device: 'cpu' });
  t.equal(model.config.padTokenId, 0);
  const promptIds = [1, 9, 8];
  const [[plain, padded, empty, onlyPadding]] = (await model.rewards([
    { promptIds, responses: [[7, 6], [7, 6, 0, 0], [], [0]] },
  ])) as [[number, number, number, number]];
  t.equal(padded, plain);
  t.equal(onlyPadding, empty, "the prompt's own last token");
  const [[alone]] = (await model.rewards([{ promptIds: [1], responses: [[9, 8]] }])) as [[number]];
  t.ok(Math.abs(empty - alone) < 1e-5);
  t.strictSame(await model.rewards([]), []);
  t.strictSame(await model.rewards([{ promptIds, responses: [] }]), [[]]);
});

t.test('what cannot be a reward is refused with what to do', async (t) => {
  await t.rejects(RewardModel.load(checkpoint('llama')), {
    code: 'INVALID_CHECKPOINT',
    message: /LlamaForSequenceClassification.*it is a language model/,
  });
  await t.rejects(Model.load(checkpoint('reward-llama')), {
    code: 'INVALID_CHECKPOINT',
    message: /give it as reward\.model/,
  });

  const folder = t.testdir();
  const copy = (name: string, change: (config: Record<string, unknown>) => void) => {
    const to = join(folder, name);
    cpSync(checkpoint('reward-llama'), to, { recursive: true });
    const config = JSON.parse(readFileSync(join(to, 'config.json'), 'utf8')) as Record<string, unknown>;
    change(config);
    writeFileSync(join(to, 'config.json'), JSON.stringify(config));
    return to;
  };
  await t.rejects(RewardModel.load(copy('two', (config) => (config['num_labels'] = 2))), {
    code: 'INVALID_CHECKPOINT',
    message: /num_labels/,
  });
  await t.rejects(RewardModel.load(copy('none', (config) => delete config['architectures'])), {
    code: 'INVALID_CHECKPOINT',
    message: /architectures must be/,
  });

  // The head itself decides: two rows are two labels.
  const two = copy('head', () => undefined);
  const tensors = readSafetensors(join(two, 'model.safetensors'));
  const { shape, data } = tensors.get('score.weight')!;
  tensors.set('score.weight', { shape: [2, shape[1]!], data: Float32Array.of(...data, ...data) });
  writeSafetensors(join(two, 'model.safetensors'), tensors);
  await t.rejects(RewardModel.load(two), {
    code: 'INVALID_CHECKPOINT',
    message: /score\.weight has 2 labels; a reward is one number/,
  });
});

t.test(
  'sequences past the context and ids past the vocabulary are refused; work can be cancelled',
  async (t) => {
    await using model = await RewardModel.load(checkpoint('reward-qwen3'), { device: 'cpu' });
    const long = new Array<number>(model.config.maxPositionEmbeddings).fill(5);
    await t.rejects(model.rewards([{ promptIds: [1], responses: [long] }]), {
      code: 'INVALID_ARGUMENT',
      message: /rewards: group 0.*positions/,
    });
    await t.rejects(model.rewards([{ promptIds: [1], responses: [[131]] }]), { code: 'INVALID_ARGUMENT' });
    await t.rejects(model.rewards([{ promptIds: [1], responses: [[5]] }], { signal: AbortSignal.abort() }), {
      code: 'ABORTED',
    });
    model.dispose();
    await t.rejects(model.rewards([{ promptIds: [1], responses: [[5]] }]), /disposed/);
  },
);
