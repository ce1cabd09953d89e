// Our side of the bench: one job on one model, driven over JSON lines (bench/worker.mjs).
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Model } from '../dist/lib/index.js';
import { tuneMalloc } from '../dist/lib/native/model.js';

tuneMalloc(); // as the engine process of a run does

/** Returns `run`, which does the job once and resolves to what must agree with the peer. */
async function prepare({ job, model: directory, dtype, threads, workload }) {
  const base = await Model.load(directory, { dtype, threads });
  const model = job === 'lora' ? await base.loadAdapter(join(directory, 'adapter')) : base;
  const work = workload[job];
  if (job === 'generate') {
    const prompts = work.prompts.map((ids, index) => ({ id: `prompt-${index}`, ids }));
    return async () => {
      let tokens = 0;
      for await (const response of model.generate({ ...work, prompts, stopIds: [] }))
        tokens += response.ids.length;
      return { tokens };
    };
  }
  if (job === 'score') {
    return async () => {
      const scores = await model.score(work.groups);
      return { logprobs: scores.map((group) => [...group.logprobs]) };
    };
  }
  const reference = await model.score(
    work.pairs.map(({ promptIds, chosenIds, rejectedIds }) => ({
      promptIds,
      responses: [chosenIds, rejectedIds],
    })),
  );
  const batch = work.pairs.map((pair, index) => ({
    ...pair,
    referenceChosen: reference[index].logprobs[0],
    referenceRejected: reference[index].logprobs[1],
  }));
  const trainer = await model.createTrainer({ weightDecay: work.weightDecay, maxGradNorm: work.maxGradNorm });
  const { beta, learningRate } = work;
  const options = { loss: 'sigmoid', beta, sftCoefficient: 0, learningRate, maxTokensPerBatch: 8192 };
  return async () => {
    const metrics = await trainer.preferenceStep(batch, options);
    return { loss: metrics.loss, gradNorm: metrics.gradNorm };
  };
}

let run;
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  run ??= await prepare(request);
  const start = performance.now();
  const result = await run();
  process.stdout.write(`${JSON.stringify({ seconds: (performance.now() - start) / 1000, result })}\n`);
}
