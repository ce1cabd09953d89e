import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { mergeCheckpoint } from '../../lib/native/merge.js';
import { Model } from '../../lib/native/model.js';
import { adapterOf, writeAdapter } from '../helpers/adapter.js';
import { close } from '../helpers/close.js';
import { checkpoint, type GoldenArray, readGolden, toFloats } from '../helpers/golden.js';
import { DEVICE, ROUNDING } from '../helpers/native-model.js';

// Forms of adapter_config.json against PEFT: what they compute, and what they merge to (test/golden/adapters.py).

type Json = Record<string, unknown>;

interface Golden {
  promptIds: number[];
  responseIds: number[];
  defaults: Json;
  forms: { name: string; config: Json; shapes: Record<string, number[]>; tokenLogprobs: GoldenArray }[];
  merges: {
    checkpoint: string;
    config: Json;
    shapes: Record<string, number[]>;
    sha256: Record<string, string>;
    differsFromSafeMerge: number;
  }[];
}

const golden = readGolden<Golden>('adapters');
const groups = [{ promptIds: golden.promptIds, responses: [golden.responseIds] }];

t.test('every form of PEFT that leaves the base alone is computed as PEFT computes it', async (t) => {
  const root = t.testdir({});
  await using base = await Model.load(checkpoint('llama-tied'), { device: DEVICE });
  t.ok(golden.forms.length >= 30);
  for (const [i, { name, config, shapes, tokenLogprobs }] of golden.forms.entries()) {
    const folder = join(root, String(i));
    writeAdapter(folder, { ...golden.defaults, ...config }, shapes);
    await using model = await base.loadAdapter(folder);
    const [scored] = await model.score(groups, { perToken: true });
    const tolerance = { atol: ROUNDING, rtol: ROUNDING };
    close(t, scored!.tokenLogprobs![0]!, toFloats(tokenLogprobs), tolerance, name);

    const again = join(root, `${i}-saved`);
    await model.save(again);
    const settings = async (directory: string) => (await adapterOf(directory, base.config.numLayers)).options;
    t.strictSame(await settings(again), await settings(folder), `${name}: saved`);
    await using loaded = await base.loadAdapter(again);
    t.strictSame(await loaded.score(groups), await model.score(groups), `${name}: saved and loaded`);
  }
});

t.test(
  'matrices with ranks of their own are trained as they are: the factors of no other module appear',
  async (t) => {
    const root = t.testdir({});
    await using base = await Model.load(checkpoint('llama-tied'), { device: DEVICE });
    const { config, shapes } = golden.forms.find(({ name }) => name.startsWith('ranks and alphas'))!;
    writeAdapter(join(root, 'adapter'), { ...golden.defaults, ...config }, shapes);
    await using model = await base.loadAdapter(join(root, 'adapter'));
    const before = await model.score(groups);
    const trainer = await model.createTrainer();
    const examples = [{ promptIds: golden.promptIds, responseIds: golden.responseIds }];
    const losses: number[] = [];
    for (let step = 0; step < 5; step++)
      losses.push((await trainer.sftStep(examples, { learningRate: 0.01, maxTokensPerBatch: 1000 })).loss);
    trainer.dispose();
    t.ok(losses[4]! < losses[0]! - 0.1, `the loss falls: ${losses.map((loss) => loss.toFixed(3)).join(' ')}`);
    t.notSame(await model.score(groups), before);
    await model.save(join(root, 'trained'));
    await using again = await base.loadAdapter(join(root, 'trained'));
    t.strictSame(await again.score(groups), await model.score(groups));
    t.strictSame(again.adapter, model.adapter);
  },
);

t.test('an adapter over chosen modules, made here, is written so that it is read as it was', async (t) => {
  const root = t.testdir({});
  await using base = await Model.load(checkpoint('llama-tied'), { device: DEVICE });
  const modules = [
    { layer: 0, module: 'q_proj', rank: 4, alpha: 8 },
    { layer: 1, module: 'k_proj', rank: 2, alpha: 8 },
    { layer: 2, module: 'down_proj', rank: 4, alpha: 3 },
  ] as const;
  const options = { rank: 4, alpha: 8, dropout: 0, rankStabilized: true, targetModules: [] };
  await using model = await base.addAdapter({ ...options, modules });
  t.strictSame(await model.score(groups), await base.score(groups), 'B is zero');
  await model.save(join(root, 'made'));
  await using again = await base.loadAdapter(join(root, 'made'));
  t.strictSame(again.adapter?.modules, modules);
  await t.rejects(base.addAdapter({ ...options, modules: [{ ...modules[0], layer: 3 }] }), {
    code: 'INVALID_ARGUMENT',
    message: /layer/,
  });
  await t.rejects(base.addAdapter({ ...options, modules: [] }), { message: /at least one target module/ });
});

/** The bytes of every tensor of a folder, and the dtypes. */
function tensorsOf(directory: string): Map<string, { dtype: string; bytes: Buffer }> {
  const tensors = new Map<string, { dtype: string; bytes: Buffer }>();
  for (const name of readdirSync(directory).filter((name) => name.endsWith('.safetensors'))) {
    const file = readFileSync(join(directory, name));
    const begin = 8 + Number(file.readBigUInt64LE(0));
    const header = JSON.parse(file.subarray(8, begin).toString()) as Json;
    for (const [tensor, entry] of Object.entries(header)) {
      if (tensor === '__metadata__') continue;
      const { dtype, data_offsets: offsets } = entry as { dtype: string; data_offsets: [number, number] };
      tensors.set(tensor, { dtype, bytes: file.subarray(begin + offsets[0], begin + offsets[1]) });
    }
  }
  return tensors;
}
const NAMES: Record<string, string> = { F32: 'float32', BF16: 'bfloat16', F16: 'float16' };

for (const { checkpoint: name, config, shapes, sha256, differsFromSafeMerge } of golden.merges) {
  t.test(`${name}: merged from file to file with PEFT's bits, in the dtype of the files`, async (t) => {
    const root = t.testdir({});
    writeAdapter(join(root, 'adapter'), config, shapes);
    const output = join(root, 'merged');
    const merged = await mergeCheckpoint(checkpoint(name), join(root, 'adapter'), output);
    const tensors = tensorsOf(output);
    t.strictSame([...tensors.keys()].sort(), Object.keys(sha256).sort());
    const original = tensorsOf(checkpoint(name));
    for (const [tensor, { dtype, bytes }] of tensors) {
      t.equal(dtype, original.get(tensor)!.dtype, `${tensor}: dtype`);
      t.equal(createHash('sha256').update(bytes).digest('hex'), sha256[tensor], tensor);
    }
    t.equal(merged.dtype, NAMES[tensors.get('model.embed_tokens.weight')!.dtype]);
    const text = (directory: string) => readFileSync(join(directory, 'config.json'), 'utf8');
    t.equal(text(output), text(checkpoint(name)), 'config.json as it is');
    if (name === 'llama' || name === 'llama-sharded') t.equal(differsFromSafeMerge, 0);
    else t.ok(differsFromSafeMerge > 0, 'safe_merge of PEFT rounds twice');

    await using model = await Model.load(output, { dtype: 'float32', device: DEVICE });
    t.ok(Number.isFinite((await model.score(groups))[0]!.logprobs[0]));
  });
}

t.test('a merge to another dtype rounds once too, and shards', async (t) => {
  const root = t.testdir({});
  const { config, shapes } = golden.merges[0]!;
  writeAdapter(join(root, 'adapter'), config, shapes);
  const merge = (name: string, output: string, options: object) =>
    mergeCheckpoint(checkpoint(name), join(root, 'adapter'), join(root, output), options);
  await merge('llama-float16', 'float32', { dtype: 'float32', maxShardBytes: 20_000 });
  t.ok(readdirSync(join(root, 'float32')).includes('model.safetensors.index.json'));
  t.equal(
    (JSON.parse(readFileSync(join(root, 'float32', 'config.json'), 'utf8')) as Json)['dtype'],
    'float32',
  );
  await merge('llama-float16', 'bfloat16', { dtype: 'bfloat16' });
  await using exact = await Model.load(join(root, 'float32'), { dtype: 'bfloat16', device: DEVICE });
  await using rounded = await Model.load(join(root, 'bfloat16'), { device: DEVICE });
  t.equal(rounded.dtype, 'bfloat16');
  t.strictSame(await rounded.score(groups), await exact.score(groups));
  await t.rejects(merge('llama', 'bfloat16', {}), { code: 'IO', message: /is there and not empty/ });
});

t.test('a sum that the dtype does not hold is refused', async (t) => {
  const root = t.testdir({});
  const { config, shapes } = golden.merges[0]!;
  writeAdapter(join(root, 'adapter'), { ...config, lora_alpha: 1e9 }, shapes);
  const output = join(root, 'merged');
  await t.rejects(mergeCheckpoint(checkpoint('llama-float16'), join(root, 'adapter'), output), {
    code: 'INVALID_CHECKPOINT',
    message: /with the adapter added does not fit F16; write bfloat16 or float32/,
  });
  t.notOk(readdirSync(root).includes('merged'));
});
