// What this flywheel knows of its task, additions such as "12+34=": which proposals are good, and what the answer is.
// Both runs and the driver use it, and nothing else decides.

const ADDITION = /^(\d{1,4})\+(\d{1,4})=$/;

/** The problem that a proposal states, or undefined when it states none. */
export function problemOf(text) {
  return ADDITION.exec(text.trim())?.[0];
}

/** The answer to a problem that the filter kept. */
export function answerTo(problem) {
  const [, a, b] = ADDITION.exec(problem);
  return String(Number(a) + Number(b));
}

/**
 * Reward of the generator's proposals: nothing for one that is no problem, and less the more often the same problem is
 * proposed in this slice. Without that a generator soon writes one problem alone.
 */
export default function reward(groups) {
  const problems = groups.map(({ responses }) => responses.map(({ text }) => problemOf(text)));
  const counts = new Map();
  for (const problem of problems.flat()) counts.set(problem, (counts.get(problem) ?? 0) + 1);
  return problems.map((group) =>
    group.map((problem) => (problem === undefined ? 0 : 1 / counts.get(problem))),
  );
}
