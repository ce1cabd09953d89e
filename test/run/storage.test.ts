import { execFileSync, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { CreamError } from '../../lib/errors.js';
import { MetricsLog } from '../../lib/run/metrics.js';
import { inChunks } from '../../lib/run/chunks.js';
import { readRecords, recordLines } from '../../lib/run/records.js';
import { RunDir } from '../../lib/run/run-dir.js';
import {
  fileRecord,
  type Files,
  ioError,
  listFiles,
  makeFolder,
  publishFolder,
  removeTemporaries,
  sha256,
  writeFileDurably,
} from '../../lib/run/storage.js';

/**
 * A file system in memory that keeps what a disk would keep after a power loss: contents that were synced, and names
 * whose folder was synced.
 */
class VolatileFiles {
  #names = new Map<string, object>(); // what the folders hold now
  #durable = new Map<string, object>(); // what they hold after a power loss
  #contents = new Map<object, { now: string; synced: string }>();
  /** Calls left until the power fails. */
  callsLeft = Number.POSITIVE_INFINITY;

  #call(): void {
    if (this.callsLeft-- <= 0) throw new Error('power loss');
  }

  readonly files = {
    open: async (path: string, flags: string) => {
      this.#call();
      if (flags === 'w') {
        const file = {};
        this.#names.set(path, file);
        this.#contents.set(file, { now: '', synced: '' });
      }
      const file = this.#names.get(path);
      return {
        writeFile: async (data: Uint8Array) => {
          this.#call();
          this.#contents.get(file!)!.now += Buffer.from(data).toString();
        },
        sync: async () => {
          this.#call();
          if (file !== undefined) {
            const content = this.#contents.get(file)!;
            content.synced = content.now;
          } else {
            for (const key of this.#durable.keys()) if (key.startsWith(`${path}/`)) this.#durable.delete(key);
            for (const [key, value] of this.#names)
              if (key.startsWith(`${path}/`)) this.#durable.set(key, value);
          }
        },
        close: async () => undefined,
      };
    },
    rename: async (from: string, to: string) => {
      this.#call();
      this.#names.set(to, this.#names.get(from)!);
      this.#names.delete(from);
    },
    rm: async (path: string) => {
      this.#call();
      this.#names.delete(path);
    },
  } as unknown as Files;

  afterPowerLoss(path: string): string | undefined {
    const file = this.#durable.get(path);
    return file && this.#contents.get(file)!.synced;
  }

  read(path: string): string | undefined {
    const file = this.#names.get(path);
    return file && this.#contents.get(file)!.now;
  }
}

// Two pieces, each written by a call of its own.
const PIECES = ['n'.repeat(1 << 20), 'ew'];
const powerLoss = async (t: Test, content: string | string[]) => {
  const expected = [content].flat().join('');
  const seen = new Set<string>();
  for (let calls = 0; ; calls++) {
    const disk = new VolatileFiles();
    await writeFileDurably('/run/a', 'old', disk.files);
    t.equal(disk.afterPowerLoss('/run/a'), 'old');
    disk.callsLeft = calls;
    const isWritten = await writeFileDurably('/run/a', content, disk.files).then(
      () => true,
      () => false,
    );
    const found = disk.afterPowerLoss('/run/a');
    t.ok(found === 'old' || found === expected, `after ${calls} calls: ${found?.length} characters`);
    seen.add(found!);
    if (!isWritten) continue;
    t.ok(found === expected, 'a write that was reported is durable');
    break;
  }
  t.equal(seen.size, 2, 'both were seen');
};
t.test('power loss at any instant leaves the old content or the new one', (t) => powerLoss(t, 'new'));
t.test('the same where the content comes in pieces', (t) => powerLoss(t, PIECES));

t.test(
  'content in pieces has the digest and the bytes of the whole, and a failing source leaves the old',
  async (t) => {
    const folder = t.testdir({ a: 'old' });
    const path = join(folder, 'a');
    // A surrogate pair in two pieces of text is one character of the file; 3 MB take several writes.
    const pieces = ['\u{1F600}'.repeat(300_000), 'ä\n', '', 'x'.repeat(1_800_000), '\n'];
    const whole = pieces.join('');
    const expected = { sha256: sha256(whole), bytes: Buffer.byteLength(whole) };
    async function* later() {
      yield* pieces;
    }
    for (const content of [whole, Buffer.from(whole), pieces, later()]) {
      t.strictSame(await writeFileDurably(path, content), expected);
      t.strictSame(await fileRecord(path), expected);
    }
    function* failing() {
      yield 'x'.repeat(2_000_000);
      throw new CreamError('ABORTED', 'stopped');
    }
    await t.rejects(writeFileDurably(path, failing()), { code: 'ABORTED' });
    t.strictSame(await fileRecord(path), expected);
    t.strictSame(readdirSync(folder), ['a']);
  },
);

t.test('a write that fails is an IO error with path and bytes, and the old file stays', async (t) => {
  const folder = t.testdir({ a: 'old' });
  t.match(await writeFileDurably(join(folder, 'a'), 'newer'), { bytes: 5, sha256: sha256('newer') });
  mkdirSync(join(folder, '.tmp-b')); // cannot be opened for writing
  await t.rejects(writeFileDurably(join(folder, 'b'), 'xyz'), { code: 'IO', message: /b \(3 bytes\)/ });
  await t.rejects(writeFileDurably('/nowhere/a', 'x'), {
    code: 'IO',
    message: /\/nowhere\/a \(1 bytes\): there is no/,
  });
  const full = Object.assign(new Error('x'), { code: 'ENOSPC' });
  t.match(ioError('write', '/p', full, 9).message, 'cannot write /p (9 bytes): the disk is full [ENOSPC]');
});

/** A file system of 64 KiB, or false where mounting is not permitted. */
const smallDisk = (() => {
  const folder = mkdtempSync(join(tmpdir(), 'cream-small-disk-'));
  return spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', folder]).status === 0 && folder;
})();
const noSmallDisk = smallDisk === false ? 'mounting a small file system is not permitted' : false;

t.test('a full disk is named, and what was there stays', { skip: noSmallDisk }, async (t) => {
  const folder = smallDisk as string;
  try {
    await writeFileDurably(join(folder, 'a'), 'kept');
    await t.rejects(writeFileDurably(join(folder, 'a'), 'x'.repeat(200_000)), {
      code: 'IO',
      message: /\(200000 bytes\): the disk is full \[ENOSPC\]/,
    });
    t.equal(readFileSync(join(folder, 'a'), 'utf8'), 'kept');
    t.strictSame(readdirSync(folder), ['a']);
  } finally {
    execFileSync('umount', [folder]);
  }
});

t.test('folders are published whole, listed and cleaned', async (t) => {
  const folder = t.testdir({
    '.tmp-new': { 'a.txt': '1', sub: { 'b.txt': '2', '.tmp-x': '3' } },
    old: { gone: '1' },
  });
  await publishFolder(join(folder, '.tmp-new'), join(folder, 'old'));
  t.strictSame(await listFiles(folder), ['old/a.txt', 'old/sub/.tmp-x', 'old/sub/b.txt']);
  await removeTemporaries(folder);
  t.strictSame(await listFiles(folder), ['old/a.txt', 'old/sub/b.txt']);
  await makeFolder(join(folder, 'x/y/z'));
  t.ok(existsSync(join(folder, 'x/y/z')));
  await t.rejects(makeFolder(join(folder, 'old/a.txt/z')), { code: 'IO' });
});

t.test('records keep every number, and NaN stays NaN', async (t) => {
  const folder = t.testdir({});
  const path = join(folder, 'r.jsonl');
  const records = [{ id: 'a', rewards: [0.1 + 0.2, Number.NaN, -1e-300], text: 'ä\u2028\n' }];
  writeFileSync(path, [...recordLines(records)].join(''));
  const read = await readRecords<{ rewards: number[]; text: string }>(path);
  t.equal(read[0]?.rewards[0], 0.1 + 0.2);
  t.ok(Number.isNaN(read[0]?.rewards[1]));
  t.equal(read[0]?.rewards[2], -1e-300);
  t.equal(read[0]?.text, 'ä\u2028\n');
  appendFileSync(path, '{"half');
  await t.rejects(readRecords(path), { code: 'RUN_CORRUPT' });
});

t.test('chunks are done once, whatever the interruption, and damaged ones are done again', async (t) => {
  const folder = join(t.testdir({}), 'chunks');
  const items = [1, 2, 3, 4, 5, 6, 7];
  const calls: number[][] = [];
  const work = async (chunk: readonly number[]) => {
    calls.push([...chunk]);
    if (chunk.includes(5) && calls.length === 2) throw new Error('killed');
    return chunk.map((n) => ({ id: `${n}`, rewards: [n / 3] }));
  };
  const damaged: string[] = [];
  const options = { folder, chunkSize: 3, onDamaged: (file: string) => damaged.push(file) };
  await t.rejects(inChunks(items, work, options), /killed/);
  const done: [number, boolean][] = [];
  const results = await inChunks(items, work, { ...options, onChunk: (n, isNew) => done.push([n, isNew]) });
  t.strictSame(calls, [[1, 2, 3], [4, 5, 6], [4, 5, 6], [7]]);
  t.strictSame(done, [
    [3, false],
    [6, true],
    [7, true],
  ]);
  t.strictSame(
    results.map((r) => r.rewards[0]),
    items.map((n) => n / 3),
  );

  const second = readdirSync(folder).find((name) => name.startsWith('000001'))!;
  appendFileSync(join(folder, second), ' ');
  t.strictSame(await inChunks(items, work, options), results);
  t.strictSame(damaged, [join(folder, second)]);
  t.strictSame(calls.at(-1), [4, 5, 6]);

  const stopped = AbortSignal.abort();
  t.strictSame(await inChunks(items, work, { ...options, signal: stopped }), results, 'all is done already');
  await t.rejects(inChunks([...items, 8, 9, 10], work, { ...options, signal: stopped }), { code: 'ABORTED' });
});

t.test('a manifest holds by content: changed files are refused, missing ones are done again', async (t) => {
  const folder = t.testdir({ 'a.txt': 'a', model: { 'w.bin': 'w', 'c.json': '{}' }, 'b.txt': 'b' });
  const dir = new RunDir(folder);
  t.strictSame(await dir.open(), []);
  const record = { seconds: 1, metricsBytes: 0, result: { n: 1 }, warnings: [] };
  await dir.commit('one', ['a.txt'], record);
  await dir.commit('two', ['model/'], record);
  await dir.commit('three', ['b.txt'], record);
  t.strictSame(Object.keys(dir.done('two')!.files), ['model/c.json', 'model/w.bin']);

  const again = new RunDir(folder);
  t.strictSame(await again.open(), []);
  t.strictSame(again.done('three'), { ...record, files: { 'b.txt': { sha256: sha256('b'), bytes: 1 } } });

  for (const [name, content] of [
    ['a.txt', 'A'],
    ['model/w.bin', 'ww'],
    ['model/w.bin', ''],
  ] as const) {
    const before = readFileSync(join(folder, name));
    writeFileSync(join(folder, name), content);
    await t.rejects(new RunDir(folder).open(), { code: 'RUN_CORRUPT', message: new RegExp(name) });
    writeFileSync(join(folder, name), before);
  }
  await dir.remove('model');
  t.strictSame(await new RunDir(folder).open(), ['two', 'three']);
  const left = new RunDir(folder);
  t.strictSame(await left.open(), []);
  t.equal(left.done('two'), undefined);
  t.ok(left.done('one'));

  writeFileSync(join(folder, 'manifest.json'), '{"version": 1, "stag');
  await t.rejects(new RunDir(folder).open(), { code: 'RUN_CORRUPT' });
  writeFileSync(join(folder, 'manifest.json'), '{"version": 2}');
  await t.rejects(new RunDir(folder).open(), { code: 'RUN_CORRUPT' });
});

t.test('a digest is that of the content, of any size', async (t) => {
  const folder = t.testdir({ empty: '', big: 'x'.repeat(3_000_000) });
  t.strictSame(await fileRecord(join(folder, 'empty')), { sha256: sha256(''), bytes: 0 });
  t.strictSame(await fileRecord(join(folder, 'big')), {
    sha256: sha256('x'.repeat(3_000_000)),
    bytes: 3_000_000,
  });
  symlinkSync('big', join(folder, 'link'));
  t.strictSame(await listFiles(folder), ['big', 'empty', 'link']);
});

t.test('the metrics log is cut back to where a checkpoint was', async (t) => {
  const path = join(t.testdir({}), 'metrics.jsonl');
  const log = await MetricsLog.open(path);
  await log.append({ step: 1 });
  const { bytes } = log;
  await log.append({ step: 2, loss: Number.NaN });
  await log.sync();
  await log.close();
  const again = await MetricsLog.open(path);
  t.ok(await again.truncate(bytes));
  await again.append({ step: 2 });
  t.notOk(await again.truncate(1000));
  await again.close();
  t.equal(readFileSync(path, 'utf8'), '{"step":1}\n{"step":2}\n');
  t.ok(ioError('write', 'x', new CreamError('ABORTED', 'y')).code === 'ABORTED', 'typed errors pass through');
});
