import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { absoluteConfig, validateConfig } from '../lib/config.js';
import { readModelConfig } from '../lib/data/model-config.js';
import { estimate } from '../lib/estimate/estimate.js';
import { memoryOf } from '../lib/estimate/memory.js';
import { kvBytesPerToken, parameterCounts, savedBytesPerRow } from '../lib/estimate/sizes.js';
import { scoringPasses, stagesOf, type Workload } from '../lib/estimate/work.js';
import { MODEL_CONFIG } from '../lib/demo/checkpoint.js';
import { Model } from '../lib/native/model.js';
import { cream } from './helpers/cream.js';
import { writeTinyRun } from './helpers/tiny-run.js';

const LLAMA_3_8B = readModelConfig(
  {
    model_type: 'llama',
    architectures: ['LlamaForCausalLM'],
    vocab_size: 128_256,
    hidden_size: 4096,
    intermediate_size: 14_336,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    max_position_embeddings: 8192,
    rms_norm_eps: 1e-5,
    rope_theta: 500_000,
    tie_word_embeddings: false,
  },
  'Llama 3 8B',
);

const folder = mkdtempSync(join(tmpdir(), 'cream-estimate-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const input = await writeTinyRun(folder);

t.test('sizes of Llama-3-8B are the published ones', async (t) => {
  t.equal(parameterCounts(LLAMA_3_8B).total, 8_030_261_248);
  t.equal(kvBytesPerToken(LLAMA_3_8B, 'bfloat16'), 131_072);
});

t.test('parameters are those of the engine, with every option of the architecture', async (t) => {
  const shapes = [
    {},
    { tie_word_embeddings: true },
    { model_type: 'qwen2', architectures: ['Qwen2ForCausalLM'], attention_bias: true },
    { model_type: 'qwen3', architectures: ['Qwen3ForCausalLM'], num_key_value_heads: 2 },
    { attention_bias: true, mlp_bias: true },
  ];
  for (const changes of shapes) {
    const config = readModelConfig({ ...MODEL_CONFIG, ...changes }, 'a shape');
    const model = await Model.random(config, { seed: 1n });
    t.equal(parameterCounts(config).total, model.numParameters, JSON.stringify(changes));
    model.dispose();
  }
});

const WORK: Workload = {
  prompts: 10,
  lengths: { prompt: 20, response: 11 },
  evaluation: { problems: 7, lengths: { prompt: 20, response: 5 } },
};
const settings = (changes: object) =>
  validateConfig({ model: 'm', data: { prompts: 'p', evaluation: [{ name: 'e', path: 'e' }] }, ...changes });

t.test('work: prompts once per group, passes by iteration, models measured', async (t) => {
  const config = settings({ iterations: 3, sampling: { n: 4 } });
  t.strictSame(
    [1, 2, 3].map((i) => scoringPasses(i, config)),
    [2, 3, 3],
  );
  t.equal(scoringPasses(3, settings({ score: { previousReward: 'anchor' } })), 2);
  t.equal(scoringPasses(3, config, 'gpu'), 2, "auto takes the sampler's log-probs there");
  t.equal(scoringPasses(3, settings({ score: { policyFrom: 'scoring' } }), 'gpu'), 3);
  t.equal(scoringPasses(3, settings({ score: { policyFrom: 'generation' } })), 2);
  const onGpu = stagesOf(config, WORK, 'gpu').find(({ stage }) => stage === 'score');
  t.equal(onGpu?.scored, 5 * 10 * (20 + 4 * 10));
  const stages = new Map(stagesOf(config, WORK).map((stage) => [stage.stage, stage]));
  t.equal(stages.get('sample')?.generated, 3 * 10 * 4 * 11);
  t.equal(stages.get('score')?.scored, 8 * 10 * (20 + 4 * 10));
  t.equal(stages.get('train')?.trained, 3 * 10 * (20 + 2 * 10));
  t.equal(stages.get('evaluate')?.generated, 7 * 4 * 5, 'M0, M2, M3, M4: without fine-tuning M1 is M0');
  t.notOk(stages.has('sft'));
});

t.test(
  'keys and values are those of the responses that live at once, whatever the prompts and chunks',
  async (t) => {
    const keysAndValues = (engine: 'cpu' | 'gpu', chunkSize: number, prompts: number, room = 2 ** 50) => {
      const config = settings({ sampling: { n: 5, maxNewTokens: 301, chunkSize } });
      const work = { ...WORK, prompts, lengths: { prompt: 128, response: 301 } };
      const [sample] = memoryOf(config, LLAMA_3_8B, 'bfloat16', work, room, engine);
      return sample!.parts.find(({ what }) => what === 'keys and values')!.bytes / 131_072;
    };
    for (const chunkSize of [1, 32, 1000]) {
      // Blocks of 16 tokens: 304 of a response, 128 of a prompt.
      t.equal(keysAndValues('cpu', chunkSize, 21_000), 256 * (304 + 128));
      t.equal(keysAndValues('gpu', chunkSize, 21_000), 512 * 304 + 207 * 128);
    }
    t.equal(keysAndValues('cpu', 32, 3), 15 * 304 + 3 * 128, 'few prompts');
    t.equal(keysAndValues('cpu', 32, 21_000, 2 ** 33) * 131_072, 2 ** 31, 'a quarter of the machine');
  },
);

t.test('memory of full fine-tuning, by hand', async (t) => {
  const config = settings({ train: { maxTokensPerBatch: 1000, batchSize: 64 } });
  const [, , train] = memoryOf(config, LLAMA_3_8B, 'bfloat16', WORK, 2 ** 40);
  t.equal(train?.parts[0]?.bytes, 2 * 8_030_261_248);
  const perParameter = train!.parts.slice(1, 4).map(({ what, bytes }) => [what, bytes / 8_030_261_248]);
  t.strictSame(perParameter, [
    ['float32 master', 4],
    ['gradient, float32', 4],
    ['two moments, float32', 8],
  ]);
  t.match(train?.parts[4]?.what, '1000 tokens');
  // residual twice, qkv, attention output, gate|up in bfloat16, and a float32 log-sum-exp per head
  const perRow = 32 * (2 * (2 * 4096 + 6144 + 4096 + 2 * 14_336) + 32 * 4);
  t.equal(savedBytesPerRow(LLAMA_3_8B, 'bfloat16'), perRow);
  t.equal(
    train?.total,
    train?.parts.reduce((sum, part) => sum + part.bytes, 0),
  );
});

t.test('a real run: counts are those of the data, times are measured', async (t) => {
  const config = absoluteConfig(validateConfig(input), () => folder);
  const result = await estimate(config, { probe: true });
  t.equal(result.workload.sft?.examples, 24);
  t.equal(result.workload.prompts, 12);
  t.equal(result.workload.lengths.prompt, 6 + (2 * 1 + 13 * 2 + 9 * 3) / 24, 'BOS abc + 7 i =');
  t.equal(result.isUpperBound, true);
  t.ok(result.seconds! > 0 && Number.isFinite(result.seconds));
  t.ok(result.stages.every(({ seconds }) => seconds! > 0));
  t.equal(result.speed?.trainIsMeasured, true);
  t.ok(result.freeDiskBytes! > 0);
  const shorter = await estimate(config, { probe: false, responseTokens: 3 });
  t.equal(shorter.seconds, undefined);
  t.ok(shorter.diskBytes < result.diskBytes);
});

t.test('the command prints tables, and one JSON object', async (t) => {
  const file = join(folder, 'cream.json');
  writeFileSync(file, JSON.stringify(input));
  const table = await cream(['estimate', file, '--no-time']);
  t.equal(table.code, 0, table.stderr);
  t.match(table.stdout, /peak .* of .*GiB/);
  t.notMatch(table.stdout, /in all/);
  const gpu = await cream(['estimate', file, '--gpu', 'h200']);
  t.equal(gpu.code, 0, gpu.stderr);
  t.match(gpu.stdout, /low half of the float32 master|two moments/);
  t.notMatch(gpu.stdout, 'host memory', 'a small model waits on the GPU');
  const how =
    /derived for one H200 \(SXM\), by what one sustained on 2026-11-27: 670 TFLOP\/s and 4\.30 TB\/s/;
  t.match(gpu.stdout, how);
  t.match(gpu.stdout, /^the training fits, in micro-batches of /m);
  t.match((await cream(['estimate', file, '--gpu', 'b200'])).stderr, /--gpu must be one of h200, h100/);
  const json = await cream(['estimate', file, '--no-time', '--response-tokens', '4', '--json']);
  t.equal((JSON.parse(json.stdout) as { workload: Workload }).workload.lengths.response, 4);
  const missing = await cream(['estimate', file, 'model=/nowhere', '--no-time']);
  t.equal(missing.code, 4);
  t.match(missing.stderr, /\/nowhere\/config\.json/);
});
