import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import { type CreamConfig, configJsonSchema, validateConfig } from '../lib/config.js';
import { configReference, renderConfig, settings } from '../lib/config-docs.js';
import { loadConfig, parseConfig } from '../lib/config-file.js';
import { CreamError } from '../lib/errors.js';

const config = (text: string, overrides: string[] = []) =>
  parseConfig({ file: '/project/dir/cream.yaml', text, overrides, directory: '/cwd' });

/** The lines of the INVALID_CONFIG that `run` must throw. */
function problems(run: () => unknown): string[] {
  try {
    run();
  } catch (error) {
    if (error instanceof CreamError && error.code === 'INVALID_CONFIG') return error.message.split('\n');
    throw error;
  }
  throw new Error('the configuration was accepted');
}

const MINIMAL = 'model: m\ndata:\n  prompts: p.jsonl\n';

t.test("the defaults are the paper's set-up", async (t) => {
  const c = config(MINIMAL);
  t.match(c, {
    iterations: 2,
    beta: 0.1,
    sampling: { n: 5, temperature: 0.8, topP: 0.95, maxNewTokens: 768 },
    sft: { epochs: 5, learningRate: 5e-6, batchSize: 32, schedule: 'cosine', warmupRatio: 0.1 },
    train: {
      epochs: 1,
      learningRate: 1e-6,
      batchSize: 32,
      weightDecay: 0.01,
      maxGradNorm: 1,
      loss: 'sigmoid',
    },
    consistency: { metric: 'kendall', weight: 'dataset', rule: 'linear' },
  });
});

t.test('relative paths start at the file, those of overrides at the current directory', async (t) => {
  const text = `${MINIMAL}  sft: /abs/sft.jsonl\n  evaluation: [{name: a, path: ../a.jsonl}]\n`;
  const c = config(text, ['output=here']);
  t.equal(c.model, '/project/dir/m');
  t.equal(c.data.prompts, '/project/dir/p.jsonl');
  t.equal(c.data.sft, '/abs/sft.jsonl');
  t.equal(c.data.evaluation[0]?.path, '/project/a.jsonl');
  t.equal(c.output, '/cwd/here');
});

t.test('an error says what, which value and where', async (t) => {
  const cases: [string, string][] = [
    [
      'model: m\niterations: 0\ntrain:\n  batchSize: 0.5\n',
      'train.batchSize must be a whole number, got 0.5 (cream.yaml:4:14)',
    ],
    ['model: m\niterations: 0\nbeta: -0.1\n', 'beta must be > 0, got -0.1 (cream.yaml:3:7)'],
    ['model: m\ntrain: {beta1: 1}\niterations: 0\n', 'train.beta1 must be < 1, got 1 (cream.yaml:2:16)'],
    ['model: m\niterations: 0\nbeta: .nan\n', 'beta must be a number, got NaN (cream.yaml:3:7)'],
    [
      'model: m\niterations: 0\ntrain: {loss: dpo}\n',
      'train.loss must be one of sigmoid, hinge, ipo, sigmoid-norm, got "dpo" (cream.yaml:3:15)',
    ],
    [
      'model: m\niterations: 0\ntrain: {learningrate: 1}\n',
      'train.learningrate is unknown; did you mean learningRate? (cream.yaml:3:9)',
    ],
    ['model: m\niterations: 0\ntrian: {}\n', 'trian is unknown; did you mean train? (cream.yaml:3:1)'],
    ['iterations: 0\n', 'model is missing (cream.yaml:1:1)'],
    [
      'model: m\niterations: 0\ndata: {evaluation: [{name: a b, path: x}]}\n',
      'data.evaluation.0.name must be letters, digits, "_", "-" or ".", got "a b" (cream.yaml:3:28)',
    ],
    ['model: m\niterations: 0\nthreads: 0\n', 'threads must be >= 1, got 0 (cream.yaml:3:10)'],
    ['model: m\niterations: 0\nsampling: {n: 1}\n', 'sampling.n must be >= 2, got 1 (cream.yaml:3:15)'],
    ['model: m\niterations: 0\nmodel: n\n', 'Map keys must be unique (cream.yaml:3:1)'],
    [
      'model: m\nthreads: few\niterations: 0\n',
      'threads must be auto or a whole number >= 1, got "few" (cream.yaml:2:10)',
    ],
    [
      'model: [m\n',
      'Flow sequence in block collection must be sufficiently indented and end with a ] (cream.yaml:2:1)',
    ],
    ['model: m\niterations: 0\n__proto__: {a: 1}\n', '__proto__ is unknown'],
  ];
  for (const [text, expected] of cases) {
    const found = problems(() => config(text));
    t.ok(
      found.some((line) => line.startsWith(expected)),
      `${expected}\n  got ${found.join('\n  ')}`,
    );
  }
  t.equal(({} as Record<string, unknown>)['a'], undefined, 'no prototype was touched');
});

t.test('all problems are reported at once', async (t) => {
  t.equal(problems(() => config('model: m\niterations: -1\nbeta: 0\nfoo: 1\n')).length, 3);
});

t.test('overrides are YAML and are named in errors', async (t) => {
  const c = config(MINIMAL, [
    'sampling.n=8',
    'train.learningRate=1e-5',
    'data.chat=false',
    'consistency.weight=one',
  ]);
  t.equal(c.sampling.n, 8);
  t.equal(c.train.learningRate, 1e-5);
  t.equal(c.data.chat, false);
  t.strictSame(
    problems(() => config(MINIMAL, ['sampling.n=1'])),
    ['sampling.n must be >= 2, got 1 (from sampling.n=1)'],
  );
  t.strictSame(
    problems(() => config(MINIMAL, ['sampling.nn=1'])),
    ['sampling.nn is unknown; did you mean sampling.n? (from sampling.nn=1)'],
  );
  t.match(problems(() => config(MINIMAL, ['beta.x=1']))[0], 'beta has no settings inside');
  t.match(problems(() => config(MINIMAL, ['sampling.n']))[0], 'an override must be name=value');
  t.match(problems(() => config(MINIMAL, ['sampling.n=[1']))[0], '(from sampling.n=[1)');
  t.match(problems(() => config(MINIMAL, ['__proto__.x=1']))[0], '__proto__ is unknown');
});

t.test('a setting without effect is an error', async (t) => {
  const cases: [string[], string][] = [
    [['consistency.constant=0.8'], 'consistency.constant has no effect with weight: dataset'],
    [['consistency.weight=constant'], 'consistency.constant is missing'],
    [
      ['consistency.metric=topOrder', 'consistency.rule=floor'],
      'consistency.rule has no effect with metric: topOrder',
    ],
    [
      ['train.schedule=constant', 'train.minLearningRateRatio=0.1'],
      'train.minLearningRateRatio has no effect',
    ],
    [
      ['lora={}', 'train.learningRateFactors.norms=2'],
      'train.learningRateFactors.norms has no effect with lora',
    ],
    [
      ['device=cpu', 'train.gradientsDtype=bfloat16'],
      'train.gradientsDtype must not be bfloat16 with device: cpu',
    ],
    [['sft.learningRateFactors.head=2'], 'sft.learningRateFactors has no effect without data.sft'],
    [['sft.epochs=1'], 'sft.epochs has no effect without data.sft'],
    [['evaluation.samples=4'], 'evaluation.samples has no effect without data.evaluation'],
    [['maxLength=512'], 'sampling.maxNewTokens must be less than maxLength (512), got 768'],
    [['data.evaluation=[{name: a, path: x}, {name: a, path: y}]'], 'data.evaluation.1.name is used twice: a'],
    [['data.evaluation=[{name: a, path: x}]', 'evaluation.topP=0.5'], 'evaluation.topP has no effect with'],
  ];
  for (const [overrides, expected] of cases) {
    const found = problems(() => config(MINIMAL, overrides));
    t.ok(found.length === 1 && found[0]?.startsWith(expected), `${expected}\n  got ${found.join('\n  ')}`);
  }
  t.match(problems(() => config('model: m\n'))[0], 'data.prompts is missing');
});

t.test('resolved settings are accepted again unchanged', async (t) => {
  const c: CreamConfig = config(MINIMAL);
  t.strictSame(validateConfig(JSON.parse(JSON.stringify(c))), c);
});

t.test('every setting has a description and the commented file is a valid config', async (t) => {
  for (const setting of settings()) t.ok(setting.description, setting.path.join('.'));
  const text = renderConfig({ model: 'm', 'data.prompts': 'p: x.jsonl', 'sampling.n': 7 });
  t.equal(config(text).sampling.n, 7);
  t.equal(config(text).data.prompts, '/project/dir/p: x.jsonl');
  t.match(parse(text), { iterations: 2, beta: 0.1 });
  for (const setting of settings()) t.ok(configReference().includes(setting.path.join('.')));
});

t.test('the editor schema is closed and has the defaults', async (t) => {
  const schema = configJsonSchema() as { additionalProperties: boolean; properties: Record<string, object> };
  t.equal(schema.additionalProperties, false);
  t.match(schema.properties['beta'], { default: 0.1, exclusiveMinimum: 0 });
});

t.test('a config file that cannot be read, has a BOM, or is no group of settings', async (t) => {
  await t.rejects(loadConfig('/nowhere/x.yaml'), {
    code: 'INVALID_CONFIG',
    message: /there is no such file/,
  });
  const file = join(mkdtempSync(join(tmpdir(), 'cream-')), 'c.yaml');
  writeFileSync(file, `\uFEFF${MINIMAL}`);
  t.equal((await loadConfig(file, ['seed=3'])).seed, 3);
  t.match(problems(() => config('- a\n'))[0], 'must hold settings');
  t.match(problems(() => config(''))[0], 'model is missing');
});
