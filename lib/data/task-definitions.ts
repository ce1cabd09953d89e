import { CreamError } from '../errors.js';
import type { TaskRecord } from '../types.js';
import { quote } from './jsonl.js';
import { parseNumber } from './numbers.js';

// The held-out tasks of the paper by name: what their files are, and how their options are put to a model.

export interface TaskDefinition {
  name: TaskName;
  title: string;
  /** Where the publisher has the files; they are not downloaded. */
  source: string;
  answer: 'choice' | 'number';
  /** The text that an answer follows, after a space: lm-evaluation-harness's `doc_to_text`. */
  wording: (question: string) => string;
  harness: HarnessTask;
}

/** How lm-evaluation-harness 0.4.13 measures the task: its tasks/*.yaml. */
export interface HarnessTask {
  /** The harness's name of the task. */
  task: string;
  /** Examples before every question, where nothing else is asked for. */
  shots: number;
  /** For choices: whether acc_norm is reported beside acc. */
  hasNorm?: boolean;
  /** The problem is left out of its own examples, which draws one example more. */
  leavesOutProblem?: boolean;
  /** A written answer ends before these. */
  until?: readonly string[];
}

const asked = (question: string) => `Question: ${question}\nAnswer:`;

/** ARC and OpenBookQA, SIQA and GSM8K as the paper uses them (arXiv 2410.12735, section 4.1). */
export const TASKS: readonly TaskDefinition[] = [
  {
    name: 'arc-easy',
    title: 'ARC-Easy',
    source: 'https://huggingface.co/datasets/allenai/ai2_arc, ARC-Easy',
    answer: 'choice',
    wording: asked,
    harness: { task: 'arc_easy', shots: 0, hasNorm: true },
  },
  {
    name: 'arc-challenge',
    title: 'ARC-Challenge',
    source: 'https://huggingface.co/datasets/allenai/ai2_arc, ARC-Challenge',
    answer: 'choice',
    wording: asked,
    harness: { task: 'arc_challenge', shots: 0, hasNorm: true },
  },
  {
    name: 'openbookqa',
    title: 'OpenBookQA',
    source: 'https://huggingface.co/datasets/allenai/openbookqa, main',
    answer: 'choice',
    wording: (question) => question,
    harness: { task: 'openbookqa', shots: 0, hasNorm: true },
  },
  {
    name: 'siqa',
    title: 'Social IQa',
    source: 'https://huggingface.co/datasets/allenai/social_i_qa',
    answer: 'choice',
    wording: (question) => `Q: ${question}\nA:`,
    // It measures on the validation split and names no split of examples: the two missing names are the same to it.
    harness: { task: 'social_iqa', shots: 0, leavesOutProblem: true },
  },
  {
    name: 'gsm8k',
    title: 'GSM8K',
    source: 'https://huggingface.co/datasets/openai/gsm8k, main',
    answer: 'number',
    wording: asked,
    harness: { task: 'gsm8k', shots: 5, until: ['Question:', '</s>', '<|im_end|>'] },
  },
];

export const TASK_NAMES = ['arc-easy', 'arc-challenge', 'openbookqa', 'siqa', 'gsm8k'] as const;
export type TaskName = (typeof TASK_NAMES)[number];

export const definitionOf = (name: TaskName | undefined): TaskDefinition | undefined =>
  TASKS.find((task) => task.name === name);

/** Throws INVALID_DATA for problems that are not of the task's kind: a file of another task. */
export function checkProblems(
  problems: readonly Pick<TaskRecord, 'id' | 'choices' | 'label'>[],
  { title, answer }: TaskDefinition,
  path: string,
): void {
  for (const { id, choices, label } of problems) {
    if (answer === 'choice' && choices === undefined) {
      throw new CreamError('INVALID_DATA', `${path}: ${id} has no choices; ${title} is multiple choice`);
    }
    if (answer === 'number' && choices !== undefined) {
      throw new CreamError(
        'INVALID_DATA',
        `${path}: ${id} has choices; ${title} asks for a number (${label})`,
      );
    }
    if (answer === 'number' && parseNumber(label) === undefined) {
      throw new CreamError(
        'INVALID_DATA',
        `${path}: ${id} has the label ${quote(label)}, which is no number`,
      );
    }
  }
}

/** The text before the options of a problem; of a task that has no name, as ARC's. */
export const optionsContext = (task: TaskDefinition | undefined, question: string): string =>
  (task?.wording ?? asked)(question);
