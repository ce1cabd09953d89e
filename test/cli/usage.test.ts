import t from 'tap';
import { cream } from '../helpers/cream.js';

const COMMANDS = [
  'init',
  'recipes',
  'validate',
  'run',
  'compare',
  'generate',
  'sft',
  'sample',
  'score',
  'rank',
  'pair',
  'train',
  'evaluate',
  'ranking',
  'inspect',
  'doctor',
];

t.test('--help lists every command, --version is that of the package', async (t) => {
  const help = await cream(['--help']);
  t.equal(help.code, 0);
  for (const name of COMMANDS) t.match(help.stdout, new RegExp(`^  cream ${name}\\b`, 'm'));
  t.equal(help.stderr, '');
  const version = await cream(['--version']);
  t.match(version.stdout, /^\d+\.\d+\.\d+\n$/);
});

t.test('every command tells its options, with defaults and required ones', async (t) => {
  const helps = await Promise.all(COMMANDS.map((name) => cream([name, '--help'])));
  for (const [i, { code, stdout }] of helps.entries()) {
    t.equal(code, 0, COMMANDS[i]!);
    t.match(stdout, `cream ${COMMANDS[i]}`);
    t.match(stdout, '--quiet');
  }
  const score = helps[COMMANDS.indexOf('score')]!.stdout;
  t.match(score, /--model .*\[required\]/);
  for (const option of ['--device', '--dtype', '--threads']) t.match(score, option);
});

t.test('without a command the help goes to standard error', async (t) => {
  const { code, stdout, stderr } = await cream([]);
  t.equal(code, 2);
  t.equal(stdout, '');
  t.match(stderr, 'Commands:');
});

// Each command line is refused before anything is loaded: exit code 2, one line, what is wrong and what to do.
const REFUSED: readonly (readonly [line: string, ...said: string[]])[] = [
  ['rnak', 'unknown command "rnak"', 'did you mean rank?'],
  ['--hepl', 'unknown option --hepl', 'did you mean --help?'],
  ['rank --inptu x', 'unknown option --inptu', 'did you mean --input?'],
  ['generate -m x --maxNewTokens 3', 'did you mean --max-new-tokens?'],
  ['generate -m x --max_new_tokens=3', 'did you mean --max-new-tokens?'],
  ['rank', '--input is required', 'cream rank --help'],
  ['score', '--model and --input are required'],
  ['rank --input', '--input needs a value'],
  ['rank -i', '-i needs a value'],
  ['rank --input --metric', '--input needs a value, got the option --metric'],
  ['rank -i x --metric tau', '--metric must be one of kendall, spearman, topOrder, got "tau"'],
  ['rank -i x -i y', '--input is given 2 times'],
  ['rank -i x y', 'unexpected argument "y"'],
  ['run', 'cream run needs <file>'],
  ['run x.yaml --sampling.n=3', 'an override is written without dashes: sampling.n=value'],
  ['generate -m x -p y --n 0', '--n must be a whole number at least 1, got "0"'],
  ['generate -m x -p y --n 2.5', '--n must be a whole number at least 1, got "2.5"'],
  ['generate -m x -p y --n five', 'got "five"'],
  ['generate -m x -p y --temperature -1', '--temperature must be a number at least 0, got "-1"'],
  ['generate -m x -p y --top-p 1.5', '--top-p must be a number above 0 and at most 1, got "1.5"'],
  ['generate -m x -p y --top-p 0', 'got "0"'],
  ['generate -m x -p y --seed -3', '--seed must be a whole number from 0 to 2^64 - 1'],
  ['generate -m x -p y --seed 18446744073709551616', '--seed must be a whole number from 0 to 2^64 - 1'],
  ['train -m x -i y -o z --learning-rate 1e-', '--learning-rate must be a number above 0, got "1e-"'],
  ['train -m x -i y -o z --threads Infinity', '--threads must be a whole number'],
];

t.test('a wrong command line is refused by name, with the exit code for usage', async (t) => {
  const outcomes = await Promise.all(REFUSED.map(([line]) => cream(line.split(' '))));
  for (const [i, [line, ...said]] of REFUSED.entries()) {
    const { code, stdout, stderr } = outcomes[i]!;
    t.equal(code, 2, `${line}: ${stderr}`);
    t.equal(stdout, '', line);
    t.match(stderr, /^error: [^\n]* \[USAGE\]\n$/, line);
    for (const words of said) t.ok(stderr.includes(words), `${line}: ${words}: ${stderr}`);
  }
});

t.test('colour follows NO_COLOR and FORCE_COLOR, and a pipe has none', async (t) => {
  const line = ['rank', '-i', 'missing.jsonl'];
  const [plain, forced, refused] = await Promise.all([
    cream(line),
    cream(line, { env: { FORCE_COLOR: '1' } }),
    cream(line, { env: { FORCE_COLOR: '1', NO_COLOR: '1' } }),
  ]);
  t.notMatch(plain.stderr, '\u001B');
  t.match(forced.stderr, '\u001B[31m');
  t.notMatch(refused.stderr, '\u001B');
});

t.test('--debug shows the stack of an error', async (t) => {
  const { code, stderr } = await cream(['rank', '-i', 'missing.jsonl', '--debug']);
  t.equal(code, 4);
  t.match(stderr, /^ {4}at /m);
});

t.test('completion prints a script and knows commands, options and choices', async (t) => {
  const script = await cream(['completion']);
  t.match(script.stdout, 'cream-completions');
  const commands = await cream(['--get-yargs-completions', 'cream', 'ra']);
  t.match(commands.stdout, 'rank');
  const options = await cream(['--get-yargs-completions', 'cream', 'rank', '--']);
  t.match(options.stdout, '--metric');
});
