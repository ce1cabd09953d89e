import type { Message, PromptInput, ResponseInput, TemplateInputs } from '../types.js';
import { readPair, readPrompt } from './datasets.js';
import { field, type JsonlOptions, type JsonlRow, quote, readJsonl, rowError } from './jsonl.js';
import { responseText } from './messages.js';
import { has, idsField, keysOf, promptField, rowId, templateInputs, text } from './rows.js';
import type { Extraction } from './tasks.js';

// Responses of which it is known which are right: what a reward is measured on.
//
//   {prompt, chosen, rejected, subset?}         RewardBench's and TRL's: one right response, one wrong
//   {prompt, chosen: [...], rejected: [...]}    RewardBench 2's: several of each
//   {prompt | question, responses, correct}     one flag per response
//
// Other fields are left aside.

export interface LabelledRow extends TemplateInputs {
  /** Different in every row: the row's own, with its subset before it. */
  id: string;
  prompt: PromptInput;
  responses: { ids?: number[]; text: string; messages?: readonly Message[] }[];
  /** Index i belongs to responses[i]. */
  correct: boolean[];
  subset?: string;
}

export interface LabelledOptions extends JsonlOptions {
  /** How rows with a question are worded: see taskPrompt. Default auto. */
  extract?: Extraction | undefined;
}

/** All rows of a file, of JSON lines or Parquet. Published files repeat ids between their parts: the line is added then. */
export async function loadLabelledGroups(
  path: string,
  options: LabelledOptions = {},
): Promise<LabelledRow[]> {
  const { records } = await readJsonl(
    path,
    (row) => ({ line: row.line, record: readLabelled(row, options.extract) }),
    options,
  );
  const seen = new Set<string>();
  return records.map(({ line, record }) => {
    const id = seen.has(record.id) ? `${record.id}#${line}` : record.id;
    seen.add(id);
    return { ...record, id };
  });
}

function readLabelled(row: JsonlRow, extract: Extraction | undefined): LabelledRow {
  const subset = has(row, 'subset') ? text(row, 'subset') : undefined;
  const id = subset === undefined ? rowId(row) : `${subset}/${rowId(row)}`;
  const rest = { id, ...(subset === undefined ? {} : { subset }), ...templateInputs(row) };
  if (has(row, 'responses')) return { ...rest, prompt: promptOf(row, extract), ...flagged(row) };
  const lists = [textList(row, 'chosen'), textList(row, 'rejected')] as const;
  if (lists[0] !== undefined || lists[1] !== undefined) {
    const [right, wrong] = lists.map((list, i) => list ?? [text(row, i === 0 ? 'chosen' : 'rejected')]);
    return {
      ...rest,
      prompt: promptField(row),
      responses: [...right!, ...wrong!].map((response) => ({ text: response })),
      correct: [...right!.map(() => true), ...wrong!.map(() => false)],
    };
  }
  if (!has(row, 'chosen', 'rejected')) {
    throw rowError(
      row,
      `the row has ${keysOf(row)}; wanted is {prompt, chosen, rejected} or {prompt, responses, correct}`,
    );
  }
  const { prompt, chosen, rejected } = readPair(row);
  return { ...rest, prompt, responses: [chosen, rejected].map(asLabelled), correct: [true, false] };
}

function asLabelled(response: ResponseInput): LabelledRow['responses'][number] {
  const text = responseText(response);
  return typeof response === 'string' ? { text } : { text, messages: response };
}

/** `question` is worded as in a task; it needs no answer here. */
function promptOf(row: JsonlRow, extract: Extraction | undefined): PromptInput {
  return has(row, 'prompt') ? promptField(row) : readPrompt(row, extract).prompt;
}

/** A list of texts; undefined for anything else, such as a text or a conversation. */
function textList(row: JsonlRow, key: string): string[] | undefined {
  const value = field(row, key);
  if (!Array.isArray(value) || typeof value[0] === 'object') return undefined;
  if (value.length > 0 && value.every((one) => typeof one === 'string')) return value;
  throw rowError(row, `${key} must be text, messages or a list of texts, got ${quote(value)}`);
}

function flagged(row: JsonlRow): Pick<LabelledRow, 'responses' | 'correct'> {
  const responses = field(row, 'responses');
  if (!Array.isArray(responses) || responses.length === 0) {
    throw rowError(row, `responses must be a list of texts or of {"ids": [...]}, got ${quote(responses)}`);
  }
  const correct = field(row, 'correct');
  if (correct === undefined) {
    throw rowError(row, 'correct is missing: one flag per response tells which are right');
  }
  const isFlag = (value: unknown) => typeof value === 'boolean' || value === 0 || value === 1;
  if (!Array.isArray(correct) || !correct.every(isFlag)) {
    throw rowError(row, `correct must be a list of true and false, got ${quote(correct)}`);
  }
  if (correct.length !== responses.length) {
    throw rowError(row, `correct has ${correct.length} flags for ${responses.length} responses`);
  }
  return {
    responses: responses.map((_, i) => responseOf(row, responses, i)),
    correct: correct.map(Boolean),
  };
}

function responseOf(
  row: JsonlRow,
  responses: readonly unknown[],
  index: number,
): LabelledRow['responses'][number] {
  const response = responses[index];
  if (typeof response === 'string') return { text: response };
  const { ids, text: words } = Object(response) as { ids?: unknown; text?: unknown };
  const written = typeof words === 'string' ? words : '';
  if (ids !== undefined && ids !== null)
    return { ids: idsField({ ...row, value: { ids } }, 'ids'), text: written };
  if (typeof words === 'string') return { text: words };
  throw rowError(row, `responses[${index}] must be text or {"ids": [...]}, got ${quote(response)}`);
}
