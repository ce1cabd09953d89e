import '../helpers/use-cuda.js';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { runCream } from '../../lib/run/host.js';
import type { Group } from '../../lib/types.js';
import { GPU, t } from '../helpers/gpu.js';
import { digests, writeTinyRun } from '../helpers/tiny-run.js';

// A whole run of CREAM on a GPU beside the same run on the CPU.

type Row = Record<string, number | string>;
const rows = (path: string): Row[] =>
  readFileSync(path, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Row);

t.test('a run of two iterations on a GPU does what it does on the CPU', async (t) => {
  const config = await writeTinyRun(t.testdir({}));
  const run = async (device: string) => {
    const output = `${config.output}-${device}`;
    const summary = await runCream({ ...config, output, device }, { inProcess: true }).result;
    return { output, summary };
  };
  const [cpu, gpu] = [await run('cpu'), await run(GPU)];
  t.strictSame(
    gpu.summary.models.map(({ model }) => model),
    cpu.summary.models.map(({ model }) => model),
  );
  const losses = (output: string) =>
    rows(join(output, 'metrics.jsonl')).flatMap((row) => (row.stream === 'sft' ? [Number(row.loss)] : []));
  const [expected, actual] = [losses(cpu.output), losses(gpu.output)];
  t.ok(expected.length > 0);
  t.equal(actual.length, expected.length);
  for (const [step, loss] of actual.entries()) {
    t.ok(
      Math.abs(loss - expected[step]!) <= 1e-3 * expected[step]!,
      `loss ${loss} for ${expected[step]} at step ${step}`,
    );
  }
  const responses = (output: string) =>
    (rows(join(output, 'iteration-1', 'samples.jsonl')) as unknown as Group[]).flatMap((group) =>
      group.responses.map(({ ids }) => ids.join(' ')),
    );
  const [own, theirs] = [responses(gpu.output), responses(cpu.output)];
  t.equal(own.length, theirs.length);
  // A draw on the border of two tokens may fall on the other side after a training that differs in the last bits.
  const same = own.filter((ids, i) => ids === theirs[i]).length;
  t.ok(same >= 0.9 * own.length, `${same} of ${own.length} responses are the same`);
});

// bfloat16 takes LibTorch's flash kernels, float32 the plain ones.
for (const dtype of ['float32', 'bfloat16'] as const) {
  t.test(`a ${dtype} run twice, once interrupted, leaves the same records and weights`, async (t) => {
    const config = await writeTinyRun(t.testdir({}));
    const base = { ...config, device: GPU, dtype, deterministic: true, iterations: 1 };
    await runCream({ ...base, output: `${config.output}-whole` }, { inProcess: true }).result;
    const output = `${config.output}-cut`;
    const controller = new AbortController();
    const cut = runCream({ ...base, output }, { inProcess: true, signal: controller.signal });
    const abortInTraining = async () => {
      for await (const event of cut) {
        if (event.type === 'progress' && event.stage === 'train') controller.abort();
      }
    };
    await t.rejects(abortInTraining(), { code: 'ABORTED' });
    await runCream({ ...base, output }, { inProcess: true }).result;
    t.strictSame(digests(output), digests(`${config.output}-whole`));
  });
}
