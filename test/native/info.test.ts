import { createRequire } from 'node:module';
import t from 'tap';

const binding = createRequire(import.meta.url)('../../build/Release/cream.node') as {
  info(): { libtorch: string; cpuCapability: string; threads: number; cuda: boolean; buildFlags: string };
};

t.test('the addon loads and says what it was built with', async (t) => {
  const info = binding.info();
  t.match(info.libtorch, /^2\.1[1-4]\./);
  t.match(info.cpuCapability, /^\w+/);
  t.ok(info.threads >= 1);
  t.type(info.cuda, 'boolean');
  t.match(info.buildFlags, /Release/);
});
