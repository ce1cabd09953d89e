import { availableParallelism } from 'node:os';
import type { CreamConfig } from '../config.js';
import { cream } from '../cream.js';
import type { RunEvent } from './events.js';
import { type ResumeMode, Run } from './run.js';
import { summarize } from './summarize.js';
import type { RunSummary } from './summary.js';
import { engineVersions } from './versions.js';
import { openWorld } from './world.js';

/** A whole run in this process. Releases the folder's lock and the models however it ends. */
export async function execute(
  config: CreamConfig,
  options: { resume: ResumeMode; signal: AbortSignal; emit: (event: RunEvent) => void },
): Promise<RunSummary> {
  const run = await Run.open(config, {
    ...options,
    versions: engineVersions(),
    threads: availableParallelism(),
  });
  try {
    const world = await openWorld(run);
    try {
      await cream(world);
    } finally {
      world.models.release();
      await world.tokenizer.dispose();
    }
    const summary = summarize(run, world.directoryOf);
    await run.dir.writeJson('summary.json', summary);
    run.finish({ type: 'summary', summary });
    return summary;
  } finally {
    await run.close();
  }
}
