import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

const PACKAGES = ['torch==2.13.0', 'transformers==5.17.0', 'trl==1.16.0', 'peft==0.21.2'];

/**
 * The Python that has the peer's packages: PEER_PYTHON, or a virtual environment in the user's cache folder that is
 * made on the first call.
 */
export function peerPython() {
  if (process.env.PEER_PYTHON) return process.env.PEER_PYTHON;
  const cache = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache');
  const directory = join(cache, 'cream-lm', 'bench-peer');
  const python = join(directory, 'bin', 'python');
  const marker = join(directory, 'complete');
  if (existsSync(marker) && readFileSync(marker, 'utf8') === `${PACKAGES.join('\n')}\n`) return python;
  console.error(`installing ${PACKAGES.join(', ')} for the comparison (once) ...`);
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  execFileSync('python3', ['-m', 'venv', directory], { stdio: 'inherit' });
  execFileSync(python, ['-m', 'pip', 'install', '--quiet', ...PACKAGES], { stdio: 'inherit' });
  writeFileSync(marker, `${PACKAGES.join('\n')}\n`);
  return python;
}
