import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { lockFolder } from '../../lib/run/lock.js';

interface Reply {
  locked: boolean;
  code?: string;
  message?: string;
}

async function contender(): Promise<ChildProcess> {
  const child = fork(fileURLToPath(new URL('../helpers/lock-contender.ts', import.meta.url)));
  await once(child, 'message');
  return child;
}

async function ask(child: ChildProcess, message: object): Promise<Reply> {
  child.send(message);
  const [reply] = (await once(child, 'message')) as [Reply];
  return reply;
}

t.test('of two processes exactly one gets the lock, the other its pid within a second', async (t) => {
  const children = [await contender(), await contender()] as const;
  const folder = t.testdir({});
  for (let round = 0; round < 6; round++) {
    const run = join(folder, `${round}`);
    mkdirSync(run);
    // In every other round the lock of a dead process is there to be taken over by both.
    if (round % 2 === 0)
      writeFileSync(
        join(run, 'lock.1'),
        JSON.stringify({ pid: 2 ** 22 + 1, startTime: '1', host: hostname() }),
      );
    const replies = await Promise.all(children.map((child) => ask(child, { lock: run })));
    t.equal(replies.filter((reply) => reply.locked).length, 1, `round ${round}`);
    const winner = children[replies.findIndex((reply) => reply.locked)]!;
    const loser = replies.find((reply) => !reply.locked)!;
    t.match(loser, { code: 'RUN_LOCKED', message: new RegExp(`process ${winner.pid} works in`) });
    await ask(winner, { release: true });
    t.strictSame(readdirSync(run), []);
  }
  for (const child of children) child.kill();
});

t.test('the lock of a killed process is taken over', async (t) => {
  const child = await contender();
  const folder = t.testdir({});
  t.match(await ask(child, { lock: folder }), { locked: true });
  child.kill('SIGKILL');
  await once(child, 'exit');
  const lock = await lockFolder(folder);
  t.strictSame(readdirSync(folder), ['lock.2']);
  await lock.release();
});

t.test('another process with the pid of the dead holder does not count', async (t) => {
  const folder = t.testdir({
    'lock.3': JSON.stringify({ pid: process.pid, startTime: '1', host: hostname() }),
  });
  const lock = await lockFolder(folder);
  t.strictSame(readdirSync(folder), ['lock.4']);
  const holder = JSON.parse(readFileSync(join(folder, 'lock.4'), 'utf8')) as Record<string, unknown>;
  t.equal(holder['pid'], process.pid);
  await t.rejects(lockFolder(folder), { code: 'RUN_LOCKED', message: new RegExp(`process ${process.pid} `) });
  await lock.release();
});

t.test('a holder on another machine is believed; a damaged lock is not', async (t) => {
  const elsewhere = t.testdir({ 'lock.1': JSON.stringify({ pid: 1, startTime: '1', host: 'elsewhere' }) });
  await t.rejects(lockFolder(elsewhere), {
    code: 'RUN_LOCKED',
    message: /on elsewhere; if that machine is gone, delete/,
  });
  const damaged = t.testdir({ 'lock.1': '{"pid"' });
  await (await lockFolder(damaged)).release();
  await t.rejects(lockFolder(join(damaged, 'nowhere')), { code: 'IO' });
});
