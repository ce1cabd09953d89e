import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { loadPairs } from '../../lib/data/datasets.js';
import { cream, jsonLines, writeLlama } from '../helpers/cream.js';

// `cream train` on pairs that teach nothing, or whose weight nobody knows.

const cwd = t.testdir();
const PARQUET = join(import.meta.dirname, '..', 'golden', 'parquet', 'undefined_consistency.parquet');
const pair = { prompt: 'abc', chosen: 'de', rejected: 'fgh' };
const write = (name: string, rows: readonly object[]) =>
  writeFile(join(cwd, name), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));

t.before(async () => {
  await writeLlama(join(cwd, 'model'));
});

interface Result {
  examples: number;
  leftOut: Record<string, number>;
  metrics: Record<string, number>;
}

let count = 0;
const train = async (input: string, ...options: string[]) => {
  count += 1;
  const line = ['train', '-m', 'model', '-i', input, '-o', `out-${count}`, '--threads', '1', '--json', '-q'];
  return cream([...line, ...options], { cwd });
};

t.test('a consistency of NaN or null is no agreement: the pair is left out, counted and told', async (t) => {
  await write('null.jsonl', [
    { ...pair, consistency: 0.25 },
    { ...pair, consistency: 0.75 },
    { ...pair, consistency: null },
    { ...pair, weight: null, consistency: 0.5 },
    { ...pair, weight: 0.5, consistency: null },
  ]);
  for (const [input, leftOut, mean] of [
    ['null.jsonl', 2, 0.5],
    [PARQUET, 2, 2 / 3],
  ] as const) {
    const { code, stdout, stderr } = await train(input);
    t.equal(code, 0, stderr);
    const result = JSON.parse(stdout) as Result;
    t.strictSame(result.leftOut, { 'undefined-consistency': leftOut });
    t.ok(Math.abs(result.metrics['cream/weight']! - mean) < 1e-6, `${result.metrics['cream/weight']}`);
    t.match(stderr, /^warning: 2 of \d pairs have a weight or consistency of null or NaN/, 'with -q too');
  }
  const [first, second, third] = (await loadPairs(PARQUET)).records;
  t.ok(Math.abs(first!.consistency! - 2 / 3) < 1e-12);
  t.ok(Number.isNaN(second!.consistency) && Number.isNaN(third!.consistency), 'NaN for callers too');
});

t.test('a weight that is no share is refused by its line', async (t) => {
  for (const [key, value] of [
    ['consistency', '"NaN"'],
    ['weight', '"0.5"'],
    ['weight', '1.01'],
    ['consistency', '-0.01'],
    ['weight', '1e999'],
    ['consistency', 'true'],
    ['weight', '[]'],
  ] as const) {
    const row = `${JSON.stringify(pair)}\n${JSON.stringify(pair).slice(0, -1)},"${key}":${value}}\n`;
    await writeFile(join(cwd, 'bad.jsonl'), row);
    await t.rejects(
      loadPairs(join(cwd, 'bad.jsonl')),
      { code: 'INVALID_DATA', message: new RegExp(`bad\\.jsonl:2: .*${key}`) },
      value,
    );
  }
  await writeFile(join(cwd, 'bad.jsonl'), `${JSON.stringify(pair).slice(0, -1)},"weight":NaN}\n`);
  const { code, stderr } = await train('bad.jsonl');
  t.equal(code, 4);
  t.match(stderr, 'bad.jsonl:1: the line is not valid JSON');
});

t.test(
  'equal responses are left out, as text and as tokens; where none is left it is an error',
  async (t) => {
    await write('mixed.jsonl', [
      pair,
      { ...pair, rejected: pair.chosen },
      { ...pair, chosenIds: [68, 69, 2], rejectedIds: [68, 69, 2] },
      { ...pair, rejected: pair.chosen, chosenIds: [68, 69, 2], rejectedIds: [68, 69] },
    ]);
    const { code, stdout, stderr } = await train('mixed.jsonl', '--metrics', 'mixed-steps.jsonl');
    t.equal(code, 0, stderr);
    t.match(JSON.parse(stdout), { examples: 2, leftOut: { identical: 2 } }, 'a cut response is another one');
    t.match(stderr, 'warning: 2 of 4 pairs have two equal responses');
    t.equal(jsonLines(await readFile(join(cwd, 'mixed-steps.jsonl'), 'utf8')).length, 1);

    await write('same.jsonl', [
      { ...pair, rejected: pair.chosen },
      { ...pair, consistency: null },
    ]);
    const none = await train('same.jsonl');
    t.equal(none.code, 4);
    t.match(
      none.stderr,
      /^error: same\.jsonl: none of 2 pairs can be trained: 1 identical, 1 undefined-consistency \[NO_PAIRS\]\n$/,
    );
    t.notOk((await readdir(cwd)).includes(`out-${count}`));
  },
);
