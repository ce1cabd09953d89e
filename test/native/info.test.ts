import { createRequire } from 'node:module';
import t from 'tap';

const load = createRequire(import.meta.url);
const record = load('../../build/libtorch.json') as { libtorch: { version: string } };
const binding = load('../../build/Release/cream.node') as {
  info(): {
    libtorch: string;
    cpuCapability: string;
    cpuPath: string;
    threads: number;
    cuda: boolean;
    buildFlags: string;
  };
};

t.test('the addon loads and says what it was built with', async (t) => {
  const info = binding.info();
  t.equal(info.libtorch, record.libtorch.version);
  t.match(info.cpuCapability, /^\w+/);
  t.match(info.cpuPath, /^(baseline|avx2|avx512|avx512_bf16|amx_bf16) (intel|other)$/);
  t.ok(info.threads >= 1);
  t.type(info.cuda, 'boolean');
  t.match(info.buildFlags, /Release/);
});
