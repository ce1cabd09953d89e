import { sample, type TokenizedPrompt } from '../stages/sample.js';
import type { Group } from '../types.js';
import type { Context } from './command.js';
import { defaultConfig } from './defaults.js';
import { encodePrompts, parsePrompt, readInput } from './input.js';
import { logitsOptions, type LogitsValues } from './logits-options.js';
import { loadModel, type ModelValues } from './models.js';
import { isStandardOutput, prepareOutputFile, writeRecords } from './output.js';
import { Progress } from './progress.js';
import { withRoom } from './room.js';
import { encoding, loadTokenizer, type TextValues } from './texts.js';

export interface SampleValues extends ModelValues, TextValues, LogitsValues {
  model: string;
  input: string;
  output: string | undefined;
  n: number | undefined;
  maxNewTokens: number | undefined;
  temperature: number | undefined;
  topP: number | undefined;
  topK: number | undefined;
  seed: number;
  stream: string | undefined;
}

/** `cream sample`: the first stage of an iteration. */
export async function sampleGroups(values: SampleValues, context: Context): Promise<void> {
  const { signal, terminal, isQuiet } = context;
  await prepareOutputFile(values.output);
  const rows = await readInput(values.input, parsePrompt, signal);
  const tokenizer = await loadTokenizer(values.model, values);
  const encoded = await encoding(values.input, values, context, (options) =>
    encodePrompts(tokenizer, rows, options),
  );
  await using model = await loadModel(values.model, values, context);
  const { sampling } = defaultConfig();
  const rowOf = new Map(rows.map((row) => [row.id, row]));
  const room = withRoom(
    values.input,
    encoded,
    {
      limit: values.maxNewTokens ?? sampling.maxNewTokens,
      length: model.config.maxPositionEmbeddings,
      isExplicit: values.maxNewTokens !== undefined,
    },
    context,
  );
  const prompts = room.prompts.map(({ id, ids, maxNewTokens }): TokenizedPrompt => {
    const { prompt, promptIds: _, ...row } = rowOf.get(id)!;
    return { ...row, prompt: prompt ?? '', promptIds: ids, maxNewTokens };
  });
  const options = {
    n: values.n ?? sampling.n,
    maxNewTokens: room.maxNewTokens,
    ...logitsOptions(values),
    temperature: values.temperature ?? sampling.temperature,
    topP: values.topP ?? sampling.topP,
    topK: values.topK ?? sampling.topK,
  };
  const progress = new Progress(terminal, { isQuiet });
  const total = prompts.length * options.n;
  let done = 0;
  let groups: Group[];
  try {
    groups = await sample(prompts, options, {
      policy: model,
      decode: (ids) => tokenizer.decode(ids, { skipSpecialTokens: true }),
      stopIds: tokenizer.eosIds,
      seed: values.seed,
      stream: values.stream ?? 'iteration-1',
      signal,
      onResponse: () => {
        done += 1;
        progress.event({ type: 'progress', stage: 'sample', iteration: 0, done, total, unit: 'responses' });
      },
    });
  } finally {
    progress.stop();
  }
  await writeRecords(values.output, groups, terminal);
  const truncated = groups
    .flatMap(({ responses }) => responses)
    .filter(({ finishReason }) => finishReason === 'length');
  if (isQuiet) return;
  const where = isStandardOutput(values.output) ? '' : ` to ${values.output}`;
  terminal.note(
    `${total} responses to ${prompts.length} prompts${where}, ${truncated.length} cut at the length limit`,
  );
}
