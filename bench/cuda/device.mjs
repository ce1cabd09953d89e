import { execFileSync } from 'node:child_process';
import { inspectInstallation } from '../../dist/lib/native/installation.js';
import { loadBinding } from '../../dist/lib/native/binding.js';
import { ceilings } from './floors.mjs';

/** The GPU that is measured, what it can reach, and versions; throws where there is none. */
export function devices({ device, ...given }) {
  const { info, problem } = inspectInstallation();
  if (info === undefined)
    throw new Error(
      `the engine is not built: ${problem instanceof Error ? problem.message : 'run ./install.sh, or npm run build'}`,
    );
  const versions = {
    node: process.versions.node,
    libtorch: info.libtorch,
    build: info.buildFlags,
    archs: info.cudaArchs,
  };
  if (device === 'cpu' || device === 'emulated')
    return { gpu: { name: 'cpu' }, caps: ceilings('cpu', given), versions };
  const found = loadBinding().devices();
  const gpu = found.gpus[Number(device.split(':')[1] ?? 0)];
  if (gpu === undefined)
    throw new Error(`${device} cannot be used: ${found.problem ?? `there are ${found.gpus.length} GPUs`}`);
  return {
    gpu,
    caps: ceilings(gpu.name, given),
    versions: { ...versions, cudaDriver: found.driver, cudaRuntime: found.runtime, driver: driverVersion() },
  };
}

function driverVersion() {
  try {
    const query = ['--query-gpu=driver_version', '--format=csv,noheader'];
    return execFileSync('nvidia-smi', query, { encoding: 'utf8' }).trim().split('\n')[0];
  } catch {
    return undefined;
  }
}
