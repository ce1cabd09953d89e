import { field, type JsonlRow, quote, rowError } from './jsonl.js';
import { has, nonEmptyText } from './rows.js';

// The rows of the paper's test sets as their publishers write them, in the form of this project. ARC and GSM8K need no
// more than the name of the answer; OpenBookQA names its question otherwise; SIQA has its options in three fields.

type JsonObject = Readonly<Record<string, unknown>>;

const SIQA_OPTIONS = { answerA: 'A', answerB: 'B', answerC: 'C' } as const;

/** The row with `question`, `choices` and `label` where it is one of the public forms, else as it is. */
export function publicForm(row: JsonlRow): JsonlRow {
  if (has(row, 'question', ...Object.keys(SIQA_OPTIONS))) return siqa(row);
  const nested = field(row, 'question');
  if (typeof nested === 'object' && nested !== null && has(row, 'answerKey')) return ai2(row, nested);
  if (!has(row, 'answerKey') || has(row, 'label')) return row;
  const { answerKey: label, question_stem: stem, ...rest } = row.value;
  return { ...row, value: { ...rest, label, ...(stem === undefined ? {} : { question: stem }) } };
}

/** {id, question: {stem, choices: [{text, label}]}, answerKey}: ARC and OpenBookQA as AI2 first published them. */
function ai2(row: JsonlRow, question: object): JsonlRow {
  const { question: _, answerKey: label, ...rest } = row.value;
  const { stem, choices } = question as { stem?: unknown; choices?: unknown };
  const options = Array.isArray(choices)
    ? (choices as unknown[]).map((choice) => Object(choice) as JsonObject)
    : [];
  const letters = options.map((option) => String(option['label']));
  if (new Set(letters).size !== letters.length) {
    throw rowError(row, `question.choices has one label twice: ${quote(letters)}`);
  }
  const value = {
    ...rest,
    label,
    question: stem,
    choices: { label: letters, text: options.map((option) => option['text']) },
  };
  return { ...row, value };
}

/** {context, question, answerA, answerB, answerC, label: "1" | "2" | "3"} */
function siqa(row: JsonlRow): JsonlRow {
  const { answerA: _a, answerB: _b, answerC: _c, context: _, ...rest } = row.value;
  const choices = Object.fromEntries(
    Object.entries(SIQA_OPTIONS).map(([key, letter]) => [letter, nonEmptyText(row, key)]),
  );
  const question = nonEmptyText(row, 'question');
  const value = {
    ...rest,
    choices,
    question: has(row, 'context') ? `${nonEmptyText(row, 'context')} ${question}` : question,
  };
  const label = field(row, 'label');
  if (label === undefined) return { ...row, value };
  const number = typeof label === 'string' ? Number(label.trim()) : label;
  const letter = typeof number === 'number' ? ['A', 'B', 'C'][number - 1] : undefined;
  if (letter === undefined)
    throw rowError(row, `label must be 1, 2 or 3, the number of an answer; got ${quote(label)}`);
  return { ...row, value: { ...value, label: letter } };
}
