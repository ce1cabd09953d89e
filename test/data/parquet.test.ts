import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { built } from '../helpers/built.js';
import { uniform } from '../helpers/random.js';
import { readGolden } from '../helpers/golden.js';

// Parquet files, made by pyarrow, hold the same records as JSON lines. The compiled package, whose reader starts faster.

const { loadPrompts, loadTask } = built;
const compiled = new URL('../../dist/lib/data/jsonl.js', import.meta.url);
const { readJsonl } = (await import(compiled.href)) as typeof import('../../lib/data/jsonl.js');
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

t.test(
  'values as JSON has them; what is not text is left out; what no number holds is refused',
  async (t) => {
    const { records } = await readJsonl(golden('types'), ({ value }) => ({ ...value }));
    t.strictSame(records, [
      { id: 1, prompt: 'a', at: '2026-11-23T00:00:00.000Z', none: null, nested: { deep: [1.5, null] } },
    ]);
    const [bytes] = (await readJsonl(golden('bytes'), ({ value }) => ({ ...value }))).records;
    t.strictSame(bytes, { id: 1, prompt: 'a' });
    await t.rejects(loadPrompts(golden('large')), {
      code: 'INVALID_DATA',
      message: /large\.parquet: .*row 1, column id: the whole number 1152921504606846977 does not fit/,
    });
  },
);

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
