import type { JsonlRecords } from '../data/jsonl.js';
import { loadPairs, loadPrompts, loadSft } from '../data/datasets.js';
import { templateInputsOf } from '../data/messages.js';
import { encodeSftExamples, type TrainedTurns } from '../data/sft-examples.js';
import { isCreamError } from '../errors.js';
import type { Context } from './command.js';
import { encoding, loadTokenizer, type TextValues } from './texts.js';

// `cream inspect data --show`: what a model reads of the rows, and which tokens carry loss.

export interface ShowValues extends TextValues {
  show: number;
  model: string;
  loss: TrainedTurns;
}

/** A sequence of tokens. */
export interface ShownSequence {
  id: string;
  /** What is learnt of it: the response, the chosen or the rejected one; absent for a prompt alone. */
  role?: 'response' | 'chosen' | 'rejected';
  ids: number[];
  /** 1 for each token that carries loss. */
  trained: number[];
  /** Runs of tokens that carry loss or do not, as text. */
  parts: { isTrained: boolean; text: string }[];
}

/** The first rows as SFT examples, or else as pairs, or else as prompts: as what they can be used. */
export async function showTokens(
  path: string,
  values: ShowValues,
  context: Context,
): Promise<ShownSequence[]> {
  const { signal } = context;
  const options = { signal };
  const tokenizer = await loadTokenizer(values.model, values);
  const first = <T extends object>({ records }: JsonlRecords<T>): T[] => records.slice(0, values.show);
  const shown = (
    id: string,
    promptIds: readonly number[],
    rest: readonly number[],
    mask?: readonly number[],
  ) =>
    sequence(
      id,
      [...promptIds, ...rest],
      [...promptIds.map(() => 0), ...(mask ?? rest.map(() => 1))],
      (ids) => tokenizer.decode(ids),
    );
  try {
    const sft = await readable(loadSft(path, options));
    if (sft !== undefined) {
      const { loss } = values;
      const examples = await encoding(path, values, context, (how) =>
        encodeSftExamples(first(sft), tokenizer, { ...how, loss }),
      );
      return examples.map(({ id, promptIds, responseIds, trained }) => ({
        ...shown(id, promptIds, responseIds, trained),
        role: 'response' as const,
      }));
    }
    const pairs = await readable(loadPairs(path, options));
    if (pairs !== undefined) {
      const asked = first(pairs).map(({ id, prompt, chosen, rejected, ...row }) => ({
        id,
        prompt,
        responses: [chosen, rejected],
        ...templateInputsOf(row),
      }));
      const exchanges = await encoding(path, values, context, (how) => tokenizer.exchanges(asked, how));
      return exchanges.flatMap(({ promptIds, responses }, i) =>
        (['chosen', 'rejected'] as const).map((role, side) => ({
          ...shown(asked[i]!.id, promptIds, responses[side]!),
          role,
        })),
      );
    }
    const prompts = first(await loadPrompts(path, options));
    const ids = await encoding(path, values, context, (how) => tokenizer.promptIdsAll(prompts, how));
    return ids.map((own, i) => shown(prompts[i]!.id, own, []));
  } finally {
    await tokenizer.dispose();
  }
}

/** The records, or undefined where the rows are of another kind. */
async function readable<T>(loading: Promise<T>): Promise<T | undefined> {
  try {
    return await loading;
  } catch (error) {
    if (isCreamError(error) && error.code === 'INVALID_DATA') return undefined;
    throw error;
  }
}

function sequence(
  id: string,
  ids: number[],
  trained: number[],
  decode: (ids: readonly number[]) => string,
): ShownSequence {
  const parts: ShownSequence['parts'] = [];
  for (let start = 0; start < ids.length; ) {
    let end = start + 1;
    while (end < ids.length && trained[end] === trained[start]) end += 1;
    parts.push({ isTrained: trained[start] === 1, text: decode(ids.slice(start, end)) });
    start = end;
  }
  return { id, ids, trained, parts };
}

const WIDTH = 80;

/** Lines of at most 80 columns: "  |" before what is read, "> |" before what is learnt; control characters escaped. */
export function asShownText(sequences: readonly ShownSequence[]): string {
  return sequences
    .flatMap(({ id, role, ids, trained, parts }) => {
      const learnt = trained.filter((one) => one === 1).length;
      const title = `${id}${role === undefined ? '' : `, ${role}`}: ${ids.length} tokens, ${learnt} trained`;
      const body = parts.flatMap(({ isTrained, text }) =>
        wrapped(escaped(text), WIDTH - 4).map((line) => `${isTrained ? '>' : ' '} | ${line}`),
      );
      return [...wrapped(escaped(title), WIDTH), ...body, ''];
    })
    .join('\n')
    .trimEnd();
}

/** Control characters, and those that turn the direction of writing, as they are written in JSON. */
function escaped(text: string): string {
  return text
    .replaceAll('\\', '\\\\')
    .replaceAll('\n', '\\n')
    .replaceAll('\r', '\\r')
    .replaceAll('\t', '\\t')
    .replaceAll(
      /[\p{Cc}\p{Cf}\u2028\u2029]/gu,
      (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`,
    );
}

/** Columns that a character takes; those of East Asia take two. */
const columnsOf = (character: string) =>
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\u3000-\u303f\uff01-\uff60]|\p{Extended_Pictographic}/u.test(
    character,
  )
    ? 2
    : 1;

function wrapped(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  let columns = 0;
  for (const character of text) {
    const own = columnsOf(character);
    if (columns + own > width) {
      lines.push(line);
      line = '';
      columns = 0;
    }
    line += character;
    columns += own;
  }
  return [...lines, line];
}
