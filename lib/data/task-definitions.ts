import { CreamError } from '../errors.js';
import type { TaskRecord } from '../types.js';

// The held-out tasks of the paper by name: what their files are, and how their options are put to a model.

export interface TaskDefinition {
  name: TaskName;
  title: string;
  /** Where the publisher has the files; they are not downloaded. */
  source: string;
  answer: 'choice' | 'number';
  /** The text that an option follows, after a space: lm-evaluation-harness's `doc_to_text`. */
  optionsContext?: (question: string) => string;
}

const asked = (question: string) => `Question: ${question}\nAnswer:`;

/** ARC and OpenBookQA, SIQA and GSM8K as the paper uses them (arXiv 2410.12735, section 4.1). */
export const TASKS: readonly TaskDefinition[] = [
  {
    name: 'arc-easy',
    title: 'ARC-Easy',
    source: 'https://huggingface.co/datasets/allenai/ai2_arc, ARC-Easy',
    answer: 'choice',
    optionsContext: asked,
  },
  {
    name: 'arc-challenge',
    title: 'ARC-Challenge',
    source: 'https://huggingface.co/datasets/allenai/ai2_arc, ARC-Challenge',
    answer: 'choice',
    optionsContext: asked,
  },
  {
    name: 'openbookqa',
    title: 'OpenBookQA',
    source: 'https://huggingface.co/datasets/allenai/openbookqa, main',
    answer: 'choice',
    optionsContext: (question) => question,
  },
  {
    name: 'siqa',
    title: 'Social IQa',
    source: 'https://huggingface.co/datasets/allenai/social_i_qa',
    answer: 'choice',
    optionsContext: (question) => `Q: ${question}\nA:`,
  },
  {
    name: 'gsm8k',
    title: 'GSM8K',
    source: 'https://huggingface.co/datasets/openai/gsm8k, main',
    answer: 'number',
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
  }
}

/** The text before the options of a problem; of a task that has no name, as ARC's. */
export const optionsContext = (task: TaskDefinition | undefined, question: string): string =>
  (task?.optionsContext ?? asked)(question);
