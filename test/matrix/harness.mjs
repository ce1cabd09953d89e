// The paper's tasks, item by item against lm-evaluation-harness itself.
//
//     npm run test:matrix -- harness --python PYTHON --model FOLDER --data FOLDER [--problems 300] [--written 20] [--said FILE]
//
// PYTHON has lm-eval (see test/golden/requirements.txt); FOLDER has a small model; the data are slices of the five test sets
// and of gsm8k's training set as {question, choices, label} and {question, answer, label} rows. Prompts, cuts to the context,
// verdicts, filtered answers and written texts must be equal, log-probs to 1e-3 (float32 sums in another order). --said keeps what the harness said, and asks it only where the file is missing.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

const HERE = dirname(fileURLToPath(import.meta.url));
const DIST = join(HERE, '..', '..', 'dist', 'lib');
const load = (path) => import(pathToFileURL(join(DIST, path)).href);

const TASKS = {
  'arc-easy': { task: 'arc_easy', file: 'arc_easy.test.jsonl' },
  'arc-challenge': { task: 'arc_challenge', file: 'arc_challenge.test.jsonl' },
  openbookqa: { task: 'openbookqa', file: 'openbookqa.test.jsonl' },
  siqa: { task: 'social_iqa', file: 'siqa.test.jsonl' },
  gsm8k: { task: 'gsm8k', file: 'gsm8k.test.jsonl' },
};

/** A row as its publisher has it, for the harness. */
function published(name, { id, question, choices, label, answer }) {
  if (name === 'gsm8k') return { question, answer };
  const columns = { text: Object.values(choices), label: Object.keys(choices) };
  if (name === 'openbookqa') return { id, question_stem: question, choices: columns, answerKey: label };
  if (name !== 'siqa') return { id, question, choices: columns, answerKey: label };
  const at = question.lastIndexOf('. ') + 1;
  return {
    context: question.slice(0, at),
    question: question.slice(at + 1),
    ...Object.fromEntries(Object.entries(choices).map(([letter, text]) => [`answer${letter}`, text])),
    label: String(' ABC'.indexOf(label)),
  };
}

/** What is measured: few-shot of every kind for some problems, the task's own form for all. */
function settings(problems, written) {
  const choices = ['arc-easy', 'arc-challenge', 'openbookqa', 'siqa'];
  const few = Math.min(problems, 60);
  return [
    ...choices.map((name) => ({ name, limit: problems })),
    ...choices.map((name) => ({ name, shots: 3, limit: few })),
    { name: 'arc-easy', shots: 25, seed: 7, limit: few },
    { name: 'arc-challenge', shots: 2, sampler: 'first', limit: few },
    { name: 'siqa', shots: 4, sampler: 'first', limit: few },
    { name: 'gsm8k', limit: written },
    { name: 'gsm8k', shots: 0, limit: written },
    { name: 'gsm8k', shots: 1, maxNewTokens: 64, seed: 3, limit: written },
    { name: 'gsm8k', shots: 2, sampler: 'first', maxNewTokens: 48, limit: written },
  ].map((one, i) => ({ ...one, key: `${TASKS[one.name].task}_${i}` }));
}

function runHarness({ python, model, said }, tasks, folder) {
  if (said !== undefined && existsSync(said)) return JSON.parse(readFileSync(said, 'utf8'));
  const request = join(folder, 'request.json');
  const result = said ?? join(folder, 'result.json');
  writeFileSync(request, JSON.stringify({ model, tasks }));
  const { status } = spawnSync(python, [join(HERE, 'harness.py'), request, result], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  if (status !== 0) throw new Error(`the harness ended with ${status}`);
  return JSON.parse(readFileSync(result, 'utf8'));
}

const near = (a, b) => Math.abs(a - b) <= 1e-3 * Math.max(1, Math.abs(b));

/** What differs in one item; nothing where all is equal. */
function differences(line, item) {
  const found = [];
  const expect = (what, actual, expected) => {
    if (actual !== expected)
      found.push(`${what}: ${JSON.stringify(actual)} is not ${JSON.stringify(expected)}`);
  };
  expect('context', line.context, item.context);
  if ('logprobs' in item) {
    const logprobs = Object.values(line.logprobs);
    if (
      logprobs.length !== item.logprobs.length ||
      !logprobs.every((value, i) => near(value, item.logprobs[i]))
    )
      found.push(`log-probs: ${logprobs.join(', ')} are not ${item.logprobs.join(', ')}`);
    expect('acc', Number(line.acc.correct), item.acc);
    expect('acc_norm', line.acc_norm && Number(line.acc_norm.correct), item.acc_norm);
  } else {
    expect('text', line.text, item.text);
    for (const [ours, theirs] of [
      ['strict_match', 'strict-match'],
      ['flexible_extract', 'flexible-extract'],
    ]) {
      expect(`${theirs} answer`, line[ours].answer, item[theirs][0]);
      expect(theirs, Number(line[ours].correct), item[theirs][1]);
    }
  }
  return found;
}

export async function main(args) {
  const { values } = parseArgs({
    args,
    options: {
      python: { type: 'string', default: 'python3' },
      model: { type: 'string' },
      data: { type: 'string' },
      problems: { type: 'string', default: '300' },
      written: { type: 'string', default: '20' },
      said: { type: 'string' },
    },
  });
  if (values.model === undefined || values.data === undefined)
    throw new Error('--model and --data are needed');
  const [{ loadTask }, { definitionOf }, { harnessContexts }, { evaluateHarness, summarizeHarness }] =
    await Promise.all([
      load('data/datasets.js'),
      load('data/task-definitions.js'),
      load('data/harness.js'),
      load('stages/evaluate-harness.js'),
    ]);
  const { Tokenizer } = await load('data/tokenizer.js');
  const { Model } = await load('native/model.js');
  const folder = mkdtempSync(join(tmpdir(), 'matrix-'));
  let unequal = 0;
  let model;
  try {
    const files = new Map();
    for (const [name, { file }] of Object.entries(TASKS)) {
      const rows = (path) =>
        readFileSync(join(values.data, path), 'utf8')
          .split('\n')
          .filter((line) => line !== '')
          .map((line) => `${JSON.stringify(published(name, JSON.parse(line)))}\n`);
      const test = rows(file);
      // Examples of the choices come from the far end of the same slice.
      const train = name === 'gsm8k' ? rows('gsm8k.train.jsonl') : test.slice(-120);
      const paths = { test: join(folder, `${name}.jsonl`), train: join(folder, `${name}.train.jsonl`) };
      writeFileSync(paths.test, test.join(''));
      writeFileSync(paths.train, train.join(''));
      files.set(name, paths);
    }
    const wanted = settings(Number(values.problems), Number(values.written));
    const asked = wanted.map(({ name, key, sampler, ...rest }) => ({
      ...rest,
      ...files.get(name),
      name: key,
      task: TASKS[name].task,
      ...(sampler && { sampler: 'first_n' }),
    }));
    const harness = runHarness(values, asked, folder);
    const tokenizer = await Tokenizer.load(values.model);
    model = await Model.load(values.model);
    for (const { name, key, shots, sampler, seed, limit, maxNewTokens } of wanted) {
      const task = definitionOf(name);
      const problems = (await loadTask(files.get(name).test)).records.slice(0, limit);
      const examples = (await loadTask(files.get(name).train)).records;
      const contexts = harnessContexts(problems, task, { shots, examples, sampler, seed });
      const lines = await evaluateHarness(
        problems.map((problem, i) => ({ problem, context: contexts[i] })),
        model,
        tokenizer,
        {
          name,
          task,
          contextLength: model.config.maxPositionEmbeddings,
          maxNewTokens,
          maxTokensPerBatch: 8192,
        },
      );
      const { items, scores } = harness[key];
      const found = lines.map((line, i) => differences(line, items[i]));
      const bad = found.filter((list) => list.length > 0);
      unequal += bad.length + Math.abs(items.length - lines.length);
      const ours = Object.entries(summarizeHarness(lines)).map(
        ([kind, { accuracy }]) => `${kind} ${accuracy}`,
      );
      const setting = JSON.stringify({ shots, sampler, seed, maxNewTokens });
      console.log(
        `${name} ${setting}: ${lines.length - bad.length} of ${items.length} equal; ${ours.join(', ')}`,
      );
      console.log(`  harness: ${JSON.stringify(scores)}`);
      for (const list of bad.slice(0, 3)) console.log(`  ${list.join('\n  ')}`);
    }
  } finally {
    await model?.dispose();
    rmSync(folder, { recursive: true, force: true });
  }
  console.log(unequal === 0 ? 'all equal' : `${unequal} items differ`);
  return unequal === 0 ? 0 : 1;
}
