import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { LORA_MODULES, readAdapter, readAdapterConfig } from '../../lib/data/adapter.js';
import { Model } from '../../lib/native/model.js';
import { checkpoint } from '../helpers/golden.js';

// adapter_config.json is hostile input: what would be computed differently is refused by name.

const PLAIN = { peft_type: 'LORA', r: 8, lora_alpha: 16, target_modules: ['q_proj', 'v_proj'] };

t.test('what PEFT writes is read', async (t) => {
  t.strictSame(readAdapterConfig({ ...PLAIN, use_rslora: true, lora_dropout: 0.05 }, 'here'), {
    rank: 8,
    alpha: 16,
    dropout: 0.05,
    rankStabilized: true,
    targetModules: ['q_proj', 'v_proj'],
  });
  const all = readAdapterConfig({ ...PLAIN, target_modules: 'all-linear' }, 'here');
  t.strictSame(all.targetModules, LORA_MODULES);
  const paths = ['model.layers.0.mlp.down_proj', 'model.layers.1.mlp.down_proj'];
  t.strictSame(readAdapterConfig({ ...PLAIN, target_modules: paths }, 'here').targetModules, ['down_proj']);
});

t.test('what is not computed is refused, with its name', async (t) => {
  const bad: [object, RegExp][] = [
    [{ peft_type: 'IA3' }, /peft_type must be "LORA", got "IA3"/],
    [{ r: 0 }, /r must be an integer in \[1/],
    [{ lora_alpha: 'x' }, /lora_alpha must be a number/],
    [{ lora_dropout: 1 }, /lora_dropout must be below 1/],
    [{ bias: 'all' }, /bias must be "none"/],
    [{ use_dora: true }, /use_dora must be false/],
    [{ fan_in_fan_out: true }, /fan_in_fan_out must be false/],
    [{ rank_pattern: { q_proj: 4 } }, /rank_pattern is not supported/],
    [{ modules_to_save: ['lm_head'] }, /modules_to_save is not supported/],
    [{ layers_to_transform: [1] }, /layers_to_transform is not supported/],
    [{ init_lora_weights: 'pissa' }, /"pissa" changes the base's weights/],
    [{ target_modules: [] }, /target_modules must be a list/],
    [{ target_modules: ['lm_head'] }, /target_modules has "lm_head"; known are q_proj/],
    [{ target_modules: '.*' }, /target_modules must be a list/],
    [{ target_modules: [3] }, /target_modules has 3/],
  ];
  for (const [change, message] of bad) {
    t.throws(() => readAdapterConfig({ ...PLAIN, ...change }, 'here'), {
      code: 'INVALID_CHECKPOINT',
      message,
    });
  }
  for (const json of [null, [], 'x', 3]) {
    t.throws(() => readAdapterConfig(json, 'here'), { code: 'INVALID_CHECKPOINT' });
  }
});

t.test('tensors that do not fit the config are refused, with both shapes', async (t) => {
  const folder = t.testdir({});
  await using base = await Model.load(checkpoint('llama'));
  const options = {
    rank: 4,
    alpha: 8,
    dropout: 0,
    rankStabilized: false,
    targetModules: ['q_proj'],
  } as const;
  await using model = await base.addAdapter(options);
  await model.save(join(folder, 'good'));
  const other = join(folder, 'other');
  await (await base.addAdapter({ ...options, rank: 5 })).save(other);
  const mixed = join(folder, 'mixed');
  mkdirSync(mixed);
  const copy = (from: string, name: string) =>
    writeFileSync(join(mixed, name), readFileSync(join(from, name)));
  copy(join(folder, 'good'), 'adapter_config.json');
  copy(other, 'adapter_model.safetensors');
  await t.rejects(base.loadAdapter(mixed), {
    code: 'INVALID_CHECKPOINT',
    message:
      /do not match adapter_config\.json: misshapen: .*q_proj\.lora_A\.weight has shape \[5, \d+\], expected \[4,/,
  });
  await t.rejects(model.loadAdapter(other), { code: 'INVALID_ARGUMENT', message: /has an adapter already/ });
  await t.rejects(base.merge(), { code: 'INVALID_ARGUMENT', message: /has no adapter/ });
  await t.rejects(base.addAdapter({ ...options, rank: 0 }), { code: 'INVALID_ARGUMENT', message: /rank/ });
  await t.rejects(readAdapter(join(folder, 'nowhere')), { code: 'INVALID_CHECKPOINT' });
});
