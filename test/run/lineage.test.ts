import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type CreamConfigInput, validateConfig } from '../../lib/config.js';
import { differences, digestInputs, type RunRecord } from '../../lib/run/lineage.js';
import { promptsPerIteration, sliceOf } from '../../lib/run/inputs.js';

const record = (extra: Partial<CreamConfigInput> = {}, rest: Partial<RunRecord> = {}): RunRecord => ({
  version: 1,
  created: '2026-01-01T00:00:00.000Z',
  config: validateConfig({
    model: '/m',
    data: { prompts: '/p', sft: '/s', evaluation: [{ name: 'a', path: '/e' }] },
    ...extra,
  }),
  inputs: { 'model/config.json': 'aa', 'data.prompts': 'bb' },
  versions: { 'cream-lm': '1', libtorch: '2' },
  threads: 2,
  ...rest,
});

t.test('what decides the result must be as it was', async (t) => {
  const cases: [RunRecord, RegExp][] = [
    [record({ seed: 1 }), /^seed: was 0, is 1$/],
    [record({ beta: 0.2 }), /^beta: was 0\.1, is 0\.2$/],
    [record({ sampling: { n: 6 } }), /^sampling\.n: was 5, is 6$/],
    [record({ maxLength: 1024 }), /^maxLength: was "auto", is 1024$/],
    [
      record({ consistency: { weight: 'constant', constant: 0.5 } }),
      /^consistency\.constant: was not set, is 0\.5$/,
    ],
    [record({ iterations: 1 }), /^iterations: was 2, is 1; it may only be raised$/],
    [
      record({}, { inputs: { 'model/config.json': 'aa', 'data.prompts': 'cc' } }),
      /^content of data\.prompts: was sha256 bb/,
    ],
    [
      record({}, { inputs: { 'data.prompts': 'bb' } }),
      /^content of model\/config\.json: was sha256 aa, is not set/,
    ],
    [record({}, { versions: { 'cream-lm': '2', libtorch: '2' } }), /^version of cream-lm: was 1, is 2$/],
    [record({}, { threads: 3 }), /^threads: was 2, is 3$/],
    [
      record({
        data: { prompts: '/p', sft: '/s', evaluation: [{ name: 'a', path: '/e', extract: 'number' }] },
      }),
      /^data\.evaluation: was \[\{"name":"a","scoring":"generate","extract":"auto","stop":\[\]\}\]/,
    ],
  ];
  for (const [now, expected] of cases) {
    t.ok(
      differences(record(), now).some((line) => expected.test(line)),
      `${expected}: ${differences(record(), now).join()}`,
    );
  }
});

t.test('paths, more iterations and how often to save are free', async (t) => {
  const moved = {
    model: '/elsewhere/m',
    output: '/out',
    iterations: 3,
    data: { prompts: '/x/p', sft: '/x/s', evaluation: [{ name: 'a', path: '/x/e' }] },
    train: { checkpointEverySteps: 7 },
    sft: { checkpointEverySteps: 7 },
    threads: 2,
  };
  t.strictSame(differences(record(), record(moved)), []);
  const withoutPrompts = record({}, { inputs: { 'model/config.json': 'aa' } });
  t.strictSame(differences(withoutPrompts, record()), [], 'the first iteration brings the prompts');
});

t.test('inputs are known by content', async (t) => {
  const folder = t.testdir({ m: { 'config.json': '{}', 'w.bin': 'w' }, p: 'prompts', e: 'task' });
  const config = validateConfig({
    model: join(folder, 'm'),
    data: { prompts: join(folder, 'p'), evaluation: [{ name: 'a', path: join(folder, 'e') }] },
  });
  const before = await digestInputs(config);
  t.strictSame(Object.keys(before), [
    'model/config.json',
    'model/w.bin',
    'data.prompts',
    'data.evaluation.a',
  ]);
  appendFileSync(join(folder, 'm', 'w.bin'), 'x');
  const after = await digestInputs(config);
  t.not(after['model/w.bin'], before['model/w.bin']);
  t.equal(after['data.prompts'], before['data.prompts']);
  await t.rejects(digestInputs({ ...config, model: join(folder, 'no') }), { code: 'INVALID_CHECKPOINT' });
  await t.rejects(digestInputs({ ...config, data: { ...config.data, prompts: join(folder, 'no') } }), {
    code: 'INVALID_DATA',
    message: /data\.prompts: there is no file/,
  });
});

t.test('the slices of the iterations are disjoint, and stay when iterations are added', async (t) => {
  const prompts = Array.from({ length: 10 }, (_, i) => ({ id: `p${i}` }));
  t.equal(promptsPerIteration('auto', 10, 3), 3);
  t.equal(promptsPerIteration(5, 10, 2), 5);
  t.throws(() => promptsPerIteration(6, 10, 2), {
    code: 'INVALID_DATA',
    message: /2 iterations of 6 prompts need 12/,
  });
  t.throws(() => promptsPerIteration('auto', 2, 3), { code: 'INVALID_DATA' });
  const slices = [1, 2, 3].map((t) => sliceOf(prompts, t, 3, 0).map(({ id }) => id));
  t.equal(new Set(slices.flat()).size, 9);
  t.strictSame(
    sliceOf(prompts.toReversed(), 2, 3, 0).map(({ id }) => id),
    slices[1],
  );
  t.notSame(
    sliceOf(prompts, 1, 3, 1).map(({ id }) => id),
    slices[0],
  );
});
