import { CreamError } from '../errors.js';
import type { TaskProblem } from './datasets.js';
import { PythonRandom } from './python-random.js';
import type { HarnessTask, TaskDefinition } from './task-definitions.js';

// What lm-evaluation-harness 0.4.13 puts to a model for the paper's tasks, and how it reads what was written: its own
// task files, samplers, filters and exact_match, so that its numbers come out item by item.

/** The release whose numbers these are. */
export const HARNESS_RELEASE = '0.4.13';
/** The harness's default of --seed for few-shot examples. */
export const FEW_SHOT_SEED = 1234;
/** HFLM's limit of an answer in tokens. */
export const HARNESS_NEW_TOKENS = 256;
/** Between a question and its answer. */
export const TARGET_DELIMITER = ' ';
const FEW_SHOT_DELIMITER = '\n\n';

export interface FewShot {
  /** Examples before every question. Default: the task's own. */
  shots?: number | undefined;
  /** Where examples come from: problems of another split with their answers. */
  examples?: readonly TaskProblem[] | undefined;
  /** `random`: drawn anew for every problem, as Python's random does; `first`: always the first ones. Default random. */
  sampler?: 'random' | 'first' | undefined;
  seed?: number | undefined;
}

/** A task that the harness has. */
export type HarnessDefinition = TaskDefinition & { harness: HarnessTask };

/**
 * The texts that a model goes on from, one per problem, in their order: the examples of a problem depend on how many
 * problems came before it. Throws INVALID_DATA where examples are missing.
 */
export function harnessContexts(
  problems: readonly TaskProblem[],
  task: HarnessDefinition,
  { shots = task.harness.shots, examples = [], sampler = 'random', seed = FEW_SHOT_SEED }: FewShot,
): string[] {
  const { wording, title, harness } = task;
  const asked = (problem: TaskProblem) => wording(problem.question);
  if (shots === 0) return problems.map(asked);
  const shown = examples.map((example) => shownExample(example, task));
  // Where the harness measures a task on the split that it has no name for, it leaves the problem itself out.
  const isProblem = harness.leavesOutProblem
    ? (index: number, problem: TaskProblem) => isSame(examples[index] as TaskProblem, problem)
    : () => false;
  const wanted = sampler === 'random' && harness.leavesOutProblem ? shots + 1 : shots;
  if (shown.length < wanted) {
    throw new CreamError(
      'INVALID_DATA',
      `${title} as the harness asks it has ${shots} examples before every question${wanted > shots ? ' (it draws one more)' : ''}; ` +
        `${examples.length === 0 ? 'no file of examples is given' : `the file of examples has ${examples.length}`}; ` +
        'give the training split, or set shots to 0',
    );
  }
  const all = shown.map((_, index) => index);
  const random = new PythonRandom(seed);
  const chosen = (problem: TaskProblem): number[] => {
    const others = () => all.filter((index) => !isProblem(index, problem));
    if (sampler === 'first') return others().slice(0, shots);
    const drawn = random.sampleIndices(shown.length, wanted);
    const left = drawn.filter((index) => !isProblem(index, problem)).slice(0, shots);
    if (left.length === shots) return left;
    const rest = others();
    return random.sampleIndices(rest.length, shots).map((index) => rest[index] as number);
  };
  return problems.map(
    (problem) =>
      chosen(problem)
        .map((index) => shown[index])
        .join('') + asked(problem),
  );
}

/** Question and right answer, as an example of how to go on. */
function shownExample(example: TaskProblem, { wording, title, answer: kind }: TaskDefinition): string {
  const { id, question, choices, label, answer } = example;
  const right = kind === 'choice' ? choices?.[label] : answer;
  if (question === '' || right === undefined) {
    const wanted = kind === 'choice' ? '{question, choices, label}' : '{question, answer}';
    throw new CreamError('INVALID_DATA', `${id} is no example of ${title}: it needs ${wanted}`);
  }
  return `${wording(question)}${TARGET_DELIMITER}${right}${FEW_SHOT_DELIMITER}`;
}

const isSame = (a: TaskProblem, b: TaskProblem) =>
  a.question === b.question && a.label === b.label && JSON.stringify(a.choices) === JSON.stringify(b.choices);

/** The harness's filters of GSM8K by their names with an underscore. */
export const ANSWER_FILTERS = {
  /** What follows the first "#### ". */
  strict_match: (text: string) => /#### (-?[0-9.,]+)/.exec(text)?.[1],
  /** The last number, or what looks like one. */
  flexible_extract: (text: string) => [...text.matchAll(/-?[$0-9.,]{2,}|-?[0-9]+/g)].at(-1)?.[0],
} as const;

export type AnswerFilter = keyof typeof ANSWER_FILTERS;
export const ANSWER_FILTER_NAMES = Object.keys(ANSWER_FILTERS) as AnswerFilter[];

/** What a filter reads of a text, "[invalid]" where it finds nothing, and whether that is the reference. */
export function harnessVerdict(
  filter: AnswerFilter,
  text: string,
  reference: string,
): { answer: string; correct: boolean } {
  const answer = ANSWER_FILTERS[filter](text) ?? '[invalid]';
  return { answer, correct: comparable(answer) === comparable(reference) };
}

/** exact_match with GSM8K's regexes_to_ignore, in their order, and ignore_case. */
const comparable = (text: string) =>
  text
    .replaceAll(',', '')
    .replaceAll('$', '')
    .replace(/^[\s\S]*#### /, '')
    .replace(/\.(?=\n?$)/, '')
    .toLowerCase();

// Characters of Python's str.isspace.
const PYTHON_SPACE = '\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';
const TRAILING_SPACE = new RegExp(`(?<![${PYTHON_SPACE}])[${PYTHON_SPACE}]+$`);

/** As Python's rstrip. */
export const trimEndAsPython = (text: string) => text.replace(TRAILING_SPACE, '');
