import { join, resolve } from 'node:path';
import { CreamError } from '../errors.js';
import { watchRuns } from '../report/watch.js';
import { writeReport } from '../report/write-report.js';
import type { Context } from './command.js';
import { prepareOutputFile } from './output.js';
import { shortPath } from './summary.js';

/** `cream report`: the report of run folders as one file. */
export async function executeReport(
  values: { output: string | undefined; samples: number },
  { words, terminal }: Context,
): Promise<number> {
  const [first] = words as [string, ...string[]];
  if (values.output === '-') throw new CreamError('USAGE', '--output must name a file');
  const path = resolve(values.output ?? join(first, 'report.html'));
  if (values.output !== undefined) await prepareOutputFile(path);
  await writeReport(words, path, { shown: values.samples });
  await terminal.print(`${shortPath(path)}\n`);
  return 0;
}

/** `cream watch`: serves the report until Ctrl-C. */
export async function executeWatch(
  { port }: { port: number },
  { words, terminal, signal, isQuiet }: Context,
): Promise<number> {
  let watch: Awaited<ReturnType<typeof watchRuns>>;
  try {
    watch = await watchRuns(words, { port });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'EADDRINUSE' && code !== 'EACCES') throw error;
    const reason = code === 'EACCES' ? 'may not be used' : 'is in use';
    throw new CreamError('USAGE', `port ${port} ${reason}; name another one, or none for any free one`, {
      cause: error,
    });
  }
  await terminal.print(`${watch.url}\n`);
  if (!isQuiet) terminal.note('open it in a browser; Ctrl-C ends it');
  await new Promise<void>((done) => {
    if (signal.aborted) done();
    else signal.addEventListener('abort', () => done(), { once: true });
  });
  await watch.close();
  return 0;
}
