import { loadConfig } from '../config-file.js';
import { estimate, type Estimate } from '../estimate/estimate.js';
import type { Context } from './command.js';
import { ensureEngine } from './engine.js';
import { formatBytes, formatCount, formatDuration, formatTable } from './format.js';

/** `cream estimate`: memory, disk and time of a run. */
export async function printEstimate(
  { responseTokens, noTime, json }: { responseTokens: number | undefined; noTime: boolean; json: boolean },
  { terminal, words, signal }: Context,
): Promise<void> {
  const [file, ...overrides] = words as [string, ...string[]];
  const config = await loadConfig(file, overrides);
  if (!noTime) await ensureEngine(terminal);
  const result = await estimate(config, { responseTokens, probe: !noTime, signal });
  await terminal.print(json ? `${JSON.stringify(result)}\n` : `${asText(result)}\n`);
  for (const warning of warningsOf(result)) {
    terminal.note(`${terminal.style('yellow', 'warning:')} ${warning}`);
  }
}

function warningsOf({ peakBytes, machineBytes, diskBytes, freeDiskBytes }: Estimate): string[] {
  const warnings: string[] = [];
  if (peakBytes > machineBytes) {
    warnings.push(
      `the run needs ${formatBytes(peakBytes)} of memory, this machine has ${formatBytes(machineBytes)}; lower ` +
        'train.maxTokensPerBatch, use dtype: bfloat16 or a smaller model',
    );
  }
  if (freeDiskBytes !== null && diskBytes > freeDiskBytes) {
    warnings.push(
      `the run needs ${formatBytes(diskBytes)} on disk, ${formatBytes(freeDiskBytes)} are free; choose another output`,
    );
  }
  return warnings;
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
    `peak ${formatBytes(result.peakBytes)} of ${formatBytes(result.machineBytes)}`,
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
    if (speed?.trainIsMeasured === false) {
      lines.push(
        'training was not measured (its probe does not fit in half of the memory): three scoring passes',
      );
    }
  }
  return lines.join('\n');
}
