import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';
import { parse, stringify } from 'yaml';
import { readModelConfig } from '../../lib/data/model-config.js';
import { MODEL_CONFIG, writeTokenizer } from '../../lib/demo/checkpoint.js';
import { Model } from '../../lib/native/model.js';
import { copyRecipe, findRecipe } from '../../lib/recipes.js';
import type { RunSummary } from '../../lib/run/summary.js';
import { plainEnvironment } from '../helpers/cream.js';
import { digests } from '../helpers/tiny-run.js';

// The flywheel as a user copies it, with models of a few thousand parameters that learn from nothing.

t.setTimeout(240_000);

const folder = join(t.testdir({}), 'flywheel');
await copyRecipe(await findRecipe('flywheel'), folder);
const {
  answerTo,
  problemOf,
  default: reward,
} = (await import(pathToFileURL(join(folder, 'filter.mjs')).href)) as {
  answerTo: (problem: string) => string;
  problemOf: (text: string) => string | undefined;
  default: (groups: { responses: { text: string }[] }[]) => number[][];
};
const node = (...args: string[]) =>
  promisify(execFile)(process.execPath, args, { cwd: folder, env: plainEnvironment() });
const rowsOf = <T>(path: string) =>
  readFileSync(join(folder, path), 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as T);
const write = (path: string, rows: object[]) =>
  writeFileSync(join(folder, path), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));

t.test('the filter keeps what is an addition, and rewards what is not repeated', async (t) => {
  t.equal(problemOf(' 12+34=\n'), '12+34=');
  for (const text of ['', '12+34', '12+34=46', '1+2=3+4=', '12345+1=', '1 + 2 ='])
    t.equal(problemOf(text), undefined);
  t.equal(answerTo('007+35='), '42');
  const group = (...texts: string[]) => ({ responses: texts.map((text) => ({ text })) });
  t.strictSame(reward([group('1+1=', 'x', '1+1='), group('2+2=', '1+1=')]), [
    [1 / 3, 0, 1 / 3],
    [1, 1 / 3],
  ]);
});

t.test('the seeds teach the form, and hold nothing out that they teach', async (t) => {
  await node('seeds.mjs');
  const heldOut = rowsOf<{ prompt: string; label: string }>('data/held-out.jsonl');
  const answers = rowsOf<{ prompt: string; completion: string }>('data/answers.jsonl');
  const proposals = rowsOf<{ prompt: string; completion: string }>('data/proposals.jsonl');
  t.strictSame([heldOut.length, answers.length, proposals.length], [100, 200, 200]);
  t.equal(rowsOf('data/requests.jsonl').length, 64);
  const taught = new Set([
    ...answers.map(({ prompt }) => prompt),
    ...proposals.map(({ completion }) => completion),
  ]);
  t.notOk(heldOut.some(({ prompt }) => taught.has(prompt)));
  t.ok(answers.every(({ prompt, completion }) => completion === answerTo(prompt)));
  t.ok(proposals.every(({ completion }) => problemOf(completion) === completion));
  const before = readFileSync(join(folder, 'data', 'requests.jsonl'), 'utf8');
  await node('seeds.mjs');
  t.equal(readFileSync(join(folder, 'data', 'requests.jsonl'), 'utf8'), before);
});

/** Models of one token a character and sums of one digit, which they learn in a second. */
async function makeSmall(): Promise<void> {
  const tokenizer = join(folder, 'tokenizer');
  await writeTokenizer(tokenizer);
  const shape = { vocab_size: 15, hidden_size: 32, intermediate_size: 64, head_dim: 8 };
  for (const [name, seed] of [
    ['generator', 1n],
    ['solver', 2n],
  ] as const) {
    const model = await Model.random(readModelConfig({ ...MODEL_CONFIG, ...shape }, name), { seed });
    await model.save(join(folder, name), { from: tokenizer });
    model.dispose();
  }
  const sums = Array.from({ length: 100 }, (_, i) => `${Math.floor(i / 10)}+${i % 10}=`);
  const heldOut = sums.filter((_, i) => i % 9 === 0);
  const rest = sums.filter((_, i) => i % 9 !== 0);
  write(
    'data/held-out.jsonl',
    heldOut.map((prompt) => ({ prompt, label: answerTo(prompt) })),
  );
  write(
    'data/answers.jsonl',
    rest.slice(0, 60).map((prompt) => ({ prompt, completion: answerTo(prompt) })),
  );
  write(
    'data/proposals.jsonl',
    rest.map((completion, i) => ({ prompt: `${i}`, completion })),
  );
  write(
    'data/requests.jsonl',
    Array.from({ length: 24 }, (_, i) => ({ id: `r${i}`, prompt: `${i}` })),
  );
  const training = { learningRate: 5e-3, batchSize: 16, schedule: 'constant', warmupRatio: 0 };
  for (const [file, epochs] of [
    ['generator.yaml', 12],
    ['solver.yaml', 20],
  ] as const) {
    const config = parse(readFileSync(join(folder, file), 'utf8')) as Record<string, object>;
    const changed = {
      ...config,
      threads: 1,
      sft: { ...training, epochs },
      train: { ...training, learningRate: 1e-3 },
    };
    writeFileSync(join(folder, file), stringify(changed));
  }
}

t.test(
  'two turns: both models retrain, on new problems that the filter kept, and continue where they were',
  async (t) => {
    await makeSmall();
    mkdirSync(join(folder, 'node_modules'));
    symlinkSync(fileURLToPath(new URL('../../', import.meta.url)), join(folder, 'node_modules', 'cream-lm'));
    const { stdout } = await node('flywheel.mjs', '2');
    t.match(stdout, /^turn 2: solver$/m);
    t.match(stdout, /^ {2}M2 held-out \d\.\d{3}$/m);

    const heldOut = new Set(rowsOf<{ prompt: string }>('data/held-out.jsonl').map(({ prompt }) => prompt));
    const seen = new Set<string>();
    for (const turn of [1, 2]) {
      const prompts = rowsOf<{ prompt: string; label: string }>(`runs/turn-${turn}/prompts.jsonl`);
      t.ok(prompts.length >= 8, `turn ${turn}: ${prompts.length} problems`);
      for (const { prompt, label } of prompts) {
        if (
          seen.has(prompt) ||
          heldOut.has(prompt) ||
          problemOf(prompt) !== prompt ||
          label !== answerTo(prompt)
        )
          t.fail(`turn ${turn}: ${prompt} ${label}`);
        seen.add(prompt);
      }
      for (const name of ['generator', 'solver']) {
        const summary = JSON.parse(
          readFileSync(join(folder, 'runs', `turn-${turn}`, name, 'summary.json'), 'utf8'),
        ) as RunSummary;
        const [first, last] = [summary.models[0]!, summary.models.at(-1)!];
        t.ok(summary.iterations[0]!.pairs > 0);
        if (turn === 2)
          t.equal(first.directory, join(folder, 'runs', 'turn-1', name, 'iteration-1', 'policy'));
        const weights = [first, last].map(({ directory }) =>
          readFileSync(join(directory, 'model.safetensors')),
        );
        t.notOk(weights[0]!.equals(weights[1]!), `turn ${turn}: ${name} was trained`);
      }
    }
    const before = digests(join(folder, 'runs'));
    const again = await node('flywheel.mjs', '2');
    t.notMatch(again.stdout, /^ {2}train$/m, 'nothing is done twice');
    const isLog = ([name]: [string, string]) => name.endsWith('events.jsonl');
    const records = (all: Record<string, string>) => Object.entries(all).filter((entry) => !isLog(entry));
    t.strictSame(records(digests(join(folder, 'runs'))), records(before));
  },
);
