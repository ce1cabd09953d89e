import { createReadStream, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t from 'tap';
import { inChunks } from '../../lib/run/chunks.js';
import { recordLines } from '../../lib/run/records.js';
import { fileRecord, writeFileDurably } from '../../lib/run/storage.js';

// Records that are longer together than a string of V8 can be (2^29 - 24 characters).

t.setTimeout(600_000);

const COUNT = 600;
const text = 'x'.repeat(2 ** 20);
const record = (id: number) => ({ id: `r${id}`, text });
function* records() {
  for (let id = 0; id < COUNT; id++) yield record(id);
}

t.test(
  'records beyond 2^29 characters are written with the digest of the file, in bounded memory',
  async (t) => {
    const path = join(t.testdir(), 'large.jsonl');
    t.throws(() => [...recordLines(records())].join(''), RangeError, 'one string cannot hold them');
    let largest = 0;
    function* watched() {
      for (const line of recordLines(records())) {
        largest = Math.max(largest, process.memoryUsage().rss);
        yield line;
      }
    }
    const before = process.memoryUsage().rss;
    const written = await writeFileDurably(path, watched());
    t.ok(written.bytes > 2 ** 29);
    t.ok(largest - before < 400e6, `${Math.round((largest - before) / 1e6)} MB above the start`);
    t.strictSame(written, await fileRecord(path));
    let lines = 0;
    for await (const line of createInterface({ input: createReadStream(path) })) {
      if (line !== JSON.stringify(record(lines))) t.fail(`line ${lines + 1}`);
      lines += 1;
    }
    t.equal(lines, COUNT);
    rmSync(path);
  },
);

t.test('a chunk of that size is written, found again and read', async (t) => {
  const folder = join(t.testdir(), 'chunks');
  const items = Array.from({ length: COUNT }, (_, id) => id);
  let calls = 0;
  const work = async (some: readonly number[]) => {
    calls += 1;
    return some.map(record);
  };
  for (let pass = 0; pass < 2; pass++) {
    const found = await inChunks(items, work, { folder, chunkSize: COUNT });
    t.equal(found.length, COUNT);
    t.strictSame(found.at(-1)!.id, `r${COUNT - 1}`);
  }
  t.equal(calls, 1);
  rmSync(folder, { recursive: true });
});
