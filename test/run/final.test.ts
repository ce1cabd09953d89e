import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { kendallTau } from '../../lib/kendall-tau.js';
import { Model } from '../../lib/native/model.js';
import { readRecords } from '../../lib/run/records.js';
import type { RankedGroup, ScoredGroup } from '../../lib/types.js';
import { built } from '../helpers/built.js';
import { digests, writeTinyRun } from '../helpers/tiny-run.js';

// consistency.final: does the final policy still rank as the one before?

t.setTimeout(240_000);

const { runCream } = built;
const folder = t.testdir({});
const base = await writeTinyRun(folder);
const config = { ...base, iterations: 2, consistency: { final: true } };
const summary = await runCream(config).result;
const read = <T extends object>(file: string) => readRecords<T>(join(config.output, 'iteration-2', file));

t.test(
  "the final policy ranks the last iteration's responses, and so does the one that wrote them",
  async (t) => {
    const scored = new Map((await read<ScoredGroup>('scores.jsonl')).map((group) => [group.id, group]));
    const ranked = await read<RankedGroup>('final-ranks.jsonl');
    t.equal(ranked.length, scored.size);
    await using model = await Model.load(summary.model, { threads: 1 });
    const passes = await model.score(
      ranked.map(({ promptIds, responses }) => ({ promptIds, responses: responses.map(({ ids }) => ids) })),
    );
    const taus: number[] = [];
    ranked.forEach((group, index) => {
      const before = scored.get(group.id)!;
      t.strictSame(group.previousRewards, before.rewards);
      group.rewards!.forEach((reward, i) => {
        const own = 0.1 * (passes[index]!.logprobs[i]! - before.baseLogprobs![i]!);
        if (Math.abs(reward - own) > 1e-5) t.fail(`${group.id} ${i}: ${reward}, expected ${own}`);
      });
      const tau = kendallTau(group.rewards!, group.previousRewards!);
      t.equal(group.tau, Number.isNaN(tau) ? null : tau);
      if (!Number.isNaN(tau)) taus.push(tau);
    });
    const { consistency } = summary.final!;
    t.equal(consistency.groups, taus.length);
    t.ok(Math.abs(consistency.tau! - taus.reduce((sum, tau) => sum + tau, 0) / taus.length) < 1e-12);
  },
);

t.test('it changes nothing of the run, and may be added to one that is finished', async (t) => {
  const plain = { ...base, iterations: 2, output: join(folder, 'plain') };
  const without = await runCream(plain).result;
  t.notOk(without.final);
  t.notOk(existsSync(join(plain.output, 'iteration-2', 'final-ranks.jsonl')));
  const files = Object.entries(digests(config.output)).filter(
    ([name]) => !name.endsWith('final-ranks.jsonl'),
  );
  t.strictSame(Object.entries(digests(plain.output)), files);
  const added = await runCream({ ...plain, consistency: { final: true } }).result;
  t.same(added.final, summary.final);
  const ranks = (output: string) => readFileSync(join(output, 'iteration-2', 'final-ranks.jsonl'), 'utf8');
  t.equal(ranks(plain.output), ranks(config.output));
  t.same((await runCream(plain).result).final, summary.final, 'what is known stays');
});

t.test('without iterations there is nothing to rank', async (t) => {
  t.throws(() => runCream({ ...config, iterations: 0 }), {
    code: 'INVALID_CONFIG',
    message: /consistency\.final has no effect with iterations: 0/,
  });
});
