import { spawnSync } from 'node:child_process';
import { appendFileSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { Model } from '../../lib/native/model.js';
import { allOf, inStream } from '../../lib/run/chunks.js';
import { recordLines } from '../../lib/run/records.js';
import { sampleStream, type TokenizedPrompt } from '../../lib/stages/sample.js';
import type { Placed } from '../../lib/types.js';
import { checkpoint } from '../helpers/golden.js';

// One stream over all items of a stage, committed in chunks as they complete.

const N = 3;

/** Results in the order in which slots would end them: a straggler now and then. */
async function* outOfOrder(items: readonly number[]): AsyncGenerator<Placed<{ id: number }>> {
  const waiting: number[] = [];
  for (const [index, item] of items.entries()) {
    if (item % 5 === 0) waiting.push(index);
    else yield { index, result: { id: item } };
    if (waiting.length > 1) yield { index: waiting[0]!, result: { id: items[waiting.shift()!]! } };
  }
  for (const index of waiting) yield { index, result: { id: items[index]! } };
}

t.test('a chunk is committed when its last result has come, whichever comes first', async (t) => {
  const folder = join(t.testdir(), 'chunks');
  const items = Array.from({ length: 23 }, (_, i) => i);
  const seen: string[][] = [];
  const work = async function* (missing: readonly number[]) {
    for await (const placed of outOfOrder(missing)) {
      yield placed;
      seen.push(readdirSync(folder).map((name) => name.slice(0, 6)));
    }
  };
  const { results } = await inStream(items, work, { folder, chunkSize: 4 });
  t.strictSame(
    (await allOf(results())).map(({ id }) => id),
    items,
  );
  const order = seen.flatMap((names, i) => names.filter((name) => !(seen[i - 1] ?? []).includes(name)));
  t.notSame(order, order.toSorted(), 'out of order');
  // What waits for its chunk: no more than the chunks of two stragglers and of the items in progress.
  const held = seen.map((names, i) => i + 1 - 4 * names.filter((name) => name !== '000005').length);
  t.ok(Math.max(...held) <= 12, `at most ${Math.max(...held)} results are held`);

  const [damaged] = readdirSync(folder).filter((name) => name.startsWith('000002'));
  appendFileSync(join(folder, damaged!), ' ');
  const asked: number[][] = [];
  const found: number[] = [];
  const told: string[] = [];
  const again = await inStream(
    items,
    (missing) => {
      asked.push([...missing]);
      return outOfOrder(missing);
    },
    { folder, chunkSize: 4, onFound: (count) => found.push(count), onDamaged: (file) => told.push(file) },
  );
  t.strictSame(asked, [[8, 9, 10, 11]], 'only what is missing is done again');
  t.strictSame(found, [19]);
  t.strictSame(told, [join(folder, damaged!)]);
  t.strictSame(
    (await allOf(again.results())).map(({ id }) => id),
    items,
  );

  const signal = AbortSignal.abort();
  const none = () => t.fail('nothing is asked') as never;
  t.equal(
    (await allOf((await inStream(items, none, { folder, chunkSize: 4, signal })).results())).length,
    23,
  );
  await t.rejects(inStream([...items, 23, 24, 25], outOfOrder, { folder, chunkSize: 4, signal }), {
    code: 'ABORTED',
  });
});

t.test('work that ends early is an error that names the chunk, and keeps what is whole', async (t) => {
  const folder = join(t.testdir(), 'chunks');
  const work = async function* (items: readonly number[]) {
    for (const [index, id] of items.entries()) if (id !== 4) yield { index, result: { id } };
  };
  await t.rejects(inStream([1, 2, 3, 4, 5, 6], work, { folder, chunkSize: 2 }), {
    code: 'NATIVE',
    message: /chunk 1 of .*did not get all/,
  });
  t.strictSame(
    readdirSync(folder).map((name) => name.slice(0, 6)),
    ['000000', '000002'],
  );
});

t.test('for any chunk size, and after a kill at any moment, the same bytes', async (t) => {
  await using model = await Model.load(checkpoint('llama'), { dtype: 'float32' });
  const prompts = Array.from(
    { length: 14 },
    (_, i): TokenizedPrompt => ({
      id: `p${i}`,
      prompt: '',
      promptIds: Array.from({ length: 1 + ((5 * i) % 11) }, (_, j) => 3 + ((i * 7 + j) % 40)),
    }),
  );
  const sampled = (missing: readonly TokenizedPrompt[]) =>
    sampleStream(
      missing,
      { n: N, maxNewTokens: 20, temperature: 1, topP: 1, topK: 0 },
      {
        policy: model,
        decode: (ids) => ids.join(' '),
        stopIds: [2, 5, 6, 7, 9, 11, 13], // lengths of all kinds
        seed: 3,
        stream: 'iteration-1',
      },
    );
  const root = t.testdir();
  let folders = 0;
  const nextFolder = () => join(root, `chunks-${folders++}`);
  const linesOf = async (stream: Awaited<ReturnType<typeof inStream<TokenizedPrompt, object>>>) =>
    [...recordLines(await allOf(stream.results()))].join('');
  const whole = await linesOf(
    await inStream(prompts, sampled, { folder: nextFolder(), chunkSize: prompts.length }),
  );
  t.equal(whole.split('\n').length - 1, prompts.length);
  t.ok(new Set(whole.match(/"finishReason":"\w+"/g)).size > 1, 'some stop and some do not');
  for (const chunkSize of [1, 2, 5, 13, 100]) {
    const options = { folder: nextFolder(), chunkSize };
    t.equal(await linesOf(await inStream(prompts, sampled, options)), whole, `chunks of ${chunkSize}`);
  }
  for (let groups = 0; groups < prompts.length; groups++) {
    const options = { folder: nextFolder(), chunkSize: 3 };
    const killed = async function* (missing: readonly TokenizedPrompt[]) {
      let left = groups;
      for await (const placed of sampled(missing)) {
        if (left-- === 0) throw new Error('killed');
        yield placed;
      }
    };
    await t.rejects(inStream(prompts, killed, options), /killed/);
    t.equal(await linesOf(await inStream(prompts, sampled, options)), whole, `killed after ${groups}`);
  }
});

const COMPILED = fileURLToPath(new URL('../../dist/lib/run/', import.meta.url));
const skip = existsSync(join(COMPILED, 'chunks.js')) ? undefined : 'dist is not built';

t.test('what is held does not grow with the list', skip ? { skip } : {}, async (t) => {
  const folder = t.testdir();
  const [items, bytes] = [3000, 40_000];
  const program = `
    const { inStream } = await import(${JSON.stringify(`${COMPILED}chunks.js`)});
    const { recordLines } = await import(${JSON.stringify(`${COMPILED}records.js`)});
    const { writeFileDurably } = await import(${JSON.stringify(`${COMPILED}storage.js`)});
    const items = Array.from({ length: ${items} }, (_, i) => i);
    // Every hundredth item ends long after those that began with it.
    async function* work(missing) {
      const late = [];
      for (const index of missing.keys()) {
        if (index % 100 === 0) late.push(index);
        else yield { index, result: { id: index, text: String(index).repeat(${bytes} / 4) } };
        if (late.length > 2) yield { index: late[0], result: { id: late.shift(), text: '' } };
      }
      for (const index of late) yield { index, result: { id: index, text: '' } };
    }
    const { results } = await inStream(items, work, { folder: ${JSON.stringify(join(folder, 'chunks'))}, chunkSize: 32 });
    const { bytes } = await writeFileDurably(${JSON.stringify(join(folder, 'all.jsonl'))}, recordLines(results()));
    console.log(bytes);
  `;
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['--max-old-space-size=40', '--input-type=module', '-e', program],
    { encoding: 'utf8' },
  );
  t.equal(status, 0, stderr.slice(0, 500));
  t.ok(Number(stdout) > 2 * 40 * 2 ** 20, `${stdout.trim()} bytes went through a heap of 40 MiB`);
  t.equal(readFileSync(join(folder, 'all.jsonl'), 'utf8').split('\n').length, items + 1);
});
