import { availableParallelism } from 'node:os';
import type { CreamConfig } from '../config.js';
import { cream } from '../cream.js';
import type { RunEvent } from './events.js';
import { isCreamError } from '../errors.js';
import { Recorder } from '../report/recorder.js';
import type { Outcome } from '../report/sinks.js';
import { type ResumeMode, Run } from './run.js';
import { summarize } from './summarize.js';
import type { RunSummary } from './summary.js';
import { engineVersions } from './versions.js';
import { openWorld } from './world.js';

/** A whole run in this process. Releases the folder's lock and the models however it ends. */
export async function execute(
  config: CreamConfig,
  options: {
    resume: ResumeMode;
    signal: AbortSignal;
    emit: (event: RunEvent) => void;
    origins?: Record<string, string>;
  },
): Promise<RunSummary> {
  let recorder: Recorder | undefined;
  const run = await Run.open(config, {
    ...options,
    emit: (event) => {
      recorder?.event(event);
      options.emit(event);
    },
    versions: engineVersions(),
    threads: availableParallelism(),
  });
  let outcome: Outcome = 'failed';
  try {
    recorder = await Recorder.open(run);
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
    outcome = 'finished';
    return summary;
  } catch (error) {
    if (isCreamError(error) && error.code === 'ABORTED') outcome = 'interrupted';
    run.fail(error);
    throw error;
  } finally {
    await recorder?.close(outcome);
    await run.close();
  }
}
