import { join } from 'node:path';
import { stringify } from 'yaml';
import { loadResolvedConfig } from '../config-file.js';
import type { CreamConfig } from '../config.js';
import { runCream } from '../run/host.js';
import type { ResumeMode } from '../run/run.js';
import { CreamError, isCreamError } from '../errors.js';
import type { Context } from './command.js';
import { asOverrides, missingFiles } from './config-input.js';
import { ensureEngine } from './engine.js';
import { Progress } from './progress.js';
import { nextCommand, shortPath, summaryTable } from './summary.js';

export interface RunValues {
  output: string | undefined;
  seed: number | undefined;
  device: string | undefined;
  dtype: 'auto' | 'float32' | 'bfloat16' | undefined;
  threads: number | undefined;
  tracker: 'none' | 'mlflow' | undefined;
  trackerUrl: string | undefined;
  resume: ResumeMode;
  json: boolean;
  dryRun: boolean;
}

/** `cream run`: reads the settings, starts the run, shows its events and what came out. */
export async function executeRun(
  values: RunValues,
  { terminal, words, isQuiet, signal }: Context,
): Promise<number> {
  const [file, ...given] = words as [string, ...string[]];
  const { output, seed, device, dtype, threads, tracker, trackerUrl } = values;
  const overrides = [
    ...given,
    ...asOverrides({ output, seed, device, dtype, threads, 'report.tracker': tracker }),
    ...asOverrides({ 'report.trackerUrl': trackerUrl }),
  ];
  const { config, origins } = await loadResolvedConfig(file, overrides);
  const missing = await missingFiles(config);
  if (missing.length > 0) throw new CreamError('INVALID_CONFIG', missing.join('\n'));
  if (values.dryRun) {
    await terminal.print(
      values.json
        ? `${JSON.stringify(config)}\n`
        : `${stringify(config, { lineWidth: 0 })}\n${planOf(config)}\n`,
    );
    return 0;
  }
  await ensureEngine(terminal);

  const progress = new Progress(terminal, {
    isQuiet,
    ...(values.json && terminal.isOutputTerminal && { isLive: false }),
  });
  try {
    const run = runCream(config, { signal, resume: values.resume, origins });
    for await (const event of run) {
      if (values.json) await terminal.print(`${JSON.stringify(event)}\n`);
      progress.event(event);
    }
    const summary = await run.result;
    progress.stop();
    const report = config.report.html ? `report: ${shortPath(join(config.output, 'report.html'))}\n` : '';
    const text = `${summaryTable(summary)}\n\n${report}next: ${nextCommand(summary, config)}\n`;
    if (values.json) {
      if (!isQuiet) terminal.note(`\n${text}`);
    } else {
      await terminal.print(`\n${text}`);
    }
    return 0;
  } catch (error) {
    progress.stop();
    if (isCreamError(error) && error.code === 'ABORTED') {
      terminal.note(`the run can be continued from ${config.output}: give the same command again`);
    }
    throw error;
  } finally {
    progress.stop();
  }
}

function planOf(config: CreamConfig): string {
  const { iterations, sampling, data, consistency } = config;
  const lines = [
    `# plan: M0 = ${config.model}`,
    ...(data.sft === undefined ? ['# M1 = M0 (no data.sft)'] : [`# M1 = M0 after SFT on ${data.sft}`]),
    ...Array.from({ length: iterations }, (_, index) => {
      const t = index + 1;
      return `# M${t + 1} = M${t} after iteration ${t}: ${sampling.n} responses per prompt, ${consistency.metric}, weight ${consistency.weight}`;
    }),
    ...data.evaluation.map((task) => `# every model is measured on ${task.name}`),
    `# everything goes to ${config.output}`,
  ];
  return lines.join('\n');
}
