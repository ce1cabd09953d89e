import t from 'tap';
import { asMarkdown } from '../../lib/compare/markdown.js';
import type { Measurement } from '../../lib/compare/measure.js';
import { accuracyRows, type Comparison, consistencyRows } from '../../lib/compare/results.js';
import { differenceText, estimateText, tablesOf } from '../../lib/compare/tables.js';
import type { MeanEstimate } from '../../lib/statistics.js';

// The tables of made-up measurements.

const accuracyOf = (accuracy: number, total = 100) => ({
  accuracy,
  correct: Math.round(accuracy * total),
  total,
  interval: [accuracy - 0.1, accuracy + 0.1] as [number, number],
});

/** model -> task -> accuracy */
const measured = (models: Record<string, Record<string, number>>, tau = 0.5): Measurement => {
  const groups = (mean: number): MeanEstimate => ({
    mean,
    interval: [mean - 0.1, mean + 0.1],
    by: 'bootstrap',
    n: 9,
  });
  return {
    accuracies: new Map(
      Object.entries(models).map(([model, tasks]) => [
        model,
        new Map(Object.entries(tasks).map(([task, value]) => [task, accuracyOf(value)])),
      ]),
    ),
    agreements: ['M1', 'M2'].map((previous, i) => ({
      policy: `M${i + 2}`,
      previous,
      groups: 9,
      rankingAccuracy: null,
      tau: groups(tau),
      spearman: groups(tau),
      topOrder: groups(0),
      consistency: groups((tau + 1) / 2),
    })),
    problems: new Map(),
  };
};

const close = (a: number, b: number) => Math.abs(a - b) < 1e-12;

t.test('cells are means over seeds, differences are paired by seed', async (t) => {
  const measurements = new Map([
    [
      'a',
      new Map([
        [1, measured({ M0: { x: 0.1 }, M2: { x: 0.3 } })],
        [2, measured({ M0: { x: 0.1 }, M2: { x: 0.7 } })],
      ]),
    ],
    [
      'b',
      new Map([
        [1, measured({ M0: { x: 0.1 }, M2: { x: 0.4 } })],
        [2, measured({ M0: { x: 0.1 }, M2: { x: 0.8 } })],
      ]),
    ],
  ]);
  const rows = accuracyRows(['a', 'b'], [1, 2], measurements, true);
  t.strictSame(
    rows.map(({ name, model }) => [name, model]),
    [
      [null, 'M0'],
      ['a', 'M2'],
      ['b', 'M2'],
    ],
  );
  const cell = rows[2]!.cells['x']!;
  t.ok(close(cell.mean, 0.6));
  t.strictSame(cell.values, [0.4, 0.8]);
  t.ok(cell.interval![1] - cell.interval![0] > 4, 'two seeds far apart say little');
  t.ok(close(cell.difference!.mean, 0.1));
  t.ok(close(cell.difference!.interval![0], 0.1), 'but b is above a by the same at both');
  t.notOk(rows[1]!.cells['x']!.difference);
});

t.test('a mean over tasks counts them alike, for greedy and sampled answers each', async (t) => {
  const tasks = { x: 0.2, y: 0.6, 'x sampled': 0.1, 'y sampled': 0.3, 'z sampled': 0.5 };
  const rows = accuracyRows(['a'], [1], new Map([['a', new Map([[1, measured({ M1: tasks })]])]]), true);
  t.strictSame(Object.keys(rows[0]!.cells), [...Object.keys(tasks), 'mean', 'mean sampled']);
  t.ok(close(rows[0]!.cells['mean']!.mean, 0.4));
  t.ok(close(rows[0]!.cells['mean sampled']!.mean, 0.3));
  const named = accuracyRows(
    ['a'],
    [1],
    new Map([['a', new Map([[1, measured({ M1: { mean: 0.2, y: 0.6 } })]])]]),
    true,
  );
  t.strictSame(Object.keys(named[0]!.cells), ['mean', 'y', 'mean-of-tasks']);
});

t.test('a run that is missing is left out of pairs and of nothing else', async (t) => {
  const one = (value: number) => measured({ M0: { x: 0.1 }, M2: { x: value } });
  const measurements = new Map([
    [
      'a',
      new Map([
        [1, one(0.3)],
        [2, one(0.5)],
        [3, one(0.7)],
      ]),
    ],
    [
      'b',
      new Map([
        [1, one(0.4)],
        [3, one(0.9)],
      ]),
    ],
  ]);
  const rows = accuracyRows(['a', 'b'], [1, 2, 3], measurements, true);
  t.strictSame(rows[0]!.cells['x']!.values, [0.1, 0.1, 0.1], 'the shared row is that with the most runs');
  const cell = rows[2]!.cells['x']!;
  t.strictSame(cell.values, [0.4, null, 0.9]);
  t.equal(cell.n, 2);
  t.ok(close(cell.mean, 0.65));
  t.ok(close(cell.difference!.mean, 0.15));
  t.equal(consistencyRows(['a', 'b'], [1, 2, 3], measurements)[3]!.differences!.tau!.n, 2);
  t.strictSame(accuracyRows(['a', 'b'], [1, 2, 3], new Map(), true), []);
  t.strictSame(consistencyRows(['a', 'b'], [1, 2, 3], new Map()), []);
});

t.test('models that are not the same are not shown as one, even with the same numbers', async (t) => {
  const one = () => new Map([[1, measured({ M1: { x: 0.1 } })]]);
  const measurements = new Map([
    ['a', one()],
    ['b', one()],
  ]);
  t.equal(accuracyRows(['a', 'b'], [1], measurements, true).length, 1);
  t.equal(accuracyRows(['a', 'b'], [1], measurements, false).length, 2);
});

t.test('with one seed intervals are over problems, joined by their ids', async (t) => {
  const withProblems = (values: Record<string, number>) => {
    const { accuracies, ...rest } = measured({ M2: { x: 0.5 } });
    return {
      ...rest,
      accuracies,
      problems: new Map([['M2', new Map([['x', new Map(Object.entries(values))]])]]),
    };
  };
  const measurements = new Map([
    ['a', new Map([[1, withProblems({ p: 1, q: 0, r: 0, s: 1 })]])],
    ['b', new Map([[1, withProblems({ s: 1, r: 1, q: 1, p: 1 })]])],
  ]);
  const [first, second] = accuracyRows(['a', 'b'], [1], measurements, true);
  t.equal(first!.cells['x']!.by, 'wilson');
  const { difference } = second!.cells['x']!;
  t.equal(difference!.mean, 0.5);
  t.equal(difference!.by, 'normal');
  // Differences 0, 1, 1, 0: variance 1/3.
  t.ok(close(difference!.interval![1], 0.5 + 1.959963984540054 * Math.sqrt(1 / 3 / 4)));
  t.equal(consistencyRows(['a', 'b'], [1], measurements)[3]!.tau.by, 'bootstrap');
});

t.test('text: a mark where 0 lies outside; nothing is made up', async (t) => {
  const estimate = (mean: number, half: number): MeanEstimate => ({
    mean,
    interval: [mean - half, mean + half],
    by: 'student-t',
    n: 3,
  });
  t.equal(estimateText(estimate(0.5, 0.0321)), '0.500 ±0.032');
  t.equal(estimateText({ mean: 0.5, interval: null, by: null, n: 1 }), '0.500');
  t.equal(estimateText(null), '-');
  t.equal(differenceText(estimate(0.05, 0.02)), '+0.050 ±0.020 *');
  t.equal(differenceText(estimate(-0.05, 0.06)), '-0.050 ±0.060');
});

t.test('Markdown shows names and messages as they are', async (t) => {
  const comparison: Comparison = {
    version: 1,
    directory: '/x',
    isComplete: false,
    seeds: [1, 2],
    contestants: [{ name: 'a_b' }, { name: 'c' }],
    settings: { 'reward.module': { a_b: '/x/|evil|<script>.mjs', c: 'not set' } },
    warnings: ['c with seed 2 is left out: <img src=x> | # nothing\n\n# heading'],
    runs: [],
    accuracy: [],
    consistency: [],
  };
  const text = asMarkdown(comparison);
  t.match(text, '# a\\_b, c\n');
  t.notMatch(text, /(?<!\\)<(script|img)/);
  t.notMatch(text, /\n# heading/);
  t.match(text, '| reward.module | /x/\\|evil\\|\\<script\\>.mjs | not set |');
  t.equal(tablesOf(comparison).length, 1);
});
