import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';

// What the README prints is what the program accepts.

const root = new URL('../', import.meta.url);
const readme = readFileSync(new URL('README.md', root), 'utf8');
const cream = fileURLToPath(new URL('dist/bin/cream.js', root));

/** Lines of the README's shell blocks that call the command, without the comment. */
const commands = [...readme.matchAll(/```sh\n([\s\S]*?)```/g)]
  .flatMap((block) => (block[1] as string).split('\n'))
  .map((line) => line.replace(/\s+#.*$/, ''))
  .filter((line) => line.startsWith('npx cream '));

t.test('every command of the README exists and has the options that it shows', async (t) => {
  t.ok(commands.length >= 10, `${commands.length} commands`);
  const help = new Map<string, string>();
  for (const line of commands) {
    const name = line.split(/\s+/)[2] as string;
    if (!help.has(name)) {
      const { stdout, status } = spawnSync(process.execPath, [cream, name, '--help'], { encoding: 'utf8' });
      t.equal(status, 0, `cream ${name} --help`);
      help.set(name, stdout);
    }
    for (const option of line.match(/--[a-z-]+/g) ?? []) {
      // Help shows options of one letter with one dash; both forms work.
      t.match(help.get(name), option.length === 3 ? option.slice(1) : option, line);
    }
  }
});

t.test('every npm script of the README exists', async (t) => {
  const { scripts } = JSON.parse(readFileSync(new URL('package.json', root), 'utf8')) as {
    scripts: Record<string, string>;
  };
  for (const [, name] of readme.matchAll(/npm run ([a-z:]+)/g))
    t.ok(scripts[name as string], `npm run ${name}`);
});

t.test('the pipeline of the README is the one that is compiled', async (t) => {
  const example = readFileSync(new URL('examples/embed.ts', root), 'utf8');
  t.ok(readme.includes(example.replace("'../lib/index.js'", "'cream-lm'")));
});
