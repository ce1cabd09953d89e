import { existsSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { CreamConfigInput } from '../../lib/config.js';
import { readRecords } from '../../lib/run/records.js';
import type { PreferencePair, RankedGroup, ScoredGroup } from '../../lib/types.js';
import { built } from '../helpers/built.js';
import { digests, writeTinyRun } from '../helpers/tiny-run.js';

// Runs with the composing options, whose extra passes must survive a kill like the others.

t.setTimeout(240_000);

const { runCream } = built;
const folder = t.testdir({});
const base = await writeTinyRun(folder);
const config: CreamConfigInput = {
  ...base,
  iterations: 3,
  data: { ...base.data, evaluation: [] },
  evaluation: {},
  sampling: { ...base.sampling, promptsPerIteration: 8 },
  consistency: { history: 'all' },
  pairing: { rejectedFrom: 'base', ties: 'margin', margin: 0.001 },
  train: { ...base.train, epochs: 1, lengthTerm: 0.05 },
};
const whole = join(folder, 'whole');
const at = (name: string) => join(whole, name);

t.test(
  'M0 samples beside the policy, earlier policies rank too, and the loss has its length term',
  async (t) => {
    const { iterations } = await runCream({ ...config, output: whole }).result;
    t.strictSame(
      iterations.map(({ history }) => history!.map(({ model }) => model)),
      [[], [], ['M1']],
      'M3 is compared with M2 and M1',
    );
    for (const { iteration, pairs: numPairs, choices } of iterations) {
      const pairs = await readRecords<PreferencePair>(at(`iteration-${iteration}/pairs.jsonl`));
      const own = await readRecords<RankedGroup>(at(`iteration-${iteration}/ranks.jsonl`));
      const others = await readRecords<ScoredGroup>(at(`iteration-${iteration}/base-scores.jsonl`));
      t.equal(pairs.length, numPairs);
      t.equal(pairs.filter(({ rejectedFrom }) => rejectedFrom === 'base').length, choices!.rejectedFromBase);
      for (const pair of pairs) {
        const candidates = [own, others].map((groups) => groups.find(({ id }) => id === pair.id)!.rewards!);
        t.equal(pair.chosenReward, Math.max(...candidates[0]!));
        t.ok(pair.rejectedReward <= Math.min(...candidates.flat().filter(Number.isFinite)));
        t.ok(pair.chosenReward - pair.rejectedReward > 0.001);
      }
      t.not(JSON.stringify(own[0]!.responses), JSON.stringify(others[0]!.responses), 'another stream');
    }
    t.ok(iterations.some(({ choices }) => choices!.rejectedFromBase > 0));
    const [third] = await readRecords<RankedGroup>(at('iteration-3/ranks.jsonl'));
    t.equal(third!.history!.length, 1);
    t.equal(third!.historyTau!.length, 1);
  },
);

t.test('killed in the new passes, the run ends with the same files', async (t) => {
  const output = join(folder, 'killed');
  const reference = digests(whole);
  const places = new Set<string>();
  for (const [stage, model, iteration] of [
    ['sample', 'M0', 1],
    ['score', 'M0', 1],
    ['sample', 'M0', 2],
    ['score', 'M3', 3],
    ['score', 'M0', 3],
  ] as const) {
    const run = runCream({ ...config, output });
    try {
      let isThere = false;
      for await (const event of run) {
        if (event.type === 'stage' && event.status === 'started') {
          isThere = event.stage === stage && event.model === model && event.iteration === iteration;
        }
        // The first chunk is done: there is work in progress to continue from.
        if (isThere && event.type === 'progress') {
          places.add(`${stage}:${model}`);
          run.kill();
        }
      }
    } catch (error) {
      t.equal((error as { code: string }).code, 'ABORTED');
    }
  }
  t.ok(places.size >= 3, `killed in ${[...places].join(', ')}`);
  await runCream({ ...config, output }).result;
  t.strictSame(digests(output), reference);
  t.notOk(existsSync(join(output, 'iteration-1/sample-M0.partial')));
});
