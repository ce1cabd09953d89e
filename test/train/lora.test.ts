import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { LoraOptions } from '../../lib/data/adapter.js';
import { Model } from '../../lib/native/model.js';
import type { NativeModel, NativeTensor } from '../../lib/native/binding.js';
import { adapterOf } from '../helpers/adapter.js';
import { close, closeInNorm } from '../helpers/close.js';
import {
  checkpoint,
  type GoldenArray,
  type GoldenExample,
  type GoldenGradients,
  type GoldenPair,
  readGolden,
  toFloats,
} from '../helpers/golden.js';
import { DEVICE, nativeModel, neverCancelled, ROUNDING } from '../helpers/native-model.js';

// Adapters against PEFT and PyTorch, in float32 (test/golden/lora.py). Tolerances as in golden.test.ts.

const RELATIVE = ROUNDING;
const OPTIMIZER = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.1, maxGradNorm: 1, seed: 7n };
const TOKEN_BUDGETS = [10_000, 40, 20];

interface Case {
  checkpoint: string;
  examples: GoldenExample[];
  tokenLogprobs: GoldenArray[];
  sft: { loss: number; gradients: GoldenGradients };
  pairs: (GoldenPair & { consistency: number })[];
  preference: { beta: number; loss: number; gradients: GoldenGradients };
  steps: { learningRate: number; losses: number[]; gradNorms: number[]; final: Record<string, GoldenArray> };
  merged: Record<string, GoldenArray>;
}

const { cases } = readGolden<{ cases: Record<string, Case> }>('lora');
const LAYERS: Record<string, number> = { all: 2, some: 3 };
const adapterFolder = (name: string) => join(checkpoint('.'), '..', 'adapters', name);
const ids = (values: readonly number[]) => Int32Array.from(values);

const examplesOf = (golden: Case) =>
  golden.examples.map(({ promptIds, responseIds }) => ({
    promptIds: ids(promptIds),
    responseIds: ids(responseIds),
  }));
const pairsOf = (golden: Case) =>
  golden.pairs.map((pair) => ({
    promptIds: ids(pair.promptIds),
    chosenIds: ids(pair.chosenIds),
    rejectedIds: ids(pair.rejectedIds),
    consistency: pair.consistency,
    referenceChosen: pair.referenceChosen,
    referenceRejected: pair.referenceRejected,
  }));

async function withAdapter(name: string, use: (model: NativeModel, base: NativeModel) => Promise<void>) {
  const base = await nativeModel(cases[name]!.checkpoint);
  const { options, file } = await adapterOf(adapterFolder(name), LAYERS[name]!);
  const model = await base.loadAdapter(options, file);
  try {
    await use(model, base);
  } finally {
    model.dispose();
    base.dispose();
  }
}

function checkGradients(t: Test, actual: NativeTensor[], { norms, arrays }: GoldenGradients, what: string) {
  const byName = new Map(actual.map(({ name, data }) => [name, data]));
  t.strictSame([...byName.keys()].sort(), Object.keys(norms).sort(), `${what}: the adapter, nothing else`);
  const largest = Math.max(...Object.values(norms));
  for (const [name, expected] of Object.entries(norms)) {
    close(
      t,
      [Math.hypot(...byName.get(name)!)],
      [expected],
      { rtol: RELATIVE, atol: 0.1 * RELATIVE * largest },
      `${what}: ${name}`,
    );
  }
  for (const [name, array] of Object.entries(arrays)) {
    closeInNorm(t, byName.get(name)!, toFloats(array), RELATIVE, `${what}: ${name}`);
  }
}

for (const [name, golden] of Object.entries(cases)) {
  t.test(`${name}: log-probs with the adapter equal PEFT's, without it the base's`, async (t) => {
    await withAdapter(name, async (model, base) => {
      const groups = examplesOf(golden).map(({ promptIds, responseIds }) => ({
        promptIds,
        responses: [responseIds],
      }));
      const score = async (of: NativeModel) =>
        (await of.score(groups, { maxTokensPerBatch: 0, perToken: true }, neverCancelled())).tokenLogprobs!;
      const before = await score(base);
      const scores = await score(model);
      golden.tokenLogprobs.forEach((array, i) => {
        close(t, scores[i]![0]!, toFloats(array), { atol: RELATIVE, rtol: RELATIVE }, `example ${i}`);
        t.notSame(scores[i]![0], before[i]![0], 'the adapter matters');
      });
      t.strictSame(await score(base), before, 'the base is as it was');
    });
  });

  t.test(`${name}: losses and gradients equal autograd's, however the batch is split`, async (t) => {
    await withAdapter(name, async (model) => {
      const trainer = await model.createTrainer(OPTIMIZER);
      const options = { loss: 'sigmoid', beta: golden.preference.beta, sftCoefficient: 0 } as const;
      for (const budget of TOKEN_BUDGETS) {
        checkGradients(
          t,
          await trainer._sftGradients(examplesOf(golden), budget),
          golden.sft.gradients,
          `sft, ${budget}`,
        );
        const preference = await trainer._preferenceGradients(pairsOf(golden), options, budget);
        checkGradients(t, preference, golden.preference.gradients, `preference, ${budget}`);
        const sft = await trainer.sftStep(examplesOf(golden), 0, budget, neverCancelled());
        close(t, [sft.loss], [golden.sft.loss], { rtol: RELATIVE }, 'sft loss');
        const step = await trainer.preferenceStep(pairsOf(golden), options, 0, budget, neverCancelled());
        close(t, [step.loss], [golden.preference.loss], { rtol: RELATIVE }, 'preference loss');
      }
      trainer.dispose();
    });
  });

  t.test(`${name}: five steps of AdamW end where PyTorch's end; the base is frozen`, async (t) => {
    await withAdapter(name, async (model, base) => {
      const before = await base._tensors();
      const trainer = await model.createTrainer(OPTIMIZER);
      const { learningRate, losses, gradNorms, final } = golden.steps;
      const options = { loss: 'sigmoid', beta: golden.preference.beta, sftCoefficient: 0 } as const;
      for (const [i, loss] of losses.entries()) {
        const step = await trainer.preferenceStep(
          pairsOf(golden),
          options,
          learningRate,
          40,
          neverCancelled(),
        );
        close(t, [step.loss], [loss], { rtol: 2 * RELATIVE }, `loss ${i}`);
        close(t, [step.gradNorm], [gradNorms[i]!], { rtol: 2 * RELATIVE }, `gradient norm ${i}`);
        t.ok(step.weightsMoved > 0.99 && step.weightsMoved <= 1, 'of the adapter');
      }
      trainer.dispose();
      const folder = mkdtempSync(join(tmpdir(), 'cream-lora-'));
      await model.saveAdapter(folder);
      const { options: settings } = await adapterOf(adapterFolder(name), LAYERS[name]!);
      const again = await base.loadAdapter(settings, join(folder, 'adapter_model.safetensors'));
      const finished = await again.createTrainer(OPTIMIZER);
      finished.dispose();
      const header = readSafetensors(join(folder, 'adapter_model.safetensors'));
      t.strictSame([...header.keys()].sort(), Object.keys(final).sort(), "PEFT's names");
      for (const [tensor, expected] of Object.entries(final)) {
        closeInNorm(t, header.get(tensor)!, toFloats(expected), 5 * RELATIVE, tensor);
      }
      again.dispose();
      rmSync(folder, { recursive: true, force: true });
      t.strictSame(await base._tensors(), before, 'no weight of the base changed');
    });
  });

  t.test(`${name}: merged weights equal PEFT's merge_and_unload`, async (t) => {
    await withAdapter(name, async (model) => {
      const merged = await model.mergeAdapter();
      const byName = new Map((await merged._tensors()).map((tensor) => [tensor.name, tensor.data]));
      for (const [tensor, expected] of Object.entries(golden.merged)) {
        closeInNorm(t, byName.get(tensor)!, toFloats(expected), 1e-6, tensor);
      }
      merged.dispose();
    });
  });
}

/** All tensors of a float32 safetensors file. */
function readSafetensors(path: string): Map<string, Float32Array> {
  const bytes = readFileSync(path);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString()) as Record<
    string,
    { dtype: string; data_offsets: [number, number] }
  >;
  const tensors = new Map<string, Float32Array>();
  for (const [name, { dtype, data_offsets: offsets }] of Object.entries(header)) {
    if (dtype !== 'F32') continue;
    const data = bytes.subarray(8 + length + offsets[0], 8 + length + offsets[1]);
    tensors.set(
      name,
      Float32Array.from({ length: data.length / 4 }, (_, i) => data.readFloatLE(4 * i)),
    );
  }
  return tensors;
}

const LORA: LoraOptions = {
  rank: 4,
  alpha: 8,
  dropout: 0,
  rankStabilized: false,
  targetModules: ['q_proj', 'v_proj', 'down_proj'],
};

t.test('a new adapter changes nothing: B is zero, A is not', async (t) => {
  for (const dtype of ['float32', 'bfloat16'] as const) {
    await using base = await Model.load(checkpoint('llama'), { dtype, device: DEVICE });
    await using model = await base.addAdapter(LORA, { seed: 3 });
    const groups = [{ promptIds: [1, 2, 3], responses: [[4, 5], [6]] }];
    t.strictSame(await model.score(groups), await base.score(groups), `${dtype}: bit by bit`);
    const folder = mkdtempSync(join(tmpdir(), 'cream-lora-'));
    await model.save(join(folder, 'adapter'));
    t.ok(readdirSync(join(folder, 'adapter')).includes('adapter_config.json'));
    const tensors = readSafetensors(join(folder, 'adapter', 'adapter_model.safetensors'));
    for (const [name, values] of tensors) {
      const largest = Math.max(...values.map(Math.abs));
      if (name.includes('lora_B')) t.equal(largest, 0, name);
      else t.ok(largest > 0.1 / Math.sqrt(values.length / 4) && largest <= 1, name);
    }
    await using again = await base.loadAdapter(join(folder, 'adapter'));
    t.strictSame(again.adapter, LORA);
    rmSync(folder, { recursive: true, force: true });
  }
});

t.test('generation computes what scoring computes, adapter included', async (t) => {
  await using base = await Model.load(checkpoint('qwen3'), { device: DEVICE });
  await using model = await base.loadAdapter(adapterFolder('all'));
  const prompts = [
    { id: 'a', ids: [1, 2, 3, 4] },
    { id: 'b', ids: [5, 6] },
  ];
  for await (const response of model.generate({ prompts, n: 3, maxNewTokens: 9, seed: 5 })) {
    const promptIds = prompts[response.promptIndex]!.ids;
    const [scored] = await model.score([{ promptIds, responses: [response.ids] }], { perToken: true });
    close(
      t,
      response.logprobs,
      scored!.tokenLogprobs![0]!,
      { atol: 2 * RELATIVE },
      `prompt ${response.promptId}`,
    );
  }
});

t.test('dropout: another mask with every seed and step, the same for any split', async (t) => {
  const { options, file } = await adapterOf(adapterFolder('some'), 3);
  const tied = await nativeModel('llama-tied');
  const model = await tied.loadAdapter({ ...options, dropout: 0.5 }, file);
  const golden = cases['some']!;
  const trainer = await model.createTrainer(OPTIMIZER);
  const whole = await trainer._sftGradients(examplesOf(golden), 10_000);
  const plain = golden.sft.gradients.norms;
  for (const budget of [40, 20]) {
    for (const [i, { name, data }] of (await trainer._sftGradients(examplesOf(golden), budget)).entries()) {
      closeInNorm(t, data, whole[i]!.data, RELATIVE, `${budget}: ${name}`);
    }
  }
  const [first] = whole;
  t.not(Math.hypot(...first!.data).toFixed(4), plain[first!.name]!.toFixed(4), 'dropout does something');
  const other = await tied.loadAdapter({ ...options, dropout: 0.5 }, file);
  const seeded = await other.createTrainer({ ...OPTIMIZER, seed: 8n });
  t.notSame((await seeded._sftGradients(examplesOf(golden), 10_000))[0]!.data, first!.data, 'another seed');
  await trainer.sftStep(examplesOf(golden), 0, 10_000, neverCancelled());
  t.notSame((await trainer._sftGradients(examplesOf(golden), 10_000))[0]!.data, first!.data, 'another step');
  for (const trained of [trainer, seeded]) trained.dispose();
  for (const handle of [tied, model, other]) handle.dispose();
});

t.test('training state: continued bit by bit; another adapter is refused', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'cream-lora-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const state = join(folder, 'state.safetensors');
  const golden = cases['some']!;
  const { options, file } = await adapterOf(adapterFolder('some'), 3);
  const base = await nativeModel('llama-tied');
  const start = async (changes: Partial<LoraOptions> = {}) => {
    const model = await base.loadAdapter({ ...options, dropout: 0.25, ...changes }, file);
    return { model, trainer: await model.createTrainer(OPTIMIZER) };
  };
  const step = (of: Awaited<ReturnType<typeof start>>) =>
    of.trainer.sftStep(examplesOf(golden), 0.01, 40, neverCancelled());
  const straight = await start();
  await step(straight);
  await straight.trainer.saveState(state);
  await step(straight);
  const resumed = await start();
  await resumed.trainer.loadState(state);
  await step(resumed);
  const weightsOf = async ({ model }: Awaited<ReturnType<typeof start>>, name: string) => {
    mkdirSync(join(folder, name));
    await model.saveAdapter(join(folder, name));
    return readSafetensors(join(folder, name, 'adapter_model.safetensors'));
  };
  t.strictSame(await weightsOf(resumed, 'resumed'), await weightsOf(straight, 'straight'));
  const changed = await start({ alpha: 9 });
  await t.rejects(changed.trainer.loadState(state), /lora\.alpha 2\.5, but this trainer has 9/);
});
