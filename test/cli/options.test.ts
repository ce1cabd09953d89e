import { spawn } from 'node:child_process';
import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { COMMANDS } from '../../lib/cli/commands.js';
import { kebab } from '../../lib/cli/options.js';
import { plainEnvironment, PROGRAM, writeLlama } from '../helpers/cream.js';
import { checkpoint } from '../helpers/golden.js';
import { OPTION_LINES, type OptionLine } from '../helpers/option-lines.js';

// Every option of every command is given to the program at least once, in a line that works. The list of options is
// the program's own, so that a new one without a line fails here.

t.setTimeout(900_000);

const cwd = t.testdir();
const write = (name: string, rows: readonly object[]) =>
  writeFile(join(cwd, name), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
const GLOBAL = ['quiet', 'debug'];
const ALIASES: Readonly<Record<string, string>> = { q: 'quiet' };

t.before(async () => {
  await writeLlama(join(cwd, 'model'));
  // A template that has a variable to set.
  const settings = join(cwd, 'model', 'tokenizer_config.json');
  const config = JSON.parse(await readFile(settings, 'utf8')) as { chat_template: string };
  const chat_template = `{% if enable_thinking %}{% endif %}${config.chat_template}`;
  await writeFile(settings, JSON.stringify({ ...config, chat_template }));
  await cp(checkpoint('reward-llama'), join(cwd, 'reward'), { recursive: true });
  for (const name of ['tokenizer.json', 'tokenizer_config.json'])
    await cp(join(cwd, 'model', name), join(cwd, 'reward', name));
  await write('prompts.jsonl', [{ prompt: 'abc' }, { prompt: 'x' }]);
  await write('sft.jsonl', [
    { prompt: 'abc', completion: 'de' },
    { prompt: 'x', completion: 'yz' },
  ]);
  const judged = { prompt: 'abc', judgeMargin: 1, baseChosenLogprob: -20, baseRejectedLogprob: -19 };
  await write('pairs.jsonl', [
    { ...judged, chosen: 'de', rejected: 'fgh', consistency: 0.9 },
    { ...judged, chosen: 'yes', rejected: 'no', consistency: 0.8 },
  ]);
  await write('task.jsonl', [{ question: 'Which?', choices: ['a', 'b'], label: 'A' }]);
  await write('examples.jsonl', [{ question: 'What?', choices: ['c', 'd'], label: 'B' }]);
  await write('labelled.jsonl', [{ prompt: 'abc', chosen: 'long', rejected: 's' }]);
  const group = {
    id: 'g',
    prompt: 'x',
    promptIds: [1],
    responses: [{ ids: [4, 5, 6] }, { ids: [7] }],
    rewards: [2, 1],
    previousRewards: [2, 1],
    logprobs: [-3, -4],
    judgeRewards: [4, 1],
    baseLogprobs: [-3, -4],
    tau: 1,
    consistency: 1,
  };
  await write('ranked.jsonl', [group]);
  await write('base.jsonl', [{ ...group, rewards: [0.5, 0.4] }]);
  await writeFile(
    join(cwd, 'longest.mjs'),
    'export default (groups) => groups.map(({ responses }) => responses.map(({ text }) => text.length));',
  );
  await writeFile(
    join(cwd, 'run.yaml'),
    `model: model
iterations: 1
data: { prompts: prompts.jsonl, chat: false }
sampling: { n: 3, maxNewTokens: 4, temperature: 1 }
`,
  );
});

/** Runs a line to its end, or stops it once it says what is waited for. */
function call({ line, stop }: OptionLine): Promise<{ code: number | null; text: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [PROGRAM, ...line.split(' ')], { cwd, env: plainEnvironment() });
    let [out, err, isStopped] = ['', '', false];
    const heard = () => {
      if (stop === undefined || isStopped || !stop.after.test(out)) return;
      isStopped = true;
      child.kill('SIGTERM');
    };
    child.stdout.on('data', (chunk: Buffer) => {
      out += chunk.toString();
      heard();
    });
    child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
    child.stdin.end();
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, text: `${out}${err}` }));
  });
}

/** "command option" of all that a line gives. */
function optionsOf(line: string): string[] {
  const [name = '', ...words] = line.split(' ');
  const options = COMMANDS.find((command) => command.name === name)!.options;
  const aliases = Object.fromEntries(
    Object.entries(options).flatMap(([key, { alias }]) => (alias === undefined ? [] : [[alias, kebab(key)]])),
  );
  return words.flatMap((word) => {
    const given = /^--?([a-z][a-z-]*)/.exec(word)?.[1];
    if (given === undefined) return [];
    const option = word.startsWith('--') ? given : (aliases[given] ?? ALIASES[given] ?? given);
    return [GLOBAL.includes(option) ? option : `${name} ${option}`];
  });
}

const called = new Set<string>();

t.test('each of the lines works', async (t) => {
  for (const option of OPTION_LINES) {
    const { code, text } = await call(option);
    const wanted = option.stop?.code ?? 0;
    t.equal(code, wanted, `cream ${option.line}: ${code === wanted ? '' : text}`);
    if (option.says !== undefined) t.match(text, option.says, option.line);
    if (code === wanted) for (const name of optionsOf(option.line)) called.add(name);
  }
});

t.test('every option of every command was called', async (t) => {
  const all = [
    ...GLOBAL,
    ...COMMANDS.flatMap(({ name, options }) => Object.keys(options).map((key) => `${name} ${kebab(key)}`)),
  ];
  t.ok(all.length > 150, `${all.length} options`);
  t.strictSame(
    all.filter((option) => !called.has(option)),
    [],
    'give each a line in test/helpers/option-lines.ts',
  );
  t.strictSame(
    [...called].filter((option) => !all.includes(option)),
    [],
  );
});
