import { kendallTau, Model, runCream, Tokenizer } from '../lib/index.js';

const run = runCream({
  model: 'checkpoints/base',
  output: 'runs/first',
  data: { prompts: 'prompts.jsonl' },
});
for await (const event of run) {
  if (event.type === 'metrics') console.log(event.step, event.metrics['rewards/margins']);
}
const { model: directory } = await run.result; // the engine had a process of its own

await using model = await Model.load(directory);
const tokenizer = await Tokenizer.load(directory);
const prompts = [{ id: 'a', ids: await tokenizer.promptIds('Once upon a time') }];
for await (const { ids } of model.generate({ prompts, n: 3, maxNewTokens: 64, seed: 7 })) {
  console.log(tokenizer.decode([...ids]));
}
console.log(kendallTau([3, 1, 2], [0.3, 0.1, 0.2])); // 1
