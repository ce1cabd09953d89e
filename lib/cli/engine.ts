import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { CreamError } from '../errors.js';
import type { Terminal } from './terminal.js';
import { packageRoot } from '../package.js';

/**
 * Called before a command loads a model. npm does not build native code on installation, so the first use does:
 * at once when a person is there to see it, otherwise by naming the command.
 */
export async function ensureEngine(terminal: Terminal): Promise<void> {
  const { isAddonBuilt } = await import('../native/installation.js');
  if (isAddonBuilt()) return;
  const script = join(packageRoot(), 'scripts', 'native.cjs');
  const command = `node ${script} build`;
  if (!process.stdin.isTTY || !terminal.isLive) {
    throw new CreamError('ENVIRONMENT', `the native engine is not built yet; build it once with: ${command}`);
  }
  terminal.note(`The native engine is not built yet. Building it now, once (some minutes): ${command}`);
  const exitCode = await new Promise<number | null>((resolve, reject) => {
    // Results of the command that waits go to standard output; the build's own words do not belong there.
    const build = spawn(process.execPath, [script, 'build'], {
      stdio: ['ignore', process.stderr, process.stderr],
    });
    build.once('error', reject);
    build.once('exit', resolve);
  });
  if (exitCode !== 0 || !isAddonBuilt()) {
    throw new CreamError('ENVIRONMENT', 'the native engine could not be built; see above, and cream doctor');
  }
}
