import { loadConfig } from '../config-file.js';
import { CreamError } from '../errors.js';
import { estimate, type Estimate } from '../estimate/estimate.js';
import { type GpuName, GPUS, SHARES } from '../estimate/gpu.js';
import type { Context } from './command.js';
import { ensureEngine } from './engine.js';
import { formatBytes, formatCount, formatDuration, formatTable } from './format.js';

/** `cream estimate`: memory, disk and time of a run. */
export async function printEstimate(
  {
    responseTokens,
    noTime,
    json,
    gpu,
  }: { responseTokens: number | undefined; noTime: boolean; json: boolean; gpu: GpuName | undefined },
  { terminal, words, signal }: Context,
): Promise<void> {
  const [file, ...overrides] = words as [string, ...string[]];
  if (gpu !== undefined && noTime) throw new CreamError('USAGE', '--gpu measures nothing; remove --no-time');
  const named = gpu === undefined ? undefined : GPUS[gpu];
  const config = await loadConfig(file, overrides);
  const probe = !noTime && named === undefined;
  if (probe) await ensureEngine(terminal);
  const result = await estimate(config, { responseTokens, probe, gpu: named, signal });
  await terminal.print(json ? `${JSON.stringify(result)}\n` : `${asText(result)}\n`);
  for (const warning of warningsOf(result)) {
    terminal.note(`${terminal.style('yellow', 'warning:')} ${warning}`);
  }
}

function warningsOf({ peakBytes, machineBytes, diskBytes, freeDiskBytes, gpu }: Estimate): string[] {
  const warnings: string[] = [];
  if (peakBytes > machineBytes) {
    warnings.push(
      `the run needs ${formatBytes(peakBytes)} of memory, ${gpu === undefined ? 'this machine' : gpu.name} has ` +
        `${formatBytes(machineBytes)}; lower train.maxTokensPerBatch, set train.momentsDtype or train.recompute, use ` +
        'dtype: bfloat16, lora or a smaller model',
    );
  }
  if (freeDiskBytes !== null && diskBytes > freeDiskBytes) {
    warnings.push(
      `the run needs ${formatBytes(diskBytes)} on disk, ${formatBytes(freeDiskBytes)} are free; choose another output`,
    );
  }
  return warnings;
}

/** Where a training does not fit, what could be changed. */
function fitting({ trainings = [], gpu }: Estimate): string[] {
  const [own, ...others] = trainings;
  if (own === undefined || gpu === undefined) return [];
  const of = (count: number) => `micro-batches of ${formatCount(count)} tokens`;
  if (own.fits) return [`the training fits, in ${of(own.maxTokensPerBatch)}`];
  const rows = others.map(({ changes, bytes, maxTokensPerBatch, fits }) => [
    changes,
    formatBytes(bytes),
    fits ? `fits, in ${of(maxTokensPerBatch)}` : 'does not fit',
  ]);
  return ['', `the training does not fit on one ${gpu.name}; with`, formatTable(['', 'memory', ''], rows)];
}

function sourceOf({ name, flops, bandwidth, isMeasured }: NonNullable<Estimate['gpu']>): string {
  const percent = (share: number) => `${Math.round(100 * share)} %`;
  const speed = `${(flops / 1e12).toFixed(0)} TFLOP/s and ${(bandwidth / 1e12).toFixed(2)} TB/s`;
  const where = isMeasured ? `by what one sustained on ${SHARES.date}` : 'on which nothing was measured';
  return (
    `derived for one ${name}, ${where}: ${speed}, and the shares of them that an 8B model reached on an H200 on ${SHARES.date}: ` +
    `generation ${percent(SHARES.generate)} with all slots busy, scoring ${percent(SHARES.score)}, training ${percent(SHARES.train)}, ` +
    `with LoRA ${percent(SHARES.lora)}`
  );
}

function asText(result: Estimate): string {
  const { workload, memory, disk, stages, seconds, speed } = result;
  const lengths = result.isUpperBound ? 'responses as long as their limit' : 'responses of the given length';
  const lines = [
    `${formatCount(result.parameters)} parameters in ${result.dtype}; ${formatCount(workload.prompts)} prompts of ` +
      `${Math.round(workload.lengths.prompt)} tokens per iteration, ${lengths}`,
    '',
    formatTable(
      ['memory', 'size'],
      memory.flatMap(({ stage, parts, total }) => [
        [stage, formatBytes(total)],
        ...parts.map(({ what, bytes }) => [`  ${what}`, formatBytes(bytes)]),
      ]),
    ),
    `peak ${formatBytes(result.peakBytes)} of ${formatBytes(result.machineBytes)}` +
      (result.gpu === undefined ? '' : ` on one ${result.gpu.name}`),
    ...(result.hostBytes ? [`${formatBytes(result.hostBytes)} of host memory for models that wait`] : []),
    ...fitting(result),
    '',
    formatTable(
      ['disk', 'size'],
      disk.map(({ what, bytes }) => [what, formatBytes(bytes)]),
    ),
    `at most ${formatBytes(result.diskBytes)}` +
      (result.freeDiskBytes === null ? '' : `, ${formatBytes(result.freeDiskBytes)} free`),
    '',
    formatTable(
      ['stage', 'work', 'tokens', ...(seconds === undefined ? [] : ['time'])],
      stages.map((stage) => [
        stage.stage,
        stage.what,
        formatCount(stage.trained + stage.scored + stage.generated),
        ...(stage.seconds === undefined ? [] : [formatDuration(stage.seconds)]),
      ]),
    ),
  ];
  if (seconds !== undefined) {
    lines.push(`about ${formatDuration(seconds)} in all, loading, saving and start-up not counted`);
    if (result.gpu !== undefined) {
      lines.push(sourceOf(result.gpu));
    }
    if (speed?.trainIsMeasured === false) {
      lines.push(
        'training was not measured (its probe does not fit in half of the memory): three scoring passes',
      );
    }
  }
  return lines.join('\n');
}
