import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { COMMANDS } from '../../lib/cli/commands.js';
import { defaultConfig } from '../../lib/cli/defaults.js';
import { cream } from '../helpers/cream.js';

t.test('init writes a file that validate accepts, and does not replace one', async (t) => {
  const cwd = t.testdir();
  const made = await cream(['init'], { cwd });
  t.equal(made.code, 0, made.stderr);
  const text = await readFile(join(cwd, 'cream.yaml'), 'utf8');
  t.match(text, 'model: ./model');
  t.match(text, /^ {2}# N, responses per prompt/m, 'every setting has its meaning beside it');
  const [valid, strict, again, forced] = [
    await cream(['validate', 'cream.yaml'], { cwd }),
    await cream(['validate', 'cream.yaml', '--strict'], { cwd }),
    await cream(['init'], { cwd }),
    await cream(['init', '--force', '--model', 'elsewhere'], { cwd }),
  ];
  t.equal(valid.code, 0, valid.stderr);
  t.equal(valid.stdout, 'cream.yaml is valid\n');
  t.match(valid.stderr, /warning: model: there is no .*model\/config\.json/);
  t.equal(strict.code, 2);
  t.equal(again.code, 2);
  t.match(again.stderr, 'cream.yaml exists already');
  t.equal(forced.code, 0);
  t.match(await readFile(join(cwd, 'cream.yaml'), 'utf8'), 'model: elsewhere');
});

t.test('init in another folder keeps the paths of the command line right', async (t) => {
  const cwd = t.testdir({ configs: {} });
  await cream(['init', 'configs/a.yaml', '--model', 'models/base'], { cwd });
  const { stdout } = await cream(['validate', 'configs/a.yaml', '--json', '-q'], { cwd });
  t.equal((JSON.parse(stdout) as { model: string }).model, join(cwd, 'models', 'base'));
});

t.test('validate names every mistake with line and column, and takes overrides', async (t) => {
  const cwd = t.testdir({
    'bad.yaml': 'model: m\niterations: 0\nbeta: -1\nsampling:\n  temprature: 3\n',
    'good.yaml': 'model: m\ndata:\n  prompts: p.jsonl\n',
  });
  const bad = await cream(['validate', 'bad.yaml'], { cwd });
  t.equal(bad.code, 2);
  t.match(bad.stderr, /^error: beta must be > 0, got -1 \(bad\.yaml:3:7\) \[INVALID_CONFIG\]$/m);
  t.match(
    bad.stderr,
    /^error: sampling\.temprature is unknown; did you mean temperature\? \(bad\.yaml:5:3\)/m,
  );
  const override = await cream(['validate', 'good.yaml', 'train.learningRate=fast'], { cwd });
  t.equal(override.code, 2);
  t.match(override.stderr, 'train.learningRate must be a number, got "fast" (from train.learningRate=fast)');
  const json = await cream(['validate', 'good.yaml', 'sampling.n=3', 'output=elsewhere', '--json'], { cwd });
  const settings = JSON.parse(json.stdout) as { sampling: { n: number }; output: string };
  t.equal(settings.sampling.n, 3);
  t.equal(settings.output, join(cwd, 'elsewhere'));
  const missing = await cream(['validate', 'none.yaml'], { cwd });
  t.equal(missing.code, 2);
  t.match(missing.stderr, 'cannot read none.yaml');
});

t.test('run --dry-run shows settings and plan; flags win over the file', async (t) => {
  const cwd = t.testdir({
    m: { 'config.json': '{}' },
    'p.jsonl': '{"prompt":"a"}\n',
    'c.yaml': 'model: m\ndata:\n  prompts: p.jsonl\n',
  });
  const flags = [
    '--output',
    'out dir',
    '--seed',
    '7',
    '--dtype',
    'bfloat16',
    '--threads',
    '1',
    '--device',
    'cpu',
  ];
  const { code, stdout, stderr } = await cream(['run', 'c.yaml', 'iterations=1', ...flags, '--dry-run'], {
    cwd,
  });
  t.equal(code, 0, stderr);
  for (const line of [
    'seed: 7',
    'dtype: bfloat16',
    'threads: 1',
    'device: cpu',
    `output: ${join(cwd, 'out dir')}`,
  ]) {
    t.ok(stdout.includes(line), line);
  }
  t.match(stdout, '# M2 = M1 after iteration 1');
  const missing = await cream(['run', 'c.yaml', 'data.prompts=none.jsonl', '--dry-run'], { cwd });
  t.equal(missing.code, 2);
  t.match(missing.stderr, /data\.prompts: there is no .*none\.jsonl/);
});

t.test('the defaults that the help shows are those of the config schema', async (t) => {
  const { sft, train, sampling, score, beta, evaluation } = defaultConfig();
  const sections: Record<string, Record<string, unknown>> = {
    sft,
    train: { ...train, beta },
    sample: sampling,
    score: { ...score, beta },
    evaluate: evaluation,
  };
  for (const [name, section] of Object.entries(sections)) {
    const { options } = COMMANDS.find((command) => command.name === name)!;
    const shared = Object.keys(options).filter((key) => section[key] !== undefined);
    t.ok(shared.length > 1, `${name}: ${shared.join(', ')}`);
    for (const key of shared) {
      const { fallbackText, isFlag } = options[key]!;
      if (isFlag) continue;
      const shown = fallbackText?.split(',')[0];
      t.equal(
        String(Number.isNaN(Number(shown)) ? shown : Number(shown)),
        String(section[key]),
        `${name} --${key}`,
      );
    }
  }
});

t.test('validate reads the data: how many records, or the line that cannot be used', async (t) => {
  const cwd = t.testdir({
    'run.yaml':
      'model: m\ndata:\n  sft: sft.jsonl\n  prompts: p.jsonl\n  evaluation: [{name: sums, path: t.jsonl}]\n',
    'sft.jsonl': '{"prompt": "1+1=", "completion": "2"}\n{"prompt": "1+2=", "completion": "3"}\n',
    'p.jsonl': '{"prompt": "2+2="}\n',
    't.jsonl': '{"prompt": "3+3=", "label": "6"}\n',
  });
  const good = await cream(['validate', 'run.yaml'], { cwd });
  t.equal(good.code, 0, good.stderr);
  t.match(good.stdout, `data.sft: 2 records in ${join(cwd, 'sft.jsonl')}\n`);
  t.match(
    good.stdout,
    /^data\.prompts: 1 record .*\ndata\.evaluation \(sums\): 1 record .*\nrun\.yaml is valid$/m,
  );
  await writeFile(join(cwd, 'p.jsonl'), '{"prompt": "2+2="}\n{"promt": "2+3="}\n');
  const bad = await cream(['validate', 'run.yaml'], { cwd });
  t.equal(bad.code, 4);
  t.match(bad.stderr, /p\.jsonl:2.*\[INVALID_DATA\]/);
});
