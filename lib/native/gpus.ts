import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

/** A GPU as the driver's own tool tells of it, whether or not the engine can use it. */
export interface DriverGpu {
  index: number;
  name: string;
  totalBytes: number;
  freeBytes: number;
  /** As `9.0`. */
  computeCapability: string;
  driver: string;
}

const FIELDS = ['index', 'name', 'memory.total', 'memory.free', 'compute_cap', 'driver_version'];
const MEBIBYTE = 2 ** 20;

/** Lines of `nvidia-smi --query-gpu=... --format=csv,noheader,nounits`. */
export function parseDriverGpus(text: string): DriverGpu[] {
  return text
    .split('\n')
    .map((line) => line.split(',').map((field) => field.trim()))
    .filter((fields) => fields.length === FIELDS.length)
    .map(([index, name, total, free, computeCapability, driver]) => ({
      index: Number(index),
      name: name!,
      totalBytes: Number(total) * MEBIBYTE,
      freeBytes: Number(free) * MEBIBYTE,
      computeCapability: computeCapability!,
      driver: driver!,
    }));
}

/** The GPUs of this machine; `problem` says why there are none. */
export async function driverGpus(): Promise<{ gpus: DriverGpu[]; problem?: string }> {
  const query = [`--query-gpu=${FIELDS.join(',')}`, '--format=csv,noheader,nounits'];
  try {
    const { stdout } = await promisify(execFile)('nvidia-smi', query, { timeout: 30_000 });
    const gpus = parseDriverGpus(stdout);
    return gpus.length > 0 ? { gpus } : { gpus, problem: 'nvidia-smi names no GPU' };
  } catch (error) {
    const { code, stdout, message } = error as NodeJS.ErrnoException & { stdout?: string };
    const problem =
      code === 'ENOENT'
        ? 'there is no NVIDIA driver (no nvidia-smi)'
        : (stdout?.trim().split('\n')[0] || message).replaceAll(/\s*\n\s*/g, '; ');
    return { gpus: [], problem };
  }
}
