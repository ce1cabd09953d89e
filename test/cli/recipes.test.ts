import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { cream, jsonLines } from '../helpers/cream.js';

const cwd = t.testdir({ folder: {} });
const run = (line: string) => cream(['recipes', ...line.split(' ')], { cwd });

t.test('ls shows name, size, memory and purpose of every recipe', async (t) => {
  const { code, stdout, stderr } = await run('ls');
  t.equal(code, 0, stderr);
  t.equal(stderr, '');
  const lines = stdout.trimEnd().split('\n');
  t.match(lines[0], /^recipe +size +memory +purpose$/);
  t.match(stdout, /^qwen2\.5-0\.5b +0\.5 B +12 GiB +CREAM on Qwen2\.5-0\.5B, all weights/m);
  t.match(stdout, /^method-srlm +any +cream estimate +SRLM: /m);
  t.ok(
    lines.every((line) => line.length <= 132),
    `${Math.max(...lines.map((line) => line.length))} columns`,
  );
  const json = await run('ls --json');
  t.equal(jsonLines(json.stdout).length, lines.length - 2);
});

t.test('show prints a recipe, of a folder every file', async (t) => {
  const { stdout } = await run('show paper-llama-3-8b');
  t.match(stdout, /^# The paper's set-up on Llama-3-8B/);
  const folder = await run('show flywheel');
  for (const name of ['README.md', 'filter.mjs', 'generator.yaml', 'solver.yaml'])
    t.match(folder.stdout, `==> ${name} <==\n`);
});

t.test('cp writes a file that cream validate accepts, and replaces nothing unless asked to', async (t) => {
  const copied = await run('cp qwen2.5-0.5b');
  t.equal(copied.code, 0, copied.stderr);
  t.match(copied.stderr, 'wrote qwen2.5-0.5b.yaml; edit it, then: cream validate qwen2.5-0.5b.yaml');
  const valid = await cream(['validate', 'qwen2.5-0.5b.yaml'], { cwd });
  t.equal(valid.code, 0, valid.stderr);
  t.match(valid.stderr, 'model: there is no');

  writeFileSync(join(cwd, 'mine.yaml'), 'mine');
  const refused = await run('cp method-srlm mine.yaml');
  t.equal(refused.code, 2);
  t.match(refused.stderr, /mine\.yaml exists already; name another, or replace it with --force/);
  t.equal(readFileSync(join(cwd, 'mine.yaml'), 'utf8'), 'mine');
  t.equal((await run('cp method-srlm mine.yaml --force')).code, 0);
  t.match(readFileSync(join(cwd, 'mine.yaml'), 'utf8'), /^method: srlm$/m);

  t.equal((await run('cp method-cream.yaml folder')).code, 0, 'with .yaml, into a folder');
  t.ok(existsSync(join(cwd, 'folder', 'method-cream.yaml')));
  const deep = await run('cp method-custom new/place');
  t.equal(deep.code, 0, deep.stderr);
  t.match(deep.stderr, 'read new/place/README.md');
  t.ok(existsSync(join(cwd, 'new', 'place', 'reward.mjs')));
  t.equal((await cream(['validate', 'new/place/custom.yaml'], { cwd })).code, 0);
});

t.test('what recipes does not know is refused by name', async (t) => {
  const cases: readonly (readonly [line: string, said: string])[] = [
    ['list', 'unknown action "list": ls, show, cp'],
    ['sow x', 'did you mean show?'],
    ['cp', 'cream recipes cp needs the name of a recipe'],
    ['show flywhel', 'there is no recipe "flywhel"; did you mean flywheel?'],
    ['show ../package.json', 'there is no recipe "../package.json"'],
    ['ls x', 'ls takes no name'],
    ['show flywheel --json', '--json has no effect with show'],
    ['ls --force', '--force has no effect with ls'],
  ];
  for (const [line, said] of cases) {
    const { code, stderr, stdout } = await run(line);
    t.equal(code, 2, stderr);
    t.equal(stdout, '');
    t.ok(stderr.includes(said), stderr);
  }
});
