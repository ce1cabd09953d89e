import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { addonPath } from '../../lib/native/binding.js';

// In a process of its own: what goes wrong here ends the process.

t.test('workers may be terminated at any moment of native work', async (t) => {
  const program = fileURLToPath(new URL('../helpers/terminated-workers.cjs', import.meta.url));
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [program, addonPath(), '100'], {
    encoding: 'utf8',
  });
  t.strictSame([status, signal, stdout], [0, null, 'terminated 100\n'], stderr);
});
