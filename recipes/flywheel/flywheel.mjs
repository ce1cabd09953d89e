// node flywheel.mjs [turns]: in every turn the generator proposes, the filter keeps, and both models retrain.

import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { loadConfig, runCream } from 'cream-lm';
import { answerTo, problemOf } from './filter.mjs';

const here = import.meta.dirname;
const turns = Number(process.argv[2] ?? 3);
/** Fewer kept proposals than this teach the solver nothing. */
const LEAST_PROBLEMS = 8;

const readRows = async (path) =>
  (await readFile(path, 'utf8'))
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));

/** One run of a turn. `model` is the model of the turn before; it knows the form already and needs no SFT. */
async function train(file, output, model, prompts) {
  const { sft, ...config } = await loadConfig(join(here, file));
  const { sft: examples, ...data } = config.data;
  const settings = {
    ...config,
    output,
    ...(model === undefined ? { sft } : { model }),
    data: { ...data, ...(model === undefined && { sft: examples }), ...(prompts && { prompts }) },
  };
  const run = runCream(settings);
  for await (const event of run) {
    if (event.type === 'stage' && event.status === 'finished') console.log(`  ${event.stage}`);
  }
  return run.result;
}

/** The proposals of a generator's run that the filter keeps and nobody has seen. */
async function collect(folder, seen) {
  const groups = await readRows(join(folder, 'iteration-1', 'samples.jsonl'));
  const texts = groups.flatMap(({ responses }) => responses.map(({ text }) => text));
  const problems = [...new Set(texts.map(problemOf))].filter((one) => one !== undefined && !seen.has(one));
  console.log(`  kept ${problems.length} of ${texts.length} proposals`);
  return problems;
}

// What the solver is measured on must never be what it is trained on.
const seen = new Set((await readRows(join(here, 'data', 'held-out.jsonl'))).map(({ prompt }) => prompt));
let generator;
let solver;
for (let turn = 1; turn <= turns; turn++) {
  const folder = join(here, 'runs', `turn-${turn}`);
  console.log(`turn ${turn}: generator`);
  generator = (await train('generator.yaml', join(folder, 'generator'), generator)).model;

  const problems = await collect(join(folder, 'generator'), seen);
  if (problems.length < LEAST_PROBLEMS) {
    throw new Error(
      `turn ${turn}: only ${problems.length} new problems were kept; train the generator longer`,
    );
  }
  for (const problem of problems) seen.add(problem);
  const prompts = join(folder, 'prompts.jsonl');
  const rows = problems.map((prompt) => ({ id: prompt, prompt, label: answerTo(prompt) }));
  await writeFile(prompts, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));

  console.log(`turn ${turn}: solver`);
  const summary = await train('solver.yaml', join(folder, 'solver'), solver, prompts);
  solver = summary.model;
  for (const { model, tasks } of summary.models) {
    for (const { name, greedy } of tasks) console.log(`  ${model} ${name} ${greedy.accuracy.toFixed(3)}`);
  }
}
console.log(`generator: ${generator}\nsolver: ${solver}`);
