import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { modulesOf, readAdapterConfig } from '../../lib/data/adapter-config.js';
import { Model } from '../../lib/native/model.js';
import { adapterOf } from '../helpers/adapter.js';
import { checkpoint } from '../helpers/golden.js';

// adapter_config.json is hostile input: what would be computed differently is refused by name.

const PLAIN = { peft_type: 'LORA', r: 8, lora_alpha: 16, target_modules: ['q_proj', 'v_proj'] };

t.test('what PEFT writes is read', async (t) => {
  const { options } = readAdapterConfig({ ...PLAIN, use_rslora: true, lora_dropout: 0.05 }, 'here');
  t.strictSame(options, { rank: 8, alpha: 16, dropout: 0.05, rankStabilized: true });
  for (const init of [true, false, null, 'gaussian', 'Gaussian', 'eva', 'orthogonal', 'mica']) {
    readAdapterConfig({ ...PLAIN, init_lora_weights: init }, 'here');
  }
  const off = {
    use_dora: false,
    modules_to_save: [],
    trainable_token_indices: {},
    use_bdlora: null,
    lora_bias: false,
  };
  const ignored = {
    peft_version: '0.21.2',
    qalora_group_size: 16,
    runtime_config: {},
    key_of_a_later_version: 3,
  };
  t.strictSame(readAdapterConfig({ ...PLAIN, ...off, ...ignored }, 'here'), readAdapterConfig(PLAIN, 'here'));
});

t.test('what is not computed is refused, with its name', async (t) => {
  const bad: [object, RegExp][] = [
    [{ peft_type: 'IA3' }, /peft_type must be "LORA", got "IA3"/],
    [{ r: 0 }, /r must be an integer in \[1/],
    [{ lora_alpha: 'x' }, /lora_alpha must be a number/],
    [{ lora_dropout: 1 }, /lora_dropout must be below 1/],
    [{ bias: 'all' }, /bias must be "none"/],
    [{ use_dora: true }, /use_dora is not supported, got true: it is a DoRA adapter.*merge it into its base/],
    [{ use_qalora: true }, /use_qalora is not supported/],
    [{ use_bdlora: { nblocks: 2 } }, /use_bdlora is not supported/],
    [{ lora_bias: true }, /lora_bias is not supported/],
    [{ modules_to_save: ['lm_head'] }, /modules_to_save is not supported, got \["lm_head"\]/],
    [{ trainable_token_indices: [3] }, /trainable_token_indices is not supported/],
    [{ target_parameters: ['mlp.w'] }, /target_parameters is not supported/],
    [{ alora_invocation_tokens: [1] }, /alora_invocation_tokens is not supported/],
    [{ layer_replication: [[0, 1]] }, /layer_replication is not supported/],
    [{ kasa_config: { beta: 1 } }, /kasa_config is not supported/],
    [{ monteclora_config: { num_samples: 8 } }, /monteclora_config is not supported/],
    [
      { init_lora_weights: 'pissa' },
      /"pissa" changes the base's weights; convert it to a plain LoRA adapter/,
    ],
    [{ init_lora_weights: 'pissa_niter_16' }, /"pissa_niter_16" changes the base's weights/],
    [{ init_lora_weights: 'olora' }, /"olora" changes the base's weights/],
    [{ init_lora_weights: 'corda' }, /"corda" changes the base's weights/],
    [{ init_lora_weights: 'lora_ga' }, /"lora_ga" changes the base's weights/],
    [{ init_lora_weights: 'loftq' }, /"loftq" replaces the base's weights by quantised ones/],
    [{ init_lora_weights: 'new' }, /"new" is not known, and might change the base's weights/],
    [
      { target_modules: [] },
      /target_modules must be a list of modules, a pattern or "all-linear", and is empty/,
    ],
    [{ target_modules: null }, /target_modules must be .* and is empty/],
    [{ target_modules: [3] }, /target_modules must be a pattern or a list of module names, got \[3\]/],
    [{ exclude_modules: 3 }, /exclude_modules must be a pattern or a list of module names, got 3/],
    [{ layers_to_transform: ['1'] }, /layers_to_transform must be numbers of layers/],
    [
      { target_modules: '.*', layers_to_transform: [1] },
      /go with a list of target_modules, not with a pattern/,
    ],
    [{ rank_pattern: { q_proj: 0 } }, /rank_pattern\["q_proj"\] must be a positive number, got 0/],
    [{ alpha_pattern: { q_proj: '4' } }, /alpha_pattern\["q_proj"\] must be a positive number, got "4"/],
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

t.test('the file of weights has the modules that the configuration names, and no others', async (t) => {
  const names = [
    'model.layers.0.self_attn.q_proj',
    'model.layers.1.self_attn.q_proj',
    'model.layers.1.mlp.up_proj',
  ];
  const modules = (change: object, found: readonly string[]) =>
    modulesOf(
      readAdapterConfig({ ...PLAIN, ...change }, 'here'),
      'here',
      names,
      new Map(found.map((name) => [name, 8])),
    );
  t.strictSame(
    modules({ target_modules: ['q_proj'] }, names.slice(0, 2)).map(({ name }) => name),
    names.slice(0, 2),
  );
  const bad: [object, readonly string[], RegExp][] = [
    [
      { target_modules: ['lm_head'] },
      [],
      /target_modules \["lm_head"\] names no linear module of the layers/,
    ],
    [
      { target_modules: ['q_proj'] },
      names.slice(0, 1),
      /names model\.layers\.1\.self_attn\.q_proj, which the file/,
    ],
    [
      { target_modules: ['up_proj'] },
      names,
      /the file of weights has model\.layers\.0\.self_attn\.q_proj, model/,
    ],
    [
      { target_modules: ['up_proj'], alpha_pattern: { '(?i)UP_PROJ': 3 } },
      names.slice(2),
      /alpha_pattern has a pattern that only Python reads/,
    ],
    // A search that would take longer than the universe is old.
    [{ target_modules: '(([a-z_.0-9]+)+)+!' }, names, /the search for .* takes too long/],
    [
      { target_modules: ['q_proj'], layers_to_transform: 1, layers_pattern: '(([a-z_.0-9]+)+)+!' },
      names,
      /the search for .* takes too long/,
    ],
  ];
  for (const [change, found, message] of bad) {
    t.throws(() => modules(change, found), { code: 'INVALID_CHECKPOINT', message });
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
  const copyTo = (to: string, name: string, from = join(folder, 'good')) =>
    writeFileSync(join(to, name), readFileSync(join(from, name)));
  copyTo(mixed, 'adapter_config.json');
  copyTo(mixed, 'adapter_model.safetensors', other);
  await t.rejects(base.loadAdapter(mixed), {
    code: 'INVALID_CHECKPOINT',
    message:
      /do not match adapter_config\.json: misshapen: .*q_proj\.lora_A\.weight has shape \[5, \d+\], expected \[4,/,
  });
  const pickled = join(folder, 'pickled');
  mkdirSync(pickled);
  copyTo(pickled, 'adapter_config.json');
  writeFileSync(join(pickled, 'adapter_model.bin'), '');
  await t.rejects(base.loadAdapter(pickled), {
    code: 'INVALID_CHECKPOINT',
    message: /has no adapter_model\.safetensors; adapter_model\.bin is of a format that is not read \(pickle/,
  });
  await t.rejects(model.loadAdapter(other), { code: 'INVALID_ARGUMENT', message: /has an adapter already/ });
  await t.rejects(base.merge(), { code: 'INVALID_ARGUMENT', message: /has no adapter/ });
  await t.rejects(base.addAdapter({ ...options, rank: 0 }), { code: 'INVALID_ARGUMENT', message: /rank/ });
  await t.rejects(adapterOf(join(folder, 'nowhere'), 2), { code: 'INVALID_CHECKPOINT' });
});
