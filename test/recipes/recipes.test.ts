import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import { unequalGround } from '../../lib/compare/plan.js';
import { validateConfig } from '../../lib/config.js';
import { loadConfig } from '../../lib/config-file.js';
import { MODEL_CONFIG } from '../../lib/demo/checkpoint.js';
import { runConfig } from '../../lib/demo/demo.js';
import { readModelConfig } from '../../lib/data/model-config.js';
import { memoryOf } from '../../lib/estimate/memory.js';
import { parameterCounts } from '../../lib/estimate/sizes.js';
import { METHOD_NAMES } from '../../lib/methods.js';
import { filesOf, listRecipes } from '../../lib/recipes.js';
import { publishedShape } from '../helpers/shapes.js';

// Every recipe is a valid config, says what it needs, and that is what the estimate says.

const recipes = await listRecipes();
const configs = new Map<string, { name: string; path: string; text: string }>();
for (const recipe of recipes) {
  for (const file of await filesOf(recipe)) {
    const path = join(recipe.path, file);
    if (!path.endsWith('.yaml')) continue;
    configs.set(path, { name: recipe.name, path, text: readFileSync(path, 'utf8') });
  }
}
const configOf = (name: string) => [...configs.values()].find((config) => config.name === name)!;

/** Settings without what may differ between two files that mean the same. */
const withoutPlaces = ({ output: _, ...config }: ReturnType<typeof validateConfig>) => config;

const GIB = 2 ** 30;

t.test('there is a recipe for every method, for each size, and for the paper', async (t) => {
  const names = recipes.map(({ name }) => name);
  const methods = new Set(
    [...configs.values()].map(({ text }) => (parse(text) as { method?: string }).method),
  );
  for (const method of METHOD_NAMES) t.ok(methods.has(method), method);
  const wanted = [
    'paper-llama-3-8b',
    'paper-llama-2-7b',
    'demo-cpu',
    'flywheel',
    'qwen2.5-0.5b',
    'llama-3.1-8b-lora',
  ];
  for (const name of wanted) t.ok(names.includes(name), name);
});

for (const { path, name, text } of configs.values()) {
  t.test(`${name}/${basename(path)} is valid, and says why it is as it is`, async (t) => {
    const config = await loadConfig(path);
    t.ok(config.model.startsWith(dirname(path)), 'paths start at the file');
    const comments = text.split('\n').filter((line) => /(^|\s)#/.test(line));
    t.ok(comments.length >= 3, `${comments.length} lines have a comment`);
    t.ok(text.split('\n').every((line) => line.length <= 130));
    if (config.reward.module !== undefined) t.ok(existsSync(config.reward.module), config.reward.module);
  });
}

t.test('purposes are one line; sizes and memory are those of the published models', async (t) => {
  for (const { name, purpose, size, memory, path } of recipes) {
    t.ok(purpose.length > 20 && purpose.length <= 80, `${name}: ${purpose}`);
    if (size.startsWith('any')) {
      t.match(memory, 'cream estimate', name);
      continue;
    }
    const config = await loadConfig(path);
    const isDemo = name === 'demo-cpu';
    const demo = { shape: readModelConfig(MODEL_CONFIG, name), parameters: 100_672 };
    const { shape, parameters } = isDemo ? demo : publishedShape(basename(config.model));
    const { total } = parameterCounts(shape);
    t.equal(total, parameters, name);
    t.equal(size, isDemo ? `${(total / 1e6).toFixed(1)} M` : `${(total / 1e9).toFixed(1)} B`, name);
    // Prompts of 200 tokens, responses as long as they may be. Sampling takes what is there for keys and values.
    const lengths = { prompt: 200, response: config.sampling.maxNewTokens };
    const workload = {
      prompts: 10_000,
      lengths,
      sft: { examples: 3400, lengths: { prompt: 200, response: 300 } },
      evaluation: { problems: 0, lengths },
    };
    const dtype = isDemo ? 'float32' : 'bfloat16';
    const stages = memoryOf(config, shape, dtype, workload, Number.POSITIVE_INFINITY).filter(
      ({ stage }) => stage !== 'sample',
    );
    t.equal(memory, `${Math.ceil(Math.max(...stages.map((stage) => stage.total)) / GIB)} GiB`, name);
  }
});

t.test("the CPU demo's recipe has the demo's settings", async (t) => {
  const { path } = configOf('demo-cpu');
  const directory = join(dirname(path), 'cream-demo');
  const demo = validateConfig(runConfig({ directory, seed: 0 }, 'dataset'));
  t.same(withoutPlaces(await loadConfig(path)), withoutPlaces(demo));
});

t.test('recipes of the methods can be compared with each other: they differ in nothing else', async (t) => {
  const methods = recipes.filter(({ name }) => name.startsWith('method-'));
  t.ok(methods.length > METHOD_NAMES.length);
  const entries = [];
  for (const { name, isFolder } of methods) {
    if (isFolder) continue;
    const config = await loadConfig(configOf(name).path);
    entries.push({ name, config, inputs: {} });
  }
  t.strictSame(unequalGround(entries), [], 'and no two are the same');
});

t.test("the paper's recipes spell out the defaults, which are the paper's", async (t) => {
  const plain = validateConfig({ model: 'm', data: { prompts: 'p', sft: 's' } });
  for (const name of ['paper-llama-3-8b', 'paper-llama-2-7b']) {
    const config = await loadConfig(configOf(name).path);
    const { sft, train, sampling, consistency, score, beta, iterations } = config;
    const memoryBounds = { maxTokensPerBatch: plain.sft.maxTokensPerBatch };
    t.same({ ...sft, ...memoryBounds }, plain.sft, name);
    t.same({ ...train, ...memoryBounds }, plain.train, name);
    t.same({ ...sampling, chunkSize: plain.sampling.chunkSize }, plain.sampling, name);
    t.same(consistency, { ...plain.consistency, final: true }, name);
    t.same({ ...score, maxTokensPerBatch: plain.score.maxTokensPerBatch }, plain.score, name);
    t.same([beta, iterations], [plain.beta, plain.iterations], name);
    t.strictSame(
      config.data.evaluation.map((task) => task.name),
      ['arc-easy', 'arc-challenge', 'openbookqa', 'siqa', 'gsm8k'],
    );
  }
});

t.test('the module of the custom method ranks what states an answer first', async (t) => {
  const module = join(configOf('method-custom').path, '..', 'reward.mjs');
  const { default: reward } = (await import(module)) as { default: (groups: object[]) => number[][] };
  const response = (text: string, tokens: number, finishReason = 'stop') => ({
    text,
    ids: new Array(tokens).fill(1),
    finishReason,
  });
  const [ranked] = reward([
    {
      responses: [
        response('The answer is 4', 9),
        response('so The answer is 4', 20),
        response('four', 1),
        response('The answer is 4', 12, 'length'),
      ],
    },
  ]);
  t.strictSame(
    ranked!.map((value) => value > 0),
    [true, true, false, false],
  );
  t.ok(ranked![0]! > ranked![1]!);
});

t.test('recipes are in the package', async (t) => {
  const root = new URL('../../', import.meta.url);
  const { files } = JSON.parse(readFileSync(new URL('package.json', root), 'utf8')) as { files: string[] };
  t.ok(files.includes('recipes'));
  const known = new Set(recipes.map(({ path }) => basename(path)));
  t.strictSame(
    readdirSync(new URL('recipes', root)).filter((name) => !known.has(name)),
    [],
    'and nothing else is in their folder',
  );
});
