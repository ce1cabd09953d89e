import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { loadBinding } from '../../lib/native/binding.js';
import { Model } from '../../lib/native/model.js';
import { close, closeInNorm } from '../helpers/close.js';
import { CHECKPOINTS, checkpoint, readGolden, toFloats } from '../helpers/golden.js';
import type { GoldenArray, GoldenModel } from '../helpers/golden.js';
import { DEVICE, nativeModel, ROUNDING } from '../helpers/native-model.js';

// Every architecture against transformers: test/golden/models.py says how each number came about.

// Sums of 20 to 52 float32 products through two or three layers, in another order than PyTorch's: errors of about
// 1e-6; ten times that leaves room for other instruction sets.
const LOGITS_RELATIVE = ROUNDING;
// The same errors after a softmax, in nats per token, where log-probs lie between 0 and -15.
const LOGPROB_ABSOLUTE = 2 * ROUNDING;

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const result: T[] = [];
  for await (const item of items) result.push(item);
  return result;
}

const sum = (values: Float32Array) => values.reduce((total, value) => total + value, 0);

for (const name of CHECKPOINTS) {
  const golden = readGolden<GoldenModel>(`model-${name}`);

  t.test(`${name}: the logits of a sequence equal transformers'`, async (t) => {
    const model = await nativeModel(name);
    t.equal(model.numParameters, golden.numParameters);
    closeInNorm(
      t,
      await model._logits(Int32Array.from(golden.logits.ids)),
      toFloats(golden.logits.values),
      LOGITS_RELATIVE,
    );
    model.dispose();
  });

  t.test(`${name}: sequence and token log-probs equal transformers', in any packing`, async (t) => {
    await using model = await Model.load(checkpoint(name), { dtype: 'float32', device: DEVICE });
    const expected = golden.score.tokenLogprobs.map((group) => group.map(toFloats));
    // Everything at once, one group at a time, and less than one group at a time.
    for (const maxTokensPerBatch of [10_000, 40, 12]) {
      const scores = await model.score(golden.score.groups, { perToken: true, maxTokensPerBatch });
      expected.forEach((group, index) => {
        const actual = scores[index]!;
        group.forEach((logprobs, sample) => {
          const where = `group ${index}, response ${sample}, ${maxTokensPerBatch} tokens`;
          close(t, actual.tokenLogprobs![sample]!, logprobs, { atol: LOGPROB_ABSOLUTE }, where);
          const total = { atol: LOGPROB_ABSOLUTE * logprobs.length };
          close(t, [actual.logprobs[sample]!], [sum(logprobs)], total, `${where}, sum`);
        });
      });
    }
  });

  t.test(`${name}: greedy tokens equal those of transformers' generate, beyond any window`, async (t) => {
    await using model = await Model.load(checkpoint(name), { dtype: 'float32', device: DEVICE });
    const { promptIds, ids, logprobs } = golden.greedy;
    const request = { prompts: [{ id: 'a', ids: promptIds }], temperature: 0, maxNewTokens: ids.length };

    const [whole] = await collect(model.generate({ ...request, stopIds: [] }));
    t.strictSame([...whole!.ids], ids);
    t.equal(whole!.finishReason, 'length');
    close(t, whole!.logprobs, toFloats(logprobs), { atol: LOGPROB_ABSOLUTE });

    const stop = ids[7]!;
    const [stopped] = await collect(model.generate({ ...request, stopIds: [stop] }));
    t.strictSame([...stopped!.ids], ids.slice(0, ids.indexOf(stop) + 1), 'the stop token is kept');
    t.equal(stopped!.finishReason, 'stop');
  });

  t.test(`${name}: bfloat16 log-probs are as near to the exact ones as those of transformers`, async (t) => {
    await using model = await Model.load(checkpoint(name), { dtype: 'bfloat16', device: DEVICE });
    const flat = (groups: GoldenArray[][]) =>
      Float32Array.from(groups.flat().flatMap((array) => [...toFloats(array)]));
    const exact = flat(golden.score.bfloat16.exact);
    const peer = flat(golden.score.bfloat16.tokenLogprobs);
    const scores = await model.score(golden.score.groups, { perToken: true });
    const ours = Float32Array.from(
      scores.flatMap((group) => group.tokenLogprobs!.flatMap((row) => [...row])),
    );

    // "exact": float32 computation with the weights rounded to bfloat16. Root mean square over 72 tokens; two
    // computations that round in the same places differ in it by some 15 %.
    const error = (values: Float32Array) =>
      Math.sqrt(
        values.reduce((total, value, index) => total + (value - exact[index]!) ** 2, 0) / exact.length,
      );
    t.equal(ours.length, exact.length);
    t.ok(error(ours) <= 1.25 * error(peer), 'root mean square error', {
      ours: error(ours),
      peer: error(peer),
    });
  });

  t.test(`${name}: a saved model has the tensors, names and settings of the original`, async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'cream-golden-'));
    t.teardown(() => rmSync(directory, { recursive: true }));
    const copy = join(directory, 'copy');
    {
      await using model = await Model.load(checkpoint(name), { dtype: 'float32', device: DEVICE });
      await model.save(copy);
    }
    t.strictSame(header(copy), header(checkpoint(name)), 'names and shapes in the files');
    const [original, saved] = [await nativeModel(name), await nativeModel(copy)];
    const [before, after] = [await original._tensors(), await saved._tensors()];
    t.ok(
      before.every((tensor, index) => Buffer.compare(bytes(tensor.data), bytes(after[index]!.data)) === 0),
      'all values are equal, bit by bit',
    );
    t.strictSame(settings(copy), settings(checkpoint(name)));
    original.dispose();
    saved.dispose();
  });
}

const bytes = (data: Float32Array) => Buffer.from(data.buffer, data.byteOffset, data.byteLength);

/** Name and shape of every tensor in a folder's files. */
function header(directory: string) {
  return readdirSync(directory)
    .filter((file) => file.endsWith('.safetensors'))
    .flatMap((file) => loadBinding().safetensorsHeader(join(directory, file)))
    .map(({ name, shape }) => `${name} ${shape.join('x')}`)
    .sort();
}

/** config.json without what says in which dtype the weights are stored. */
function settings(directory: string): Record<string, unknown> {
  const config = JSON.parse(readFileSync(join(directory, 'config.json'), 'utf8')) as Record<string, unknown>;
  delete config['dtype'];
  delete config['torch_dtype'];
  return config;
}
