import { execFile } from 'node:child_process';
import { readFile, statfs } from 'node:fs/promises';
import os from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { formatBytes } from './format.js';
import { packageRoot } from '../package.js';

// What `cream doctor` looks at. Each check finds out by itself and never throws.

export interface Finding {
  name: string;
  status: 'ok' | 'warning' | 'failed';
  detail: string;
  /** What to do about it. */
  advice?: string;
}

const MIN_NODE = [20, 19] as const;
const LOW_MEMORY_BYTES = 2 * 2 ** 30;
const LOW_DISK_BYTES = 5 * 2 ** 30;

/** All checks, in the order in which a person would make them. */
export async function examine(directory: string, signal: AbortSignal): Promise<Finding[]> {
  const findings = [
    checkNode(),
    await checkCpu(),
    checkMemory(),
    await checkDisk(directory),
    ...(await checkLibTorch()),
  ];
  const engine = await checkEngine();
  findings.push(engine, ...(await checkGpus()));
  if (engine.status !== 'failed') findings.push(await checkTraining(signal));
  return findings;
}

function checkNode(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const isEnough = major > MIN_NODE[0] || (major === MIN_NODE[0] && minor >= MIN_NODE[1]);
  return {
    name: 'node',
    status: isEnough ? 'ok' : 'failed',
    detail: `${process.version} on ${process.platform}-${process.arch}`,
    ...(!isEnough && { advice: `install Node.js ${MIN_NODE.join('.')} or later` }),
  };
}

async function checkCpu(): Promise<Finding> {
  const model = os.cpus()[0]?.model.trim() ?? 'unknown';
  // The kernel's own list; other systems have none to read.
  const text = process.platform === 'linux' ? await readFile('/proc/cpuinfo', 'utf8').catch(() => '') : '';
  const words = new Set(/^flags\s*:(.*)$/m.exec(text)?.[1]?.trim().split(/\s+/));
  const extensions = ['avx2', 'avx512f', 'avx512_bf16', 'amx_bf16'].filter((word) => words.has(word));
  return {
    name: 'cpu',
    status: 'ok',
    detail: [`${os.availableParallelism()} threads of ${model}`, ...extensions].join(', '),
  };
}

function checkMemory(): Finding {
  const limit = process.constrainedMemory();
  const total = limit > 0 && limit < os.totalmem() ? limit : os.totalmem();
  const free = Math.min(os.freemem(), total);
  return {
    name: 'memory',
    status: total < LOW_MEMORY_BYTES ? 'warning' : 'ok',
    detail: `${formatBytes(total)}, ${formatBytes(free)} free`,
    ...(total < LOW_MEMORY_BYTES && { advice: 'only very small models can be trained' }),
  };
}

async function checkDisk(directory: string): Promise<Finding> {
  try {
    const { bavail, bsize } = await statfs(directory);
    const free = bavail * bsize;
    const isLow = free < LOW_DISK_BYTES;
    return {
      name: 'disk',
      status: isLow ? 'warning' : 'ok',
      detail: `${formatBytes(free)} free in ${directory}`,
      ...(isLow && { advice: 'a run keeps several copies of the model with optimizer state' }),
    };
  } catch (error) {
    return { name: 'disk', status: 'warning', detail: `${directory}: ${messageOf(error)}` };
  }
}

/** What `scripts/native.cjs info --json` tells. */
interface BuildInfo {
  isCurrent: boolean;
  addon: string | null;
  libtorch: { version: string; root: string } | null;
  source: string | null;
  rejected: { source: string; directory?: string; reason: string }[];
}

async function checkLibTorch(): Promise<Finding[]> {
  const script = join(packageRoot(), 'scripts', 'native.cjs');
  try {
    const { stdout } = await promisify(execFile)(process.execPath, [script, 'info', '--json'], {
      timeout: 60_000,
    });
    const { libtorch, source, rejected, addon, isCurrent } = JSON.parse(stdout) as BuildInfo;
    const found: Finding =
      libtorch === null
        ? { name: 'libtorch', status: 'warning', detail: 'none found', advice: 'npm run build installs it' }
        : { name: 'libtorch', status: 'ok', detail: `${libtorch.version} from ${source}: ${libtorch.root}` };
    return [
      found,
      ...rejected.map(({ source: place, directory, reason }): Finding => {
        const where = directory === undefined ? place : `${place} (${directory})`;
        return { name: 'libtorch', status: 'ok', detail: `not from ${where}: ${reason}` };
      }),
      ...(addon !== null && !isCurrent
        ? [
            {
              name: 'build',
              status: 'warning',
              detail: 'the addon is older than its sources',
              advice: 'npm run build',
            } as const,
          ]
        : []),
    ];
  } catch (error) {
    return [{ name: 'libtorch', status: 'warning', detail: `could not be looked for: ${messageOf(error)}` }];
  }
}

async function checkEngine(): Promise<Finding> {
  const { inspectInstallation } = await import('../native/installation.js');
  const { path, isBuilt, info, problem } = inspectInstallation();
  const advice = 'npm run build';
  if (!isBuilt) return { name: 'engine', status: 'failed', detail: `not built (${path} is missing)`, advice };
  if (info === undefined) return { name: 'engine', status: 'failed', detail: messageOf(problem), advice };
  const cuda = info.cuda ? `with CUDA for compute capabilities ${info.cudaArchs}` : 'without CUDA';
  return {
    name: 'engine',
    status: 'ok',
    detail: `LibTorch ${info.libtorch}, ${info.cpuCapability}, kernels for ${info.cpuPath}, ${info.threads} threads, ${cuda}`,
  };
}

/** Each GPU with its memory, and whether the engine can use it. No line where there is no GPU and no wish for one. */
async function checkGpus(): Promise<Finding[]> {
  const { driverGpus } = await import('../native/gpus.js');
  const { inspectInstallation } = await import('../native/installation.js');
  const { gpus, problem } = await driverGpus();
  const { info } = inspectInstallation();
  const name = 'gpu';
  if (gpus.length === 0) {
    if (info?.cuda !== true) return [];
    return [
      { name, status: 'warning', detail: `none: ${problem}`, advice: 'the engine computes on the CPU' },
    ];
  }
  return gpus.map((gpu): Finding => {
    const { index, freeBytes, totalBytes, computeCapability, driver } = gpu;
    const detail = `cuda:${index} ${gpu.name}, compute capability ${computeCapability}, ${formatBytes(freeBytes)} of ${formatBytes(totalBytes)} free, driver ${driver}`;
    if (info !== undefined && !info.cuda) {
      const advice = 'build with nvcc 13 and a LibTorch with CUDA: npm run build:native -- --cuda';
      return { name, status: 'warning', detail: `${detail}; the engine is built without CUDA`, advice };
    }
    return { name, status: 'ok', detail };
  });
}

/** A model of a few thousand parameters scores, generates and takes one preference step whose loss must be log 2. */
async function checkTraining(signal: AbortSignal): Promise<Finding> {
  const name = 'self-check';
  try {
    const { selfCheck } = await import('./self-check.js');
    const { seconds, loss } = await selfCheck(signal);
    return {
      name,
      status: 'ok',
      detail: `score, generate, train: first loss ${loss.toFixed(6)} = log 2, ${seconds.toFixed(2)} s`,
    };
  } catch (error) {
    return { name, status: 'failed', detail: messageOf(error), advice: 'rebuild with: npm run build' };
  }
}

function messageOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).trim().replaceAll(/\s*\n\s*/g, '; ');
}
