import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { built } from '../helpers/built.js';
import { uniform } from '../helpers/random.js';
import { readGolden } from '../helpers/golden.js';

// Parquet files, made by pyarrow, hold the same records as JSON lines. The compiled package, whose reader starts faster.

const { loadPrompts, loadTask } = built;
const compiled = new URL('../../dist/lib/data/jsonl.js', import.meta.url);
const { field, readJsonl } = (await import(compiled.href)) as typeof import('../../lib/data/jsonl.js');
const foreign = new URL('../../dist/lib/data/foreign-value.js', import.meta.url);
const { ForeignValue } = (await import(foreign.href)) as typeof import('../../lib/data/foreign-value.js');
t.setTimeout(240_000);

const golden = (name: string) => join(import.meta.dirname, '..', 'golden', 'parquet', `${name}.parquet`);
const { tasks } = readGolden<{ tasks: Record<string, { rows: Record<string, unknown>[] }> }>('options');

t.test('the same rows as JSON lines: nested columns, several row groups, every compression', async (t) => {
  for (const [name, { rows }] of Object.entries(tasks)) {
    const { records } = await readJsonl(golden(name), ({ value }) => ({ ...value }));
    t.strictSame(records, rows, name);
    const path = join(t.testdir({}), `${name}.jsonl`);
    writeFileSync(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
    t.strictSame((await loadTask(golden(name))).records, (await loadTask(path)).records, name);
  }
});

t.test('GSM8K as published, ids by row', async (t) => {
  const { records } = await loadTask(golden('gsm8k'));
  t.strictSame(
    records.map(({ id, label }) => [id, label]),
    [
      ['gsm8k-1', '6'],
      ['gsm8k-2', '1,250'],
    ],
  );
});

/** As the golden file writes it: what has no form in JSON by its text. */
function plain(value: unknown): unknown {
  if (value instanceof ForeignValue) return { foreign: value.text };
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]));
}

t.test('every type of pyarrow, polars, DuckDB, pandas and datasets keeps its value', async (t) => {
  const { files } = readGolden<{ files: Record<string, object[]> }>('parquet-types');
  t.equal(Object.keys(files).length, 6);
  for (const [name, rows] of Object.entries(files)) {
    const { records } = await readJsonl(golden(`types-${name}`), ({ value }) => ({ ...value }));
    t.strictSame(records.map(plain), rows, name);
  }
});

t.test('what has no form in JSON is refused where it is used, by column and type', async (t) => {
  const { records } = await readJsonl(golden('types'), ({ value }) => ({ ...value }));
  t.match(records, [{ id: 1, prompt: 'a', none: null, nested: { deep: [1.5, null] } }]);
  t.match(await loadPrompts(golden('types')), { records: [{ id: '1', prompt: 'a' }] });
  t.match(await loadPrompts(golden('bytes')), { records: [{ id: '1', prompt: 'a' }] });
  // A whole number that no double holds is still a name.
  t.match(await loadPrompts(golden('large')), { records: [{ id: '1152921504606846977', prompt: 'a' }] });

  const reads: [string, string, RegExp][] = [
    [
      'arrow',
      'seconds',
      /:1: seconds is of another kind in the file, timestamp 2024-01-01 00:00:00; store it as the text/,
    ],
    ['arrow', 'bytes', /bytes is of another kind in the file, binary of 2 bytes/],
    ['pandas', 'when', /when is of another kind in the file, timestamp 2024-01-01 00:00:00/],
    ['polars', 'nan', /nan is of another kind in the file, double NaN/],
    ['duckdb', 'interval', /interval is of another kind in the file, interval of 12 bytes/],
  ];
  for (const [name, key, message] of reads) {
    const read = readJsonl(golden(`types-${name}`), (row) => ({ value: field(row, key) }));
    await t.rejects(read, { code: 'INVALID_DATA', message });
  }
});

t.test('a damaged file is an error of data whatever byte is wrong', async (t) => {
  const whole = readFileSync(golden('arc_easy'));
  const path = join(t.testdir({}), 'damaged.parquet');
  const random = uniform(7);
  let refused = 0;
  const attempt = async (bytes: Buffer) => {
    writeFileSync(path, bytes);
    try {
      await loadTask(path);
    } catch (error) {
      refused += 1;
      const { code, message } = error as { code?: string; message: string };
      if (code !== 'INVALID_DATA' || !message.startsWith(path)) t.fail(`${code}: ${message}`);
    }
  };
  for (let length = 4; length < whole.length; length += 797) await attempt(whole.subarray(0, length));
  for (let i = 0; i < 16; i++) {
    const bytes = Buffer.from(whole);
    for (let n = 1 + Math.floor(random() * 3); n > 0; n--) {
      bytes[4 + Math.floor(random() * (bytes.length - 4))] = Math.floor(random() * 256);
    }
    await attempt(bytes);
  }
  t.ok(refused > 4, `${refused} refused`);
});

t.test('reading can be cancelled', async (t) => {
  await t.rejects(loadTask(golden('arc_easy'), { signal: AbortSignal.abort() }), { code: 'ABORTED' });
});
