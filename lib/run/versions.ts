import { inspectInstallation } from '../native/installation.js';
import { CreamError } from '../errors.js';
import { packageVersion } from '../package.js';

/** What decides the bits of a run besides settings and inputs. Throws ENVIRONMENT when the engine does not load. */
export function engineVersions(): Record<string, string> {
  const { info, isBuilt, path, problem } = inspectInstallation();
  if (info === undefined) {
    if (problem instanceof CreamError) throw problem;
    const reason = isBuilt ? `${path} does not load` : `the native addon is not built (${path} is missing)`;
    throw new CreamError('ENVIRONMENT', `${reason}; run: npm run build`, { cause: problem });
  }
  return {
    'cream-lm': packageVersion(),
    libtorch: info.libtorch,
    cpu: info.cpuPath,
    ...(info.gpuProducts === 'default' ? {} : { gpuProducts: info.gpuProducts }),
  };
}
