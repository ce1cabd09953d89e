import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Model } from '../../lib/native/model.js';
import { readRecords } from '../../lib/run/records.js';
import type { ScoredGroup } from '../../lib/types.js';
import { adapterOf } from '../helpers/adapter.js';
import { built } from '../helpers/built.js';
import { close } from '../helpers/close.js';
import { cream, jsonLines } from '../helpers/cream.js';
import { digests, writeTinyRun } from '../helpers/tiny-run.js';

// A whole run with adapters in place of full fine-tuning, and the commands that use what it leaves.

t.setTimeout(240_000);

const { runCream } = built;
const folder = t.testdir({});
const lora = { rank: 3, alpha: 6, dropout: 0.1 } as const;
const config = { ...(await writeTinyRun(folder)), lora };
const at = (...parts: string[]) => join(config.output, ...parts);

t.test('every model of the run but M0 is an adapter over M0', async (t) => {
  const summary = await runCream(config).result;
  t.equal(summary.models.length, 4);
  for (const policy of ['sft/model', 'iteration-1/policy', 'iteration-2/policy']) {
    const names = readdirSync(at(policy));
    t.ok(names.includes('adapter_model.safetensors') && names.includes('tokenizer.json'), policy);
    t.notOk(names.includes('model.safetensors'), 'the weights of M0 are not copied');
    const { options } = await adapterOf(at(policy), 2);
    t.strictSame([options.rank, options.alpha, options.dropout], [3, 6, 0.1]);
    t.equal(options.targetModules.length, 7);
  }
});

t.test('scores are those of the adapters, the base its own', async (t) => {
  const groups = await readRecords<ScoredGroup>(at('iteration-2', 'scores.jsonl'));
  await using base = await Model.load(config.model, { threads: 1 });
  const load = (part: string) => base.loadAdapter(at(part));
  await using policy = await load('iteration-1/policy');
  await using previous = await load('sft/model');
  for (const { promptIds, responses, logprobs, baseLogprobs, previousLogprobs } of groups.slice(0, 4)) {
    const group = [{ promptIds, responses: responses.map(({ ids }) => ids) }];
    close(t, (await policy.score(group))[0]!.logprobs, logprobs, { atol: 1e-4 }, 'policy');
    close(t, (await base.score(group))[0]!.logprobs, baseLogprobs!, { atol: 1e-4 }, 'base');
    close(t, (await previous.score(group))[0]!.logprobs, previousLogprobs!, { atol: 1e-4 }, 'previous');
    t.notSame(logprobs, previousLogprobs);
  }
});

t.test('interrupted and continued, it ends with the same bits', async (t) => {
  const output = join(folder, 'interrupted');
  for (let interruptions = 0; ; interruptions++) {
    const stop = new AbortController();
    const run = runCream({ ...config, output }, { signal: stop.signal });
    let finished = false;
    let events = 0;
    try {
      for await (const event of run) {
        if (event.type === 'run' && event.status === 'finished') finished = true;
        events += 1;
        if (interruptions < 4 && events === 12 + 9 * interruptions) stop.abort();
      }
      await run.result;
    } catch (error) {
      t.equal((error as { code?: string }).code, 'ABORTED');
    }
    if (finished) {
      t.ok(interruptions > 0, `${interruptions} interruptions`);
      break;
    }
  }
  t.strictSame(digests(output), digests(at()));
});

t.test('the run without data.sft begins with a new adapter', async (t) => {
  const { sft: _, ...rest } = config;
  const { sft: __, ...data } = config.data;
  const output = join(folder, 'from-base');
  await runCream({ ...rest, data, output, iterations: 1 }).result;
  t.ok(existsSync(join(output, 'iteration-1', 'policy', 'adapter_config.json')));
});

t.test('generate --adapter and the merged model agree', async (t) => {
  const policy = at('iteration-2', 'policy');
  const merged = join(folder, 'merged');
  const outcome = await cream(['merge', '-m', config.model, '-a', policy, '-o', merged, '--json']);
  t.equal(outcome.code, 0, outcome.stderr);
  t.match(JSON.parse(outcome.stdout), { output: merged, dtype: 'float32' });
  const options = ['-p', '12+3=', '-n', '3', '--max-new-tokens', '6', '--json'];
  const adapted = await cream(['generate', '-m', config.model, '--adapter', policy, ...options]);
  const whole = await cream(['generate', '-m', merged, ...options]);
  t.equal(adapted.code, 0, adapted.stderr);
  const [a, b] = [adapted, whole].map(({ stdout }) =>
    jsonLines<{ ids: number[]; logprobs: number[] }>(stdout),
  );
  t.equal(a!.length, 3);
  a!.forEach(({ ids, logprobs }, i) => {
    t.strictSame(ids, b![i]!.ids);
    close(t, logprobs, b![i]!.logprobs, { atol: 1e-4 }, `response ${i}`);
  });
  const again = ['merge', '-m', config.model, '-a', policy, '-o', merged];
  const refused = await cream(again);
  t.match(refused.stderr, /has content already/);
  t.not(refused.code, 0);
  const other = await cream([...again, '--force', '--dtype', 'bfloat16', '--threads', '1', '--json']);
  t.equal(other.code, 0, other.stderr);
  t.match(JSON.parse(other.stdout), { dtype: 'bfloat16' });
});

t.test('sft --lora-rank makes an adapter, which train continues; mistakes are refused', async (t) => {
  const sftFile = join(folder, 'sft.jsonl');
  const adapter = join(folder, 'adapter');
  const common = ['-m', config.model, '--threads', '1', '--learning-rate', '0.01'];
  const first = await cream([
    'sft',
    ...common,
    '-i',
    sftFile,
    '-o',
    adapter,
    '--lora-rank',
    '2',
    '--epochs',
    '1',
  ]);
  t.equal(first.code, 0, first.stderr);
  t.match(first.stderr, /the adapter is in .*--adapter/);
  t.equal((await adapterOf(adapter, 2)).options.alpha, 4, 'twice the rank');
  const second = join(folder, 'adapter-2');
  const continued = await cream([
    'sft',
    ...common,
    '-i',
    sftFile,
    '-o',
    second,
    '--adapter',
    adapter,
    '--epochs',
    '1',
  ]);
  t.equal(continued.code, 0, continued.stderr);
  const both = await cream([
    'sft',
    ...common,
    '-i',
    sftFile,
    '-o',
    second,
    '--force',
    '--adapter',
    adapter,
    '--lora-rank',
    '2',
  ]);
  t.equal(both.code, 2);
  t.match(both.stderr, /give one of them/);
  const absent = await cream(['generate', '-m', config.model, '--adapter', config.model, '-p', '1']);
  t.equal(absent.code, 4);
  t.match(absent.stderr, /has no adapter_config\.json/);
});

t.test('score: policy and previous policy as adapters over one model', async (t) => {
  const [policy, previous] = [at('iteration-2', 'policy'), at('iteration-1', 'policy')];
  const { model } = config;
  const rows = at('iteration-2', 'samples.jsonl');
  const args = ['score', '-m', model, '--adapter', policy, '--base', model, '-i', rows];
  const scored = await cream([...args, '--previous-adapter', previous]);
  t.equal(scored.code, 0, scored.stderr);
  const records = await readRecords<ScoredGroup>(at('iteration-2', 'scores.jsonl'));
  const found = jsonLines<ScoredGroup>(scored.stdout);
  // The previous policy of the command is the policy of iteration 2.
  found.forEach((group, i) => {
    close(t, group.previousLogprobs!, records[i]!.logprobs, { atol: 1e-4 }, group.id);
    close(t, group.baseLogprobs!, records[i]!.baseLogprobs!, { atol: 1e-4 }, group.id);
  });
  const both = await cream([...args, '--previous-adapter', previous, '--previous', model]);
  t.equal(both.code, 2);
});
