import type { NativeModel } from '../../lib/native/binding.js';
import { GPU, t } from '../helpers/gpu.js';
import { binding, EVERYTHING, randomIds } from '../helpers/tiny-model.js';

// Weights that leave the device and come back: on `emulated` the host's memory stands for both, and all views of the
// weights lose and regain their memory as on a GPU.

const token = binding.cancelToken();
const load = (device: string) =>
  binding.randomModel({ config: EVERYTHING, seed: 7n, dtype: 'bfloat16', device });
const GROUPS = [{ promptIds: randomIds(5, 1), responses: [randomIds(4, 2), randomIds(7, 3)] }];
const score = async (model: NativeModel) => {
  const { logprobs } = await model.score(GROUPS, { maxTokensPerBatch: 64, perToken: false }, token);
  return logprobs.map((group) => [...group]);
};
const LORA = { rank: 2, alpha: 4, dropout: 0, rankStabilized: false, targetModules: ['q_proj' as const] };
const OPTIMIZER = { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0, maxGradNorm: 1, seed: 0n };
const trainOnce = async (model: NativeModel) => {
  const trainer = await model.createTrainer(OPTIMIZER);
  const { promptIds, responses } = GROUPS[0]!;
  await trainer.sftStep([{ promptIds, responseIds: responses[0]! }], 0.1, 64, token);
  trainer.dispose();
};

t.test('a model that was away is the same, and so are adapters over it', async (t) => {
  const model = await load(GPU);
  const adapter = await model.addAdapter(LORA, 1n);
  const [before, under] = [await score(model), await score(adapter)];
  t.ok((await model.offload()) > 0, 'seconds');
  t.equal(await model.offload(), 0, 'it is away already');

  for (const handle of [model, adapter]) {
    await t.rejects(score(handle), { code: 'INVALID_ARGUMENT', message: /host memory; call onload\(\)/ });
  }
  await t.rejects(model.clone(), /clone: the model's weights are in host memory/);
  await t.rejects(model.save(t.testdir(), 1e9), /save: the model's weights are in host memory/);
  await t.rejects(model.createTrainer(OPTIMIZER), /createTrainer: the model's weights are in host memory/);

  t.ok((await model.onload()) > 0);
  t.equal(await model.onload(), 0);
  t.strictSame(await score(model), before);
  t.strictSame(await score(adapter), under);
});

t.test('a model in training stays', async (t) => {
  const model = await load(GPU);
  const trainer = await model.createTrainer(OPTIMIZER);
  await t.rejects(model.offload(), /offload: the model is in training/);
  trainer.dispose();
  t.ok((await model.offload()) > 0);
});

t.test('on the CPU nothing moves', async (t) => {
  const model = await load('cpu');
  const before = await score(model);
  t.equal(await model.offload(), 0);
  t.strictSame(await score(model), before);
  t.equal(await model.onload(), 0);
});

t.test('a model that is away can be disposed of', async (t) => {
  const model = await load(GPU);
  await model.offload();
  model.dispose();
  await t.rejects(model.onload(), /disposed/);
});

t.test('a copy on the host is the model as it was, whatever becomes of the model', async (t) => {
  const model = await load(GPU);
  const before = await score(model);
  const onHost = await model.snapshot(true);
  const onDevice = await model.snapshot(false);
  await t.rejects(score(onHost), /host memory; call onload\(\)/);
  await trainOnce(model);
  t.notSame(await score(model), before, 'it was trained');
  t.ok((await onHost.onload()) > 0);
  t.strictSame(await score(onHost), before);
  t.strictSame(await score(onDevice), before);
  await onHost.offload();
  await onHost.onload();
  t.strictSame(await score(onHost), before);
});

t.test('weights that were trained after their return are copied to the host anew', async (t) => {
  const model = await load(GPU);
  await model.offload();
  await model.onload();
  await trainOnce(model);
  const trained = await score(model);
  await model.offload();
  await model.onload();
  t.strictSame(await score(model), trained);
});

t.test('a copy of an adapter stays as it was, over the same base', async (t) => {
  const model = await load(GPU);
  const adapter = await model.addAdapter(LORA, 1n);
  const kept = await adapter.snapshot(true);
  const before = await score(adapter);
  await trainOnce(adapter);
  t.notSame(await score(adapter), before);
  t.strictSame(await score(kept), before);
});
