import type { PromptInput, ResponseInput, TaskRecord, TemplateInputs } from '../types.js';
import { ForeignValue } from './foreign-value.js';
import {
  field,
  type JsonlOptions,
  type JsonlRecords,
  type JsonlRow,
  quote,
  readJsonl,
  rowError,
} from './jsonl.js';
import {
  asResponse,
  finiteNumber,
  has,
  idsField,
  keysOf,
  messages,
  nonEmptyText,
  openConversation,
  optionalChoices,
  optionalLabel,
  promptField,
  responseField,
  rowId,
  templateInputs,
  text,
} from './rows.js';
import { answerLabel, choiceLabel } from './labels.js';
import { pairTexts } from './preference-rows.js';
import { publicForm } from './public-forms.js';
import { parseNumber } from './numbers.js';
import { type Extraction, taskPrompt } from './tasks.js';

// The kinds of JSONL rows and what they are good for. The kind of each row follows from its keys:
//
//   {prompt}                          prompt as text or messages
//   {prompt, completion}              also {prompt, response}
//   {prompt, chosen, rejected}        and the other forms of preferences: see preference-rows.ts
//   {messages}                        a conversation; the last assistant turn is the response
//   {question, choices, label}        multiple choice
//   ARC, OpenBookQA, SIQA, GSM8K      as their publishers write them: {question, choices: {text, label}, answerKey}, ...
//   {question, answer and/or label}   a free answer, GSM8K's "... #### 42" included
//   {instruction, input?, output?}    Alpaca's
//
// `id` is used where it is given and made from file name and line where not; ids of a file differ. `label` rides
// along for reports.

export interface PromptRecord extends TemplateInputs {
  id: string;
  prompt: PromptInput;
  label?: string;
  choices?: Record<string, string>;
}

export interface SftRecord extends TemplateInputs {
  id: string;
  prompt: PromptInput;
  response: ResponseInput;
  /** Prompt and response are one conversation, whose earlier turns may be learnt too. */
  isConversation?: boolean;
}

/**
 * A preference pair; the fields of a run's own pairs are there when the row has them. A consistency or weight of null or
 * NaN is NaN: a ranking that says nothing, which is not the same as none.
 */
export interface PairRecord extends TemplateInputs {
  id: string;
  prompt: PromptInput;
  chosen: ResponseInput;
  rejected: ResponseInput;
  promptIds?: number[];
  chosenIds?: number[];
  rejectedIds?: number[];
  consistency?: number;
  weight?: number;
  chosenReward?: number;
  rejectedReward?: number;
  referenceChosenLogprob?: number;
  referenceRejectedLogprob?: number;
  baseChosenLogprob?: number;
  baseRejectedLogprob?: number;
  judgeMargin?: number;
}

/** A held-out problem; `prompt` is set where the row words the prompt itself. */
export interface TaskProblem extends TaskRecord {
  prompt?: PromptInput;
  /** The row's worked answer, whole. */
  answer?: string;
}

export interface DatasetOptions extends JsonlOptions {
  /** How {question} rows are worded: see taskPrompt. Default auto. */
  extract?: Extraction;
}

/** Rows with a prompt; responses that they also have are left aside. */
export function loadPrompts(path: string, options: DatasetOptions = {}): Promise<JsonlRecords<PromptRecord>> {
  return readJsonl(path, (row) => readPrompt(row, options.extract), options);
}

/** Rows with a prompt and the response to learn. */
export function loadSft(path: string, options: DatasetOptions = {}): Promise<JsonlRecords<SftRecord>> {
  return readJsonl(path, (row) => readSft(row, options.extract), options);
}

/** Rows with a prompt, a chosen and a rejected response. */
export function loadPairs(path: string, options: JsonlOptions = {}): Promise<JsonlRecords<PairRecord>> {
  return readJsonl(path, readPair, options);
}

/** Rows with a question (or prompt) and its right answer. */
export function loadTask(path: string, options: JsonlOptions = {}): Promise<JsonlRecords<TaskProblem>> {
  return readJsonl(path, readTask, options);
}

/** The prompt of a row of any kind. */
export function readPrompt(given: JsonlRow, extract: Extraction = 'auto'): PromptRecord {
  const row = publicForm(given);
  const record: PromptRecord = { id: rowId(row), prompt: '', ...templateInputs(row) };
  if (has(row, 'prompt')) {
    record.prompt = promptField(row);
  } else if (has(row, 'messages')) {
    const conversation = messages(row, 'messages');
    const isClosed = conversation.at(-1)?.role === 'assistant';
    record.prompt = openConversation(row, 'messages', isClosed ? conversation.slice(0, -1) : conversation);
  } else if (has(row, 'question')) {
    const problem = readQuestion(row);
    checkNumber(row, problem.label, extract);
    const prompt = taskPrompt(problem, extract);
    return { ...templateInputs(row), ...problem, prompt };
  } else if (has(row, 'instruction')) {
    record.prompt = instructionPrompt(row);
  } else if (has(row, 'chosen', 'rejected')) {
    record.prompt = readPair(row).prompt;
  } else {
    throw unknownKind(row, '{prompt}, {messages}, {question} or {instruction}');
  }
  const choices = optionalChoices(row);
  const label = optionalLabel(row);
  if (label !== undefined) record.label = choices === undefined ? label : choiceLabel(row, label, choices);
  if (choices !== undefined) record.choices = choices;
  checkNumber(row, label, extract);
  return record;
}

/** A label that `extract: number` cannot read would make every response wrong. */
function checkNumber(row: JsonlRow, label: string | undefined, extract: Extraction): void {
  if (extract !== 'number' || label === undefined || parseNumber(label) !== undefined) return;
  throw rowError(row, `label ${quote(label)} is no number, which extract: number needs`);
}

function readSft(row: JsonlRow, extract: Extraction = 'auto'): SftRecord {
  const id = rowId(row);
  const inputs = templateInputs(row);
  for (const key of ['completion', 'response']) {
    if (has(row, 'prompt', key)) {
      return {
        id,
        prompt: promptField(row),
        response: notEmpty(row, key, responseField(row, key)),
        ...inputs,
      };
    }
  }
  if (has(row, 'messages')) {
    const conversation = messages(row, 'messages');
    const last = conversation.findLastIndex((message) => message.role === 'assistant');
    if (last === -1) throw rowError(row, 'messages has no turn of the assistant to learn from');
    const prompt = openConversation(
      row,
      'messages (before the last assistant turn)',
      conversation.slice(0, last),
    );
    const response = asResponse(
      row,
      'messages (the last assistant turn)',
      conversation.slice(last, last + 1),
    );
    return {
      id,
      prompt,
      response: notEmpty(row, 'the assistant turn', response),
      isConversation: true,
      ...inputs,
    };
  }
  if (has(row, 'question', 'answer')) {
    const response = nonEmptyText(row, 'answer');
    return { id, prompt: taskPrompt(readQuestion(row), extract), response };
  }
  if (has(row, 'instruction', 'output')) {
    return { id, prompt: instructionPrompt(row), response: nonEmptyText(row, 'output') };
  }
  const wanted = '{prompt, completion}, {messages}, {question, answer} or {instruction, input?, output}';
  throw unknownKind(row, wanted);
}

const OPTIONAL_IDS = ['promptIds', 'chosenIds', 'rejectedIds'] as const;
const SHARES = ['consistency', 'weight'] as const;
const OPTIONAL_NUMBERS = [
  'chosenReward',
  'rejectedReward',
  'referenceChosenLogprob',
  'referenceRejectedLogprob',
  'baseChosenLogprob',
  'baseRejectedLogprob',
  'judgeMargin',
] as const;

/** A pair of responses; see the kinds of rows above. */
export function readPair(row: JsonlRow): PairRecord {
  if (!has(row, 'chosen', 'rejected')) {
    throw unknownKind(row, '{prompt, chosen, rejected}, responses as text or messages');
  }
  const record: PairRecord = { id: rowId(row), ...pairTexts(row), ...templateInputs(row) };
  for (const key of OPTIONAL_IDS) if (has(row, key)) record[key] = idsField(row, key);
  for (const key of OPTIONAL_NUMBERS) if (has(row, key)) record[key] = finiteNumber(row, key);
  for (const key of SHARES) {
    if (!Object.hasOwn(row.value, key)) continue;
    const value = isUndefinedNumber(row.value[key]) ? Number.NaN : finiteNumber(row, key);
    if (value < 0 || value > 1) throw rowError(row, `${key} must be in [0, 1], got ${value}`);
    record[key] = value;
  }
  return record;
}

/** null, and NaN where the format of the file has it. */
function isUndefinedNumber(value: unknown): boolean {
  return value === null || Number.isNaN(value) || (value instanceof ForeignValue && value.text === 'NaN');
}

function readTask(given: JsonlRow): TaskProblem {
  const row = publicForm(given);
  const isWorded = !has(row, 'question') && (has(row, 'prompt') || has(row, 'messages'));
  if (!isWorded && !has(row, 'question')) {
    throw unknownKind(row, '{question, choices, label}, {question, answer or label} or {prompt, label}');
  }
  const { label, choices, ...record } = isWorded ? readPrompt(row) : readQuestion(row);
  if (label === undefined) throw rowError(row, 'label (the right answer) is missing');
  const question = 'question' in record ? record.question : '';
  const problem: TaskProblem = { id: record.id, question, label };
  if ('prompt' in record) problem.prompt = record.prompt;
  const answer = field(row, 'answer');
  if (typeof answer === 'string' && choices === undefined) problem.answer = answer;
  if (choices !== undefined) {
    problem.choices = choices;
  }
  return problem;
}

interface Question {
  id: string;
  question: string;
  label?: string;
  choices?: Record<string, string>;
}

function readQuestion(row: JsonlRow): Question {
  const record: Question = { id: rowId(row), question: nonEmptyText(row, 'question') };
  const choices = optionalChoices(row);
  const label = optionalLabel(row) ?? answerLabel(row);
  if (label !== undefined) record.label = choices === undefined ? label : choiceLabel(row, label, choices);
  if (choices !== undefined) record.choices = choices;
  return record;
}

/** The instruction, and the input below it where there is one. */
function instructionPrompt(row: JsonlRow): string {
  const instruction = nonEmptyText(row, 'instruction');
  const input = has(row, 'input') ? text(row, 'input') : '';
  return input.trim() === '' ? instruction : `${instruction}\n\n${input}`;
}

function notEmpty(row: JsonlRow, what: string, response: ResponseInput): ResponseInput {
  if (response === '') throw rowError(row, `${what} is empty; give it text or remove the row`);
  return response;
}

function unknownKind(row: JsonlRow, wanted: string) {
  return rowError(row, `the row has ${keysOf(row)}; wanted is ${wanted}`);
}
