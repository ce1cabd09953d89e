import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import type { RunSummary } from '../../lib/run/summary.js';
import { built } from '../helpers/built.js';
import { digests, writeTinyRun } from '../helpers/tiny-run.js';

// kill -9 at any moment: the next run ends with the bits of a run that was never interrupted.

t.setTimeout(240_000);

const { runCream } = built;
const KILLS = 20;
const folder = t.testdir({});
const config = await writeTinyRun(folder);

/** What a run found out, without what depends on the clock and on how often it was continued. */
function findings(output: string) {
  const {
    seconds: _,
    directory: __,
    model: ___,
    models,
    iterations,
    ...rest
  } = JSON.parse(readFileSync(join(output, 'summary.json'), 'utf8')) as RunSummary;
  return {
    ...rest,
    models: models.map(({ directory: _, ...model }) => model),
    iterations: iterations.map(({ seconds: _, ...iteration }) => iteration),
  };
}

t.test(
  `killed at ${KILLS} random moments, runs end with identical weights, pairs, metrics and findings`,
  async (t) => {
    const whole = { ...config, output: join(folder, 'whole') };
    let numEvents = 0;
    for await (const _ of runCream(whole)) numEvents++;
    const reference = digests(whole.output);
    t.ok(Object.keys(reference).includes('iteration-2/policy/model.safetensors'));

    const output = join(folder, 'killed');
    let [kills, random] = [0, 12345];
    const killedIn = new Set<string>();
    let isWhole = false;
    while (kills < KILLS || !isWhole) {
      const run = runCream({ ...config, output });
      let stage = 'start';
      random = (random * 1103515245 + 12345) % 2 ** 31;
      // Counted in events, not in time: how fast the machine is decides nothing. The delay only moves a kill off the
      // event itself.
      const last = kills < KILLS ? 1 + Math.floor((random / 2 ** 31) * (numEvents / 2)) : undefined;
      let seen = 0;
      let timer: NodeJS.Timeout | undefined;
      try {
        for await (const event of run) {
          if (++seen === last) timer = setTimeout(() => run.kill(), random % 20);
          if (event.type === 'stage') stage = `${event.stage} ${event.status}`;
        }
        clearTimeout(timer);
        isWhole = true;
        t.strictSame(digests(output), reference, `after ${kills} kills`);
        t.strictSame(findings(output), findings(whole.output));
        t.notOk(existsSync(join(output, 'sft.partial')), 'nothing is left of the work in progress');
        if (kills < KILLS) rmSync(output, { recursive: true });
      } catch (error) {
        t.equal((error as { code: string }).code, 'ABORTED');
        killedIn.add(stage);
        kills++;
        isWhole = false;
      }
    }
    t.ok(killedIn.size >= 5, `killed in: ${[...killedIn].join(', ')}`);
  },
);

t.test('the engine dies with its host, and the run can be continued', async (t) => {
  const output = join(folder, 'orphan');
  const host = fileURLToPath(new URL('../helpers/host.ts', import.meta.url));
  const child = spawn(process.execPath, [...process.execArgv, host, JSON.stringify({ ...config, output })], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const pid = Number(line.toString());
  t.ok(pid > 0);
  child.kill('SIGKILL');
  await once(child, 'exit');
  for (let wait = 0; wait < 100 && isAlive(pid); wait++) await sleep(20);
  t.notOk(isAlive(pid));
  await runCream({ ...config, output }).result;
  t.strictSame(digests(output), digests(join(folder, 'whole')));
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}
