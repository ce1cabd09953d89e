import { join, relative, resolve } from 'node:path';
import { validateConfig } from '../config.js';
import type { ModelDtype } from '../demo/data.js';
import { prepareDemo } from '../demo/demo.js';
import { DEFAULT_SHOWN, writeReport } from '../report/write-report.js';
import type { RunEvent } from '../run/events.js';
import { runCream } from '../run/host.js';
import type { ModelSummary, RunSummary } from '../run/summary.js';
import type { Context } from './command.js';
import { ensureEngine } from './engine.js';
import { formatTable } from './format.js';
import { Progress } from './progress.js';
import { summaryTable } from './summary.js';

export interface DemoValues {
  output: string | undefined;
  seed: number;
  threads: number | undefined;
  device: string | undefined;
  dtype: ModelDtype;
  json: boolean;
}

/** `cream demo`: makes M0, runs CREAM and SRLM from it, and shows them side by side. */
export async function executeDemo(values: DemoValues, context: Context): Promise<number> {
  const { terminal, signal, isQuiet } = context;
  const directory = resolve(values.output ?? 'cream-demo');
  await ensureEngine(terminal);
  const progress = new Progress(terminal, {
    isQuiet,
    ...(values.json && terminal.isOutputTerminal && { isLive: false }),
  });
  const show = async (event: RunEvent) => {
    if (values.json) await terminal.print(`${JSON.stringify(event)}\n`);
    progress.event(event);
  };
  try {
    const runs = await prepareDemo({
      directory,
      seed: values.seed,
      ...(values.device !== undefined && { device: values.device }),
      dtype: values.dtype,
      ...(values.threads !== undefined && { threads: values.threads }),
      signal,
      onEvent: (event) => void show(event),
    });
    const summaries: RunSummary[] = [];
    for (const [name, config] of [
      ['CREAM', runs.cream],
      ['SRLM: the same without consistency', runs.srlm],
    ] as const) {
      if (!isQuiet) terminal.note(terminal.style('bold', name));
      const run = runCream(validateConfig(config), { signal });
      for await (const event of run) await show(event);
      summaries.push(await run.result);
    }
    progress.stop();
    const [cream, srlm] = summaries as [RunSummary, RunSummary];
    const folders = [cream.directory, srlm.directory];
    await writeReport(folders, join(directory, 'report.html'), { shown: DEFAULT_SHOWN });
    const text = `\n${comparison(cream, srlm, directory)}\n`;
    if (values.json) terminal.note(text);
    else await terminal.print(text);
    return 0;
  } finally {
    progress.stop();
  }
}

function comparison(cream: RunSummary, srlm: RunSummary, directory: string): string {
  const final = relative(process.cwd(), cream.model) || '.';
  return [
    'CREAM (a pair pulls by the consistency C of its slice)',
    summaryTable(cream),
    '',
    'SRLM (every pair pulls fully), from the same M1',
    summaryTable(srlm),
    '',
    'sampled accuracy side by side',
    formatTable(
      ['model', 'CREAM', 'SRLM'],
      cream.models.map((model, index) => [model.model, sampled(model), sampled(srlm.models[index])]),
    ),
    '',
    `both as charts:  ${relative(process.cwd(), join(directory, 'report.html'))}   (open it in a browser)`,
    `the final model: ${final}`,
    `try it:  npx cream generate --model ${final} --prompt "1234+5678=" --temperature 0`,
    `next:    npx cream init my-run.yaml   (your own checkpoint and prompts), then: npx cream run my-run.yaml`,
    `another seed of this demo: npx cream demo --seed 1 --output ${relative(process.cwd(), join(directory, '..', 'cream-demo-1'))}`,
  ].join('\n');
}

function sampled(model: ModelSummary | undefined): string {
  const accuracy = model?.tasks[0]?.sampled;
  if (accuracy === undefined) return '-';
  const [low, high] = accuracy.interval;
  return `${accuracy.accuracy.toFixed(3)} [${low.toFixed(2)}, ${high.toFixed(2)}]`;
}
