import { cutResponse } from '../data/stop-strings.js';
import type { Tokenizer } from '../data/tokenizer.js';
import { CreamError } from '../errors.js';
import type { Model } from '../native/model.js';
import type { Context } from './command.js';
import { generationDefaults } from './generation-defaults.js';
import { encodePrompts, parsePrompt, type PromptRow, readInput } from './input.js';
import { logitsOptions, type LogitsValues } from './logits-options.js';
import { loadModel, type ModelValues } from './models.js';
import { isStandardOutput, prepareOutputFile, writeLines } from './output.js';
import { Progress } from './progress.js';
import { withRoom } from './room.js';
import { encoding, loadTokenizer, type TextValues } from './texts.js';

export interface GenerateValues extends ModelValues, TextValues, LogitsValues {
  model: string;
  prompt: string | undefined;
  input: string | undefined;
  output: string | undefined;
  n: number;
  maxNewTokens: number | undefined;
  temperature: number | undefined;
  topP: number | undefined;
  topK: number | undefined;
  seed: bigint;
  stop: readonly string[] | undefined;
  json: boolean;
}

/** `cream generate`: responses go out as soon as they and all before them are finished. */
export async function generate(values: GenerateValues, context: Context): Promise<void> {
  const { terminal, signal, isQuiet } = context;
  await prepareOutputFile(values.output);
  const tokenizer = await loadTokenizer(values.model, values);
  const rows = await readPrompts(values, signal);
  const source = values.input ?? '--prompt';
  const encoded = await encoding(source, values, context, (options) =>
    encodePrompts(tokenizer, rows, options),
  );
  await using model = await loadModel(values.model, values, context);
  const defaults = await generationDefaults(values.model);
  if (defaults.ignored.length > 0) {
    const keys = defaults.ignored.join(', ');
    terminal.note(`${terminal.style('yellow', 'warning:')} generation_config.json: not honoured: ${keys}`);
  }
  const { prompts, maxNewTokens } = withRoom(
    source,
    encoded,
    {
      limit: values.maxNewTokens ?? defaults.maxNewTokens,
      length: model.config.maxPositionEmbeddings,
      isExplicit: values.maxNewTokens !== undefined,
    },
    context,
  );
  const temperature = values.temperature ?? defaults.temperature;
  const { minP, ...logits } = defaults.logits; // where nothing is drawn, it cuts nothing
  const responses = model.generate({
    prompts,
    n: values.n,
    maxNewTokens,
    ...logits,
    ...(minP !== undefined && temperature > 0 && { minP }),
    ...logitsOptions(values),
    temperature,
    topP: values.topP ?? defaults.topP,
    topK: values.topK ?? defaults.topK,
    stopIds: tokenizer.eosIds,
    seed: values.seed,
    signal,
  });

  // Text that appears on the same screen would be torn apart by a moving block.
  const isSilent = isQuiet || (isStandardOutput(values.output) && terminal.isOutputTerminal);
  const progress = new Progress(terminal, { isQuiet: isSilent });
  const total = prompts.length * values.n;
  const common = { type: 'progress', stage: 'sample', iteration: 0, total, unit: 'responses' } as const;
  try {
    const lines = inOrder(responses, { ...values, stop: values.stop ?? defaults.stop }, tokenizer, (done) =>
      progress.event({ ...common, done }),
    );
    await writeLines(values.output, lines, terminal);
  } finally {
    progress.stop();
  }
  if (!isStandardOutput(values.output) && !isQuiet)
    terminal.note(`wrote ${total} responses to ${values.output}`);
}

/** A line per response, prompt by prompt; those that are finished before their turn wait for it. */
async function* inOrder(
  responses: ReturnType<Model['generate']>,
  { n, json, stop = [] }: GenerateValues,
  tokenizer: Tokenizer,
  onResponse: (finished: number) => void,
): AsyncGenerator<string> {
  const waiting = new Map<number, string>();
  let next = 0;
  let finished = 0;
  const decode = (ids: Int32Array) => tokenizer.decode(ids, { skipSpecialTokens: true });
  for await (const response of responses) {
    const { promptId, promptIndex, sample } = response;
    const { ids, logprobs, finishReason, text } = cutResponse(response, decode, stop);
    const line = json
      ? JSON.stringify({ promptId, sample, text, ids: [...ids], logprobs: [...logprobs], finishReason })
      : text;
    waiting.set(promptIndex * n + sample, `${line}\n`);
    finished += 1;
    onResponse(finished);
    for (let ready = waiting.get(next); ready !== undefined; ready = waiting.get(next)) {
      waiting.delete(next);
      next += 1;
      yield ready;
    }
  }
}

async function readPrompts({ prompt, input }: GenerateValues, signal: AbortSignal): Promise<PromptRow[]> {
  if (prompt !== undefined && input !== undefined) {
    throw new CreamError('USAGE', '--prompt and --input are both given; use one of them');
  }
  if (input !== undefined) return readInput(input, parsePrompt, signal);
  if (prompt === undefined) {
    throw new CreamError('USAGE', 'no prompt is given; use --prompt TEXT or --input FILE.jsonl');
  }
  return [{ id: 'prompt', prompt }];
}
