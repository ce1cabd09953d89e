import { spawnSync } from 'node:child_process';
import { mkdir, readFile, readlink, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { cream, type Outcome, plainEnvironment, PROGRAM, writeLlama } from '../helpers/cream.js';

// Where a result goes: what is there already decides.

const cwd = t.testdir();
const rows = [1, 2, 3].map((id) => ({ id, rewards: [1, 2, id], previousRewards: [3, 1, 2] }));
const text = (some: readonly object[]) => some.map((row) => `${JSON.stringify(row)}\n`).join('');
const expected: { ranked: string } = { ranked: '' };

t.before(async () => {
  await writeFile(join(cwd, 'in.jsonl'), text(rows));
  expected.ranked = (await cream(['rank', '-i', 'in.jsonl', '-q'], { cwd })).stdout;
});

/** A line of bash, in which "$CREAM" is the program. */
function bash(line: string, folder = cwd): Outcome {
  const env = plainEnvironment({ CREAM: `${process.execPath} ${PROGRAM}` });
  const { status, stdout, stderr } = spawnSync('bash', ['-c', line], {
    cwd: folder,
    env,
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { code: status, stdout, stderr };
}
const RANK = '$CREAM rank -q -i ../in.jsonl';

async function folderWithLinks(name: string): Promise<string> {
  const folder = join(cwd, name);
  await mkdir(join(folder, 'folder'), { recursive: true });
  await writeFile(join(folder, 'target'), 'old');
  for (const [link, to] of Object.entries({
    link: 'target',
    twice: 'link',
    nothing: 'nowhere',
    circle: 'circle',
    into: 'folder',
  }))
    await symlink(to, join(folder, link));
  return folder;
}

t.test('-o follows a link and leaves it a link', async (t) => {
  const folder = await folderWithLinks('links');
  for (const name of ['link', 'twice']) {
    await writeFile(join(folder, 'target'), 'old');
    const { code, stderr } = bash(`${RANK} -o ${name}`, folder);
    t.equal(code, 0, stderr);
    t.equal(await readFile(join(folder, 'target'), 'utf8'), expected.ranked, name);
  }
  t.equal(await readlink(join(folder, 'link')), 'target');
  t.equal(await readlink(join(folder, 'twice')), 'link');
});

t.test('-o writes into a pipe, a descriptor and a device', async (t) => {
  const folder = await folderWithLinks('pipes');
  const pipe = bash(`mkfifo pipe && (cat pipe > got &) && ${RANK} -o pipe && sleep 0.3 && cat got`, folder);
  t.equal(pipe.stdout, expected.ranked, pipe.stderr);
  t.ok((await stat(join(folder, 'pipe'))).isFIFO());

  const named: [line: string, stdout: string][] = [
    [`${RANK} -o >(cat) && sleep 0.3`, expected.ranked],
    [`${RANK} -o /dev/stdout | cat`, expected.ranked],
    // The place in the file is the caller's: what was written before and what comes after stay whole.
    [`{ echo one; ${RANK} -o /dev/stdout; echo two; } > log; cat log`, `one\n${expected.ranked}two\n`],
    [`echo one > log; ${RANK} -o /dev/fd/9 9>> log; cat log`, `one\n${expected.ranked}`],
    [`${RANK} -o /dev/null && test -c /dev/null && echo yes`, 'yes\n'],
  ];
  for (const [line, stdout] of named) {
    // Nothing of /dev is at stake should this go wrong: a user without rights there.
    if (line.includes('/dev/null') && process.getuid?.() === 0) continue;
    const found = bash(line, folder);
    t.equal(found.stdout, stdout, `${line}: ${found.stderr}`);
  }
  const made = bash(`mknod device c 1 3 && ${RANK} -o device && stat -c %F device`, folder);
  if (made.stderr === '')
    t.match(made.stdout, 'character special file', 'a null device of our own stays one');
});

t.test('a folder, a link to nothing, and what is not open are refused before the work', async (t) => {
  const folder = await folderWithLinks('refused');
  const cases: [name: string, said: RegExp][] = [
    ['folder', /^error: --output folder is a folder; name a file \[USAGE\]\n$/],
    ['into', /--output into is a folder/],
    ['nothing', /--output nothing is a link to nothing/],
    ['circle', /circle.*\[IO\]/],
    ['/dev/fd/77', /--output \/dev\/fd\/77 is not open/],
  ];
  for (const [name, said] of cases) {
    const { code, stdout, stderr } = bash(`$CREAM rank -i missing.jsonl -o ${name}`, folder);
    t.equal(code, name === 'circle' ? 1 : 2, stderr);
    t.equal(stdout, '');
    t.match(stderr, said);
  }
  await t.rejects(readFile(join(folder, 'nowhere')), 'nothing is made through the link');
  t.match(bash(`${RANK} -o /dev/fd/0 < target`, folder), { code: 1, stderr: /cannot write \/dev\/fd\/0/ });
  t.equal(await readFile(join(folder, 'target'), 'utf8'), 'old');
});

t.test('a reader of -o that goes away is an error', async (t) => {
  const folder = await folderWithLinks('reader');
  await writeFile(
    join(folder, 'many.jsonl'),
    text(Array.from({ length: 5000 }, (_, id) => ({ ...rows[0], id }))),
  );
  const { code, stderr } = bash(
    'mkfifo pipe && (head -c 1 pipe > first &) && $CREAM rank -q -i many.jsonl -o pipe',
    folder,
  );
  t.equal(code, 1);
  t.match(stderr, /^error: cannot write pipe: its reader has gone \[EPIPE\] \[IO\]\n$/);
});

t.test('every command that writes a file or a folder does so through a link', async (t) => {
  const folder = await folderWithLinks('commands');
  await writeLlama(join(folder, 'model'));
  await mkdir(join(folder, 'empty'));
  await symlink('empty', join(folder, 'to-empty'));
  await symlink('model', join(folder, 'to-model'));
  await writeFile(join(folder, 'sft.jsonl'), text([{ prompt: 'a', completion: 'b' }]));
  const sft =
    '$CREAM sft -m model -i sft.jsonl --epochs 1 --threads 1 -q --metrics link --force --lora-rank 1 -o';
  const trained = bash(`${sft} to-empty`, folder);
  t.equal(trained.code, 0, trained.stderr);
  t.equal(await readlink(join(folder, 'to-empty')), 'empty');
  t.ok((await stat(join(folder, 'empty', 'adapter_model.safetensors'))).isFile());
  t.match(await readFile(join(folder, 'target'), 'utf8'), '"step":1', '--metrics too');
  t.match(bash(`${sft} to-model`, folder), { code: 2, stderr: /is the model to start from/ });
  t.match(bash(`${sft} nothing`, folder), { code: 2, stderr: /nothing is a link to nothing; name a folder/ });
  t.match(bash(`${sft} target`, folder), { code: 2, stderr: /target is no folder; name a folder/ });
  t.match(bash(`${sft.replace('--metrics link', '--metrics folder')} out`, folder), {
    code: 2,
    stderr: /--metrics folder is a folder/,
  });

  for (const line of ['$CREAM init link --force -q', '$CREAM recipes cp demo-cpu link --force -q']) {
    await writeFile(join(folder, 'target'), 'old');
    const outcome = bash(line, folder);
    t.equal(outcome.code, 0, outcome.stderr);
    t.equal(await readlink(join(folder, 'link')), 'target', line);
    t.match(await readFile(join(folder, 'target'), 'utf8'), 'model:', line);
  }
  t.match(bash('$CREAM init link -q', folder), { code: 2, stderr: /link exists already/ });
  t.match(bash('$CREAM init nothing -q', folder), { code: 2, stderr: /is a link to nothing/ });
  t.match(bash('$CREAM init >(cat) -q && sleep 0.3', folder).stdout, /^model:/m);
});

async function isFull(t: Test, line: string): Promise<void> {
  const { code, stderr } = bash(line);
  t.equal(code, 1, line);
  t.equal(stderr, 'error: cannot write standard output: the disk is full [ENOSPC] [IO]\n', line);
}

t.test('standard output on a full disk is one line and exit code 1', async (t) => {
  const full = bash('test -c /dev/full').code === 0;
  if (!full) return t.comment('there is no /dev/full');
  for (const line of ['inspect data in.jsonl', 'rank -q -i in.jsonl', 'recipes ls', 'init -'])
    await isFull(t, `$CREAM ${line} > /dev/full`);
  const both = bash('$CREAM recipes ls > /dev/full 2> /dev/full');
  t.equal(both.code, 1, 'nobody can be told, and the code tells');
  for (const closed of ['>&-', '2>&-']) t.equal(bash(`$CREAM recipes ls ${closed}`).code, 0, closed);
});
