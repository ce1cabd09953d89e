import { cpSync, existsSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { readCheckpoint } from '../../lib/data/checkpoint.js';
import { loadBinding } from '../../lib/native/binding.js';
import { Model } from '../../lib/native/model.js';
import { CHECKPOINTS, checkpoint } from '../helpers/golden.js';

// Loading and saving of checkpoint folders. That the numbers are transformers' is test/model/golden.test.ts.

const IDS = [1, 5, 9, 3, 7];

async function logprobsOf(model: Model): Promise<number[]> {
  const [group] = await model.score([{ promptIds: [1, 2], responses: [IDS] }]);
  return group!.logprobs;
}

function readBytes(directory: string): Record<string, Buffer> {
  return Object.fromEntries(
    readdirSync(directory).map((name) => [name, readFileSync(join(directory, name))]),
  );
}

for (const name of CHECKPOINTS) {
  t.test(`${name}: what is saved loads as the same model`, async (t) => {
    const folder = join(t.testdir(), 'saved');
    await using model = await Model.load(checkpoint(name));
    await model.save(folder);
    await using again = await Model.load(folder);
    t.equal(again.dtype, model.dtype);
    t.strictSame(again.config, model.config);
    t.strictSame(await logprobsOf(again), await logprobsOf(model), 'bit by bit');
    // Saving is idempotent: nothing is lost or added on the way.
    await again.save(`${folder}-2`);
    t.strictSame(readBytes(`${folder}-2`), readBytes(folder));
  });
}

t.test('shards and a single file hold the same model', async (t) => {
  const directory = t.testdir();
  await using model = await Model.load(checkpoint('llama'));
  await model.save(join(directory, 'one'));
  await model.save(join(directory, 'many'), { maxShardBytes: 20_000 });
  const names = readdirSync(join(directory, 'many')).filter((name) => name.endsWith('.safetensors'));
  t.ok(names.length > 3, `${names.length} shards`);
  t.ok(names.every((name) => /^model-\d{5}-of-\d{5}\.safetensors$/.test(name)));
  const index = JSON.parse(readFileSync(join(directory, 'many', 'model.safetensors.index.json'), 'utf8')) as {
    metadata: { total_size: number };
    weight_map: Record<string, string>;
  };
  t.equal(index.metadata.total_size, 4 * model.numParameters);
  t.strictSame([...new Set(Object.values(index.weight_map))].sort(), names.sort());
  await using again = await Model.load(join(directory, 'many'));
  t.strictSame(await logprobsOf(again), await logprobsOf(model));
});

t.test('dtype: auto is float32 for float32 and bfloat16 for the others; the choice is saved', async (t) => {
  const directory = t.testdir();
  for (const [name, dtype] of [
    ['llama', 'float32'],
    ['llama-bfloat16', 'bfloat16'],
    ['llama-float16', 'bfloat16'],
  ] as const) {
    await using model = await Model.load(checkpoint(name));
    t.equal(model.dtype, dtype, name);
    await model.save(join(directory, name));
    const config = JSON.parse(readFileSync(join(directory, name, 'config.json'), 'utf8')) as Record<
      string,
      string
    >;
    t.equal(config['dtype'] ?? config['torch_dtype'], dtype);
  }
  // float32 holds every float16 and bfloat16 number.
  await using wide = await Model.load(checkpoint('llama-float16'), { dtype: 'float32' });
  await wide.save(join(directory, 'wide'));
  const kinds = new Set(
    loadBinding()
      .safetensorsHeader(join(directory, 'wide', 'model.safetensors'))
      .map((e) => e.dtype),
  );
  t.strictSame([...kinds], ['F32']);
});

t.test("saving keeps every number's own spelling", async (t) => {
  const directory = t.testdir({});
  const source = join(directory, 'source');
  cpSync(checkpoint('llama'), source, { recursive: true });
  const text = readFileSync(join(source, 'config.json'), 'utf8')
    .replace('"rope_theta": 10000.0', '"rope_theta": 1.0E+4')
    .replace(
      '"use_cache": true',
      '"use_cache": true, "a_trainers_key": [12345678901234567890, -0.0, 1e-05, "\\u00e9"]',
    );
  t.match(text, /1\.0E\+4.*a_trainers_key/s);
  writeFileSync(join(source, 'config.json'), text);
  const generation = '{"temperature": 1.0, "eos_token_id": [2], "x": 12345678901234567890}';
  writeFileSync(join(source, 'generation_config.json'), generation);
  await using model = await Model.load(source, { dtype: 'bfloat16' });
  await model.save(join(directory, 'target'));
  const saved = (name: string) => readFileSync(join(directory, 'target', name), 'utf8');
  t.equal(saved('config.json'), text.replace('"dtype": "float32"', '"dtype": "bfloat16"'));
  t.equal(saved('generation_config.json'), generation);
});

t.test(
  'saving copies the tokenizer, the template and the generation settings, and nothing else',
  async (t) => {
    const directory = t.testdir({
      source: {
        'tokenizer.json': '{"version":"1.0"}',
        'tokenizer_config.json': '{}',
        'special_tokens_map.json': '{}',
        'chat_template.jinja': '{{ messages }}',
        'modeling_evil.py': 'import os',
        'pytorch_model.bin': 'pickle',
      },
    });
    const source = join(directory, 'source');
    cpSync(checkpoint('llama'), source, { recursive: true });
    await using model = await Model.load(source);
    await model.save(join(directory, 'target'));
    t.strictSame(readdirSync(join(directory, 'target')).sort(), [
      'chat_template.jinja',
      'config.json',
      'generation_config.json',
      'model.safetensors',
      'special_tokens_map.json',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    t.equal(readFileSync(join(directory, 'target', 'chat_template.jinja'), 'utf8'), '{{ messages }}');
    t.strictSame(readdirSync(directory).sort(), ['source', 'target'], 'no temporary folder is left');
  },
);

t.test('saving refuses a folder that is not empty unless it is told to replace it', async (t) => {
  const directory = t.testdir({ full: { 'precious.txt': 'mine' }, empty: {}, file: 'text' });
  await using model = await Model.load(checkpoint('llama'));
  await t.rejects(model.save(join(directory, 'full')), {
    code: 'IO',
    message: /full is there and not empty/,
  });
  t.equal(readFileSync(join(directory, 'full', 'precious.txt'), 'utf8'), 'mine');
  await t.rejects(model.save(join(directory, 'file')), { code: 'IO', message: /is a file/ });
  await model.save(join(directory, 'empty'));
  t.ok(existsSync(join(directory, 'empty', 'model.safetensors')));
  await model.save(join(directory, 'full'), { overwrite: true });
  t.notOk(existsSync(join(directory, 'full', 'precious.txt')));
  await model.save(join(directory, 'a', 'b', 'c'));
  t.ok(existsSync(join(directory, 'a', 'b', 'c', 'config.json')), 'parents are made');
  t.strictSame(readdirSync(directory).sort(), ['a', 'empty', 'file', 'full']);
});

t.test('a failed save leaves nothing behind', async (t) => {
  const directory = t.testdir();
  await using model = await Model.load(checkpoint('llama'));
  const missing = join(directory, 'no-tokenizer');
  await t.rejects(model.save(join(directory, 'out'), { from: missing }), { code: 'INVALID_CHECKPOINT' });
  model.dispose();
  await t.rejects(model.save(join(directory, 'out')), { code: 'INVALID_ARGUMENT', message: /disposed/ });
  t.strictSame(readdirSync(directory), []);
});

const editJson = (path: string, edit: (json: Record<string, unknown>) => void) => {
  const json = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
  edit(json);
  writeFileSync(path, JSON.stringify(json));
};

t.test('a folder that cannot be used says what is wrong, where and what to do', async (t) => {
  const config = readFileSync(join(checkpoint('llama'), 'config.json'), 'utf8');
  const directory = t.testdir({
    empty: {},
    pickle: { 'config.json': config, 'pytorch_model.bin': '' },
    weightless: { 'config.json': config },
    broken: { 'config.json': '{"model_type": ' },
    list: { 'config.json': '[]' },
    folder: { 'config.json': {} },
  });
  const cases: [string, RegExp][] = [
    [
      '/nonexistent/model',
      /^\/nonexistent\/model: there is no such folder; wanted a folder with config\.json/,
    ],
    ['meta-llama/Llama-3-8B', /hf download meta-llama\/Llama-3-8B --local-dir Llama-3-8B/],
    [join(checkpoint('llama'), 'config.json'), /is not a folder/],
    [join(directory, 'empty'), /has no config\.json; give the folder of a Hugging Face/],
    [
      join(directory, 'pickle'),
      /has no model\.safetensors.*pytorch_model\.bin is of a format that is not read/,
    ],
    [join(directory, 'weightless'), /has no model\.safetensors or model\.safetensors\.index\.json/],
    [join(directory, 'broken'), /config\.json: is not valid JSON/],
    [join(directory, 'list'), /config\.json must hold a JSON object/],
    [join(directory, 'folder'), /config\.json: is not a file/],
  ];
  for (const [path, message] of cases) {
    await t.rejects(Model.load(path), { name: 'CreamError', code: 'INVALID_CHECKPOINT', message }, path);
  }
});

t.test('an index that leads out of the folder, or to nothing, is refused', async (t) => {
  const folder = join(t.testdir(), 'model');
  const index = join(folder, 'model.safetensors.index.json');
  const cases: [string, (json: Record<string, unknown>) => void, RegExp][] = [
    [
      'a parent',
      (json) => first(json, '../model.safetensors'),
      /must be a file name of a shard, got "\.\.\/model/,
    ],
    ['an absolute path', (json) => first(json, '/etc/passwd'), /must be a file name of a shard, got "\/etc/],
    ['a folder', (json) => first(json, 'a/b.safetensors'), /must be a file name/],
    ['a hidden file', (json) => first(json, '.safetensors'), /must be a file name/],
    ['a NUL', (json) => first(json, 'a\0.safetensors'), /must be a file name/],
    ['another format', (json) => first(json, 'model.bin'), /must be a file name/],
    ['no text', (json) => first(json, 7), /must be a file name of a shard, got 7/],
    [
      'a shard that is missing',
      (json) => first(json, 'model-9.safetensors'),
      /model-9\.safetensors: is missing/,
    ],
    ['no weight_map', (json) => delete json['weight_map'], /weight_map must name the shards/],
    ['an empty weight_map', (json) => (json['weight_map'] = {}), /weight_map must name the shards/],
    ['a list', (json) => (json['weight_map'] = ['a']), /weight_map must name the shards/],
  ];
  for (const [name, edit, message] of cases) {
    rmSync(folder, { recursive: true, force: true });
    cpSync(checkpoint('llama-sharded'), folder, { recursive: true });
    editJson(index, edit);
    await t.rejects(Model.load(folder), { code: 'INVALID_CHECKPOINT', message }, name);
  }
  const last = join(folder, 'model-00003-of-00003.safetensors');
  rmSync(folder, { recursive: true, force: true });
  cpSync(checkpoint('llama-sharded'), folder, { recursive: true });
  cpSync(join(folder, 'model-00002-of-00003.safetensors'), last);
  await t.rejects(Model.load(folder), {
    code: 'INVALID_CHECKPOINT',
    message: /tensor .* is in .* and again in/,
  });
});

function first(json: Record<string, unknown>, value: unknown): void {
  const map = json['weight_map'] as Record<string, unknown>;
  map[Object.keys(map)[0]!] = value;
}

t.test('links are followed, as a download cache has them', async (t) => {
  const directory = t.testdir({ model: {} });
  for (const name of readdirSync(checkpoint('llama'))) {
    symlinkSync(join(checkpoint('llama'), name), join(directory, 'model', name));
  }
  const { files } = await readCheckpoint(join(directory, 'model'));
  t.strictSame(files, [join(directory, 'model', 'model.safetensors')]);
  await using model = await Model.load(join(directory, 'model'));
  await model.save(join(directory, 'copy'));
  t.strictSame(readdirSync(join(directory, 'copy')).sort(), readdirSync(checkpoint('llama')).sort());
});

t.test('tensors that do not match config.json are named with both shapes', async (t) => {
  const folder = join(t.testdir(), 'model');
  const cases: [string, string, (json: Record<string, unknown>) => void, RegExp][] = [
    [
      'misshapen',
      'llama',
      (json) => (json['intermediate_size'] = 54),
      /model\.layers\.0\.mlp\.gate_proj\.weight has shape \[52, 32\], expected \[54, 32\]/,
    ],
    [
      'missing',
      'llama',
      (json) => (json['num_hidden_layers'] = 3),
      /missing: model\.layers\.2\.self_attn\.q_proj\.weight \[64, 32\]/,
    ],
    [
      'missing bias',
      'llama',
      (json) => (json['attention_bias'] = true),
      /missing: model\.layers\.0\.self_attn\.q_proj\.bias \[64\]/,
    ],
    [
      'extra layer',
      'llama',
      (json) => (json['num_hidden_layers'] = 1),
      /not part of the architecture: "model\.layers\.1\.input_layernorm\.weight" \[32\]/,
    ],
    [
      'extra bias',
      'llama-bias',
      (json) => (json['mlp_bias'] = false),
      /not part of the architecture: "model\.layers\.0\.mlp\.down_proj\.bias" \[32\]/,
    ],
    [
      'untied head missing',
      'llama-tied',
      (json) => (json['tie_word_embeddings'] = false),
      /missing: lm_head\.weight \[131, 32\]/,
    ],
    [
      'other head',
      'llama',
      (json) => (json['tie_word_embeddings'] = true),
      /lm_head\.weight differs from model\.embed_tokens\.weight/,
    ],
    ['many', 'llama', (json) => (json['hidden_size'] = 36), /expected \[131, 36\].* and \d+ more/],
  ];
  for (const [name, source, edit, message] of cases) {
    rmSync(folder, { recursive: true, force: true });
    cpSync(checkpoint(source), folder, { recursive: true });
    editJson(join(folder, 'config.json'), edit);
    await t.rejects(Model.load(folder), { code: 'INVALID_CHECKPOINT', message }, name);
  }
});

t.test('a random model is the same for the same seed and is saved with a config of its family', async (t) => {
  const directory = t.testdir();
  for (const name of CHECKPOINTS) {
    const { config } = await readCheckpoint(checkpoint(name));
    await using model = await Model.random(config, { seed: 7n });
    await using same = await Model.random(config, { seed: 7n });
    await using other = await Model.random(config, { seed: 8n });
    const logprobs = await logprobsOf(model);
    t.strictSame(await logprobsOf(same), logprobs, name);
    t.strictNotSame(await logprobsOf(other), logprobs, name);
    await model.save(join(directory, name));
    await using again = await Model.load(join(directory, name));
    t.strictSame(again.config, model.config, name);
    t.strictSame(await logprobsOf(again), logprobs, name);
  }
});

t.test('a clone is independent of its original', async (t) => {
  await using model = await Model.load(checkpoint('llama'));
  const before = await logprobsOf(model);
  await using copy = await model.clone();
  await using trainer = await copy.createTrainer({ weightDecay: 0 });
  await trainer.sftStep([{ promptIds: [1], responseIds: [4, 5] }], {
    learningRate: 1e-2,
    maxTokensPerBatch: 64,
  });
  t.strictNotSame(await logprobsOf(copy), before);
  t.strictSame(await logprobsOf(model), before);
});
