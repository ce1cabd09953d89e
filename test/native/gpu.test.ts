import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import t from 'tap';
import { parseDriverGpus } from '../../lib/native/gpus.js';
import { deviceMemory, resolveDevice } from '../../lib/native/device.js';
import { loadBinding } from '../../lib/native/binding.js';
import { EVERYTHING } from '../helpers/tiny-model.js';

// How a build for GPUs is decided, how devices are named, and what failures of a GPU become.

interface Libtorch {
  root: string;
  cuda?: { version: number; cudart: string; missing: string[] };
}
interface Choice {
  cuda?: { nvcc: string; version: string; include: string[]; archs: string[] };
  why: string;
}
const { architectures, chooseCuda, wish } = createRequire(import.meta.url)('../../scripts/cuda.cjs') as {
  architectures: (text?: string) => string[];
  chooseCuda: (libtorch: Libtorch, option: boolean | undefined) => Choice;
  wish: (option: boolean | undefined, environment?: string) => boolean | undefined;
};

/** A toolkit whose nvcc says its version and does nothing else, and a LibTorch beside it. */
function toolkit(root: string, release: string) {
  mkdirSync(join(root, 'bin'), { recursive: true });
  mkdirSync(join(root, 'include'));
  writeFileSync(join(root, 'include', 'cuda_runtime_api.h'), '');
  const nvcc = join(root, 'bin', 'nvcc');
  writeFileSync(nvcc, `#!/bin/sh\necho 'Cuda compilation tools, release ${release}, V${release}.1'\n`);
  chmodSync(nvcc, 0o755);
  process.env.CUDACXX = nvcc;
  return nvcc;
}
const libtorch = (version: number, missing: string[] = []): Libtorch => ({
  root: '/opt/torch',
  cuda: { version, cudart: `/opt/cuda/lib/libcudart.so.${version}`, missing },
});

t.test('a build for GPUs takes the nvcc that there is, when its version is that of LibTorch', async (t) => {
  const root = t.testdir({});
  const nvcc = toolkit(root, '13.1');
  const { cuda, why } = chooseCuda(libtorch(13), true);
  t.match(cuda, { nvcc, version: '13.1', include: [join(root, 'include')], archs: ['80', '90'] });
  t.equal(why, '--cuda');
});

t.test('parts that do not fit together are refused with both versions', async (t) => {
  toolkit(t.testdir({}), '13.0');
  t.throws(
    () => chooseCuda(libtorch(12), true),
    /LibTorch in \/opt\/torch is built for CUDA 12 and .*nvcc is of 13\.0/,
  );
  t.throws(
    () => chooseCuda(libtorch(14), true),
    /built for CUDA 14, but .*nvcc is of 13\.0; put the nvcc of CUDA 14/,
  );
  t.throws(() => chooseCuda(libtorch(13, ['libcudnn.so.9']), true), /not all installed: libcudnn\.so\.9/);
  t.throws(
    () => chooseCuda({ root: '/opt/torch' }, true),
    /LibTorch in \/opt\/torch is built for the CPU alone/,
  );
});

t.test('nobody is given a GPU build who does not want one', async (t) => {
  toolkit(t.testdir({}), '13.0');
  t.match(chooseCuda(libtorch(13), false), { cuda: undefined, why: '--no-cuda' });
  t.match(chooseCuda({ root: '/opt/torch' }, undefined), { cuda: undefined, why: /built for the CPU alone/ });
});

t.test('wishes and architectures are read as they are written, and wrong ones refused', async (t) => {
  t.strictSame(
    [wish(undefined, '1'), wish(undefined, '0'), wish(undefined, 'auto'), wish(false, '1')],
    [true, false, undefined, false],
  );
  t.throws(() => wish(undefined, 'maybe'), /CREAM_CUDA must be 1, 0 or auto, got "maybe"/);
  t.strictSame(architectures('90;80, 100a 90'), ['80', '90', '100a']);
  t.throws(() => architectures('sm_90'), /CREAM_CUDA_ARCHS must be compute capabilities .* got "sm_90"/);
});

t.test("the driver's list of GPUs is read", async (t) => {
  t.strictSame(parseDriverGpus('0, NVIDIA H200, 143771, 143130, 9.0, 580.159.04\n\n'), [
    {
      index: 0,
      name: 'NVIDIA H200',
      totalBytes: 143771 * 2 ** 20,
      freeBytes: 143130 * 2 ** 20,
      computeCapability: '9.0',
      driver: '580.159.04',
    },
  ]);
  t.strictSame(parseDriverGpus('No devices were found\n'), []);
});

const binding = loadBinding();
const hasGpu = binding.devices().gpus.length > 0;

t.test(
  'a device that cannot be used is refused with what is there',
  { skip: hasGpu && 'there is a GPU' },
  async (t) => {
    t.equal(resolveDevice('auto'), 'cpu');
    const load = (device: string) =>
      binding.randomModel({ config: EVERYTHING, seed: 1n, dtype: 'float32', device });
    await t.rejects(load('cuda:1'), { code: 'ENVIRONMENT', message: /^device 'cuda:1': / });
    await t.rejects(deviceMemory('cuda'), { code: 'ENVIRONMENT' });
    for (const wrong of ['cuda:', 'cuda:x', 'cuda:1000', 'gpu', 'cuda:-1', 'CUDA'])
      await t.rejects(load(wrong), {
        code: 'INVALID_ARGUMENT',
        message: /must be 'cpu', 'cuda' or 'cuda:N', got/,
      });
    t.match(await deviceMemory('cpu'), { free: 0, total: 0, allocated: 0 });
  },
);

t.test('failures of a GPU become errors that say what to do', async (t) => {
  const { _fail: fail } = binding as unknown as {
    _fail: (options: { kind: string; message: string }) => void;
  };
  const memory =
    'CUDA out of memory. Tried to allocate 2.00 GiB. GPU 1 has a total capacity of 139.81 GiB of which 1.50 GiB is free. ' +
    'Process 7 has 138.20 GiB memory in use. Of the allocated memory 137.00 GiB is allocated by PyTorch, and 512.00 MiB is ' +
    'reserved by PyTorch but unallocated. If reserved but unallocated memory is large try setting PYTORCH_ALLOC_CONF';
  t.throws(() => fail({ kind: 'memory', message: memory }), {
    code: 'OUT_OF_MEMORY',
    message:
      'cuda:1 is out of memory: 2.00 GiB more were asked for; it has 139.81 GiB, of which 1.50 GiB are free, 137.00 GiB in tensors',
  });
  t.throws(
    () =>
      fail({ kind: 'torch', message: 'CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`' }),
    {
      code: 'OUT_OF_MEMORY',
    },
  );
  const lost =
    'CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported';
  t.throws(() => fail({ kind: 'torch', message: lost }), {
    code: 'ENGINE_LOST',
    message:
      /^CUDA error: device-side assert triggered; the GPU can do nothing more for this process: start it again/,
  });
  t.throws(
    () =>
      fail({
        kind: 'launch',
        message: 'a CUDA kernel did not start: an illegal memory access was encountered',
      }),
    {
      code: 'ENGINE_LOST',
    },
  );
  t.throws(() => fail({ kind: 'launch', message: 'a CUDA kernel did not start: invalid argument' }), {
    code: 'TORCH',
  });
  t.throws(() => fail({ kind: 'torch', message: 'shapes differ' }), {
    code: 'TORCH',
    message: /^shapes differ/,
  });
});

t.test('work is counted by kind while it is asked for', async (t) => {
  const model = await binding.randomModel({ config: EVERYTHING, seed: 1n, dtype: 'float32', device: 'cpu' });
  const score = () =>
    model.score(
      [{ promptIds: Int32Array.of(1, 2, 3), responses: [Int32Array.of(4, 5)] }],
      { maxTokensPerBatch: 0, perToken: false },
      binding.cancelToken(),
    );
  await binding.phases('ops');
  await score();
  const counted = await binding.phases('off');
  const count = (name: string) => counted.find((phase) => phase.name === name)!.count;
  t.equal(count('attention'), EVERYTHING.numLayers);
  t.equal(count('gemm'), 4 * EVERYTHING.numLayers, 'qkv, o, gate and up, down');
  t.equal(count('head'), 1);
  t.ok(counted.every(({ seconds, count: n }) => seconds > 0 === n > 0));
  await score();
  t.ok(
    (await binding.phases('off')).every(({ count: n }) => n === 0),
    'and not otherwise',
  );
  model.dispose();
});
