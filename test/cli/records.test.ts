import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { cream, jsonLines } from '../helpers/cream.js';

// rank and pair: the commands without a model.

const ROWS = [
  { id: 'same', rewards: [1, 2, 3, 4, 5], previousRewards: [10, 20, 30, 40, 50], note: { kept: true } },
  { id: 'reversed', rewards: [1, 2, 3, 4, 5], previousRewards: [5, 4, 3, 2, 1] },
  // tau-b with ties: 8 concordant, 0 discordant of 10 pairs, one tie on each side: 8 / 9.
  { id: 'tied', rewards: [1, 1, 2, 3, 4], previousRewards: [1, 2, 3, 4, 4] },
  { id: 'constant', rewards: [1, 1, 1], previousRewards: [3, 2, 1] },
  { id: 'infinite', rewards: [1, null, 2], previousRewards: [3, 2, 1] },
  { id: 8, rewards: [1], previousRewards: [3] },
];
const text = (rows: readonly object[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join('');

interface Ranked {
  id: string;
  tau: number | null;
  consistency: number | null;
  undefinedBecause?: string;
  note?: unknown;
}

t.test('rank gives tau and consistency, keeps the fields and says why a group has none', async (t) => {
  const directory = t.testdir({ 'in.jsonl': text(ROWS) });
  const { code, stdout, stderr } = await cream(['rank', '--input', 'in.jsonl', '--output', 'out.jsonl'], {
    cwd: directory,
  });
  t.equal(code, 0, stderr);
  t.equal(stdout, '');
  const ranked = jsonLines<Ranked>(await readFile(join(directory, 'out.jsonl'), 'utf8'));
  t.strictSame(
    ranked.map(({ id, tau, consistency, undefinedBecause }) => [id, tau, consistency, undefinedBecause]),
    [
      ['same', 1, 1, undefined],
      ['reversed', -1, 0, undefined],
      ['tied', 8 / 9, 17 / 18, undefined],
      ['constant', null, null, 'policy-constant'],
      ['infinite', null, null, 'not-finite'],
      [8, null, null, 'fewer-than-two'],
    ],
  );
  t.strictSame(ranked[0]!.note, { kept: true });
  t.match(stderr, /C 0\.648 .*over 3 of 6 groups/, 'the mean is over the groups that have a C');
  t.match(stderr, 'without C: 1 policy-constant, 1 not-finite, 1 fewer-than-two');
});

t.test('rank reads standard input, takes other metrics and rules, and is quiet on request', async (t) => {
  const stdin = text(ROWS.slice(0, 3));
  const [spearman, topOrder, floor] = await Promise.all([
    cream(['rank', '-i', '-', '--metric', 'spearman', '-q'], { stdin }),
    cream(['rank', '-i', '-', '--metric', 'toporder', '-q'], { stdin }),
    cream(['rank', '-i', '-', '--rule', 'floor'], { stdin }),
  ]);
  t.equal(spearman.stderr, '');
  const rho = jsonLines<Ranked>(spearman.stdout).map(({ tau }) => tau!);
  t.ok(Math.abs(rho[2]! - 0.9473684210526317) < 1e-12, `scipy.stats.spearmanr, got ${rho[2]}`);
  t.strictSame(
    jsonLines<Ranked>(topOrder.stdout).map(({ consistency }) => consistency),
    [1, 0, 0],
    'with ties the sets of best and of worst responses must agree',
  );
  t.strictSame(
    jsonLines<Ranked>(floor.stdout).map(({ consistency }) => consistency),
    [1, 0.5, 17 / 18],
  );
});

t.test('rank shows the null band of random rankings', async (t) => {
  const { stderr } = await cream(['rank', '-i', '-'], { stdin: text(ROWS.slice(0, 3)) });
  // n = 5: tau has deviation 0.408, C half of it.
  t.match(stderr, 'random rankings: C 0.296 to 0.704');
});

t.test('bad rows are refused with file and line, and nothing is written', async (t) => {
  const directory = t.testdir();
  const cases: readonly (readonly [row: string, said: RegExp])[] = [
    ['{"id":"a","rewards":[1,2]}', /in\.jsonl:1: previousRewards is missing/],
    ['{"rewards":[1,2],"previousRewards":[1]}', /in\.jsonl:1: there are 2 rewards but 1 previousRewards/],
    ['{"rewards":[1,"2"],"previousRewards":[1,2]}', /in\.jsonl:1: rewards must hold numbers, got "2"/],
    ['{"rewards":1,"previousRewards":[1,2]}', /in\.jsonl:1: rewards must be a list/],
    ['{"rewards":[1,2],"previousRewards":[1,2],"responses":["x"]}', /1 responses but 2 rewards/],
    ['not json', /in\.jsonl:1: the line is not valid JSON/],
    ['', /in\.jsonl: has no rows/],
  ];
  for (const [row, said] of cases) {
    await writeFile(join(directory, 'in.jsonl'), `${row}\n`);
    const { code, stdout, stderr } = await cream(['rank', '-i', 'in.jsonl', '-o', 'out.jsonl'], {
      cwd: directory,
    });
    t.equal(code, 4, row);
    t.match(stderr, said);
    t.equal(stdout, '');
    await t.rejects(readFile(join(directory, 'out.jsonl')), 'no output');
  }
  const missing = await cream(['rank', '-i', 'nothing.jsonl'], { cwd: directory });
  t.equal(missing.code, 4);
  t.match(missing.stderr, 'nothing.jsonl: no such file');
  const unwritable = await cream(['rank', '-i', 'in.jsonl', '-o', '/proc/none/out.jsonl'], {
    cwd: directory,
  });
  t.equal(unwritable.code, 1, unwritable.stderr);
  t.match(unwritable.stderr, '/proc/none');
});

const GROUPS = [
  { id: 'p', consistency: 0.9, tau: 0.8, rewards: [0.5, 2, -1], previousRewards: [0, 1, 2] },
  { id: 'q', consistency: 0.3, tau: -0.4, rewards: [3, 1, 2], previousRewards: [0, 1, 2] },
  {
    id: 'r',
    consistency: null,
    tau: null,
    undefinedBecause: 'policy-constant',
    rewards: [1, 1, 1],
    previousRewards: [0, 1, 2],
  },
].map((group) => ({
  ...group,
  prompt: 'question',
  promptIds: [1, 5],
  responses: [
    { ids: [6, 2], text: 'a' },
    { ids: [7, 2], text: 'b' },
    { ids: [8, 2], text: 'c' },
  ],
  logprobs: [-1, -2, -3],
}));

interface Pair {
  id: string;
  chosen: string;
  rejectedIds: number[];
  weight: number;
  referenceChosenLogprob: number;
}

t.test('pair takes best and worst of every ranked group and accounts for the others', async (t) => {
  const run = (...options: string[]) => cream(['pair', '-i', '-', ...options], { stdin: text(GROUPS) });
  const [dataset, sample, constant, strict] = await Promise.all([
    run(),
    run('--weight', 'sample', '-q'),
    run('--weight', 'constant', '--constant', '0.8', '-q'),
    run('--min-consistency', '0.5', '-q'),
  ]);
  t.equal(dataset.code, 0, dataset.stderr);
  const pairs = jsonLines<Pair>(dataset.stdout);
  t.strictSame(
    pairs.map(({ id, chosen, rejectedIds, referenceChosenLogprob }) => [
      id,
      chosen,
      rejectedIds,
      referenceChosenLogprob,
    ]),
    [
      ['p', 'b', [8, 2], -2],
      ['q', 'a', [7, 2], -1],
    ],
  );
  t.ok(
    pairs.every(({ weight }) => Math.abs(weight - 0.6) < 1e-12),
    'the mean C of the data set',
  );
  t.match(dataset.stderr, '2 pairs of 3 groups, mean C 0.600\nwithout a pair: 1 policy-constant');
  t.strictSame(
    jsonLines<Pair>(sample.stdout).map(({ weight }) => weight),
    [0.9, 0.3],
  );
  t.strictSame(
    jsonLines<Pair>(constant.stdout).map(({ weight }) => weight),
    [0.8, 0.8],
  );
  t.strictSame(
    jsonLines<Pair>(strict.stdout).map(({ id }) => id),
    ['p'],
  );
});

t.test('pair refuses settings without effect, rows that were not ranked, and an empty result', async (t) => {
  const [constant, missing, unranked, none] = await Promise.all([
    cream(['pair', '-i', '-', '--constant', '0.5'], { stdin: text(GROUPS) }),
    cream(['pair', '-i', '-', '--weight', 'constant'], { stdin: text(GROUPS) }),
    cream(['pair', '-i', '-'], {
      stdin: text(GROUPS.map((group) => ({ ...group, consistency: null, undefinedBecause: null }))),
    }),
    cream(['pair', '-i', '-'], { stdin: text(GROUPS.slice(2)) }),
  ]);
  t.equal(constant.code, 2);
  t.match(constant.stderr, '--constant has no effect with --weight dataset');
  t.equal(missing.code, 2);
  t.equal(unranked.code, 4);
  t.match(unranked.stderr, 'stdin:1: consistency is missing; cream rank adds it');
  t.equal(none.code, 4);
  t.match(none.stderr, '1 groups made no pair: 1 policy-constant [NO_PAIRS]');
});

t.test('pair takes the options that compose, and says what they decided', async (t) => {
  const row = (rewards: number[], extra: object = {}) => ({
    id: 'a',
    prompt: 'x',
    promptIds: [1],
    responses: rewards.map((_, i) => ({ ids: Array(rewards.length - i).fill(i + 3), text: `r${i}` })),
    rewards,
    previousRewards: [3, 2, 1],
    logprobs: [-1, -2, -3],
    tau: 1,
    consistency: 1,
    ...extra,
  });
  const directory = t.testdir({
    'base.jsonl': text([{ ...row([-1, -5]), logprobs: [-7, -8] }].map(({ previousRewards: _, ...r }) => r)),
  });
  const run = (rewards: number[], options: string[], extra: object = {}) =>
    cream(['pair', '-i', '-', '--weight', 'one', ...options], {
      stdin: text([row(rewards, extra)]),
      cwd: directory,
    });
  const [band, base, judge, disagree, drop] = await Promise.all([
    run([10, 9.5, 0], ['--length-band', '0.1']),
    run([3, 2, 1], ['--base-responses', 'base.jsonl']),
    run([3, 2, 1], ['--agreement', 'judge'], { judgeRewards: [4, 0, 1.5], baseLogprobs: [-4, -5, -6] }),
    run([3, 2, 1], ['--agreement', 'judge'], { judgeRewards: [1, 0, 2] }),
    run([3, 3, 1], ['--ties', 'drop']),
  ]);
  t.match(jsonLines<Pair>(band.stdout), [{ chosen: 'r1', rejectedIds: [5] }], band.stderr);
  t.match(band.stderr, 'among the pairs: 1 moved by length');
  t.match(
    jsonLines<Pair>(base.stdout),
    [{ chosen: 'r0', rejectedFrom: 'base', rejectedReward: -5, referenceRejectedLogprob: -8 }],
    base.stderr,
  );
  t.match(base.stderr, '1 rejected from the base model');
  t.match(jsonLines<Pair>(judge.stdout), [
    { judgeMargin: 2.5, baseChosenLogprob: -4, baseRejectedLogprob: -6 },
  ]);
  t.match(disagree.stderr, 'made no pair: 1 rewards-disagree [NO_PAIRS]');
  t.match(drop.stderr, 'made no pair: 1 tied-extreme [NO_PAIRS]');
  const refused = await Promise.all([
    run([3, 2, 1], ['--ties', 'margin']),
    run([3, 2, 1], ['--length-band', '0.2', '--base-responses', 'base.jsonl']),
    run([3, 2, 1], ['--length-band', '0.2', '--ties', 'drop']),
  ]);
  t.strictSame(
    refused.map(({ code }) => code),
    [2, 2, 2],
  );
});

t.test('rank compares with every earlier policy where rows have a history', async (t) => {
  const rows = [{ ...ROWS[0], history: [{ model: 1, logprobs: [0, 0, 0, 0, 0], rewards: [5, 4, 3, 2, 1] }] }];
  const run = (history: unknown, ...options: string[]) =>
    cream(['rank', '-i', '-', ...options], { stdin: text(rows.map((row) => ({ ...row, history }))) });
  const all = await run(rows[0]!.history, '--history', 'all');
  t.match(
    jsonLines(all.stdout),
    [{ tau: 0, consistency: 0.5, historyTau: [{ model: 1, tau: -1 }] }],
    all.stderr,
  );
  t.match(all.stderr, 'M1: mean tau -1.000 over 1 groups');
  const bad = await run([{ model: 1, rewards: [1] }], '--history', 'all');
  t.equal(bad.code, 4);
  t.match(bad.stderr, 'stdin:1: history[0] must be {model, rewards}, a whole number and 5 numbers');
});
