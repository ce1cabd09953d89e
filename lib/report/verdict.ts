import { percent } from './light-rules.js';
import { compareScores, outcomeOf, startOf } from './outcome.js';
import type { Light, ReportRun } from './types.js';

// The line on top: how the run stands, whether the model got better, and what needs a look.

type Facts = Omit<ReportRun, 'lights' | 'verdict'>;

const count = (number: number, noun: string) => `${number} ${noun}${number === 1 ? '' : 's'}`;

export function verdictOf(run: Facts, lights: readonly Light[], iterations: number): string {
  return [standing(run, iterations), outcome(run), attention(lights)].filter((text) => text !== '').join(' ');
}

function standing({ status, reason, iterations, timeline, progress }: Facts, wanted: number): string {
  const done = iterations.filter(({ metrics }) => metrics !== undefined).length;
  const last = timeline.findLast(({ isMark }) => isMark !== true);
  const where = progress
    ? `${progress.stage}${progress.iteration > 0 ? ` of iteration ${progress.iteration}` : ''}`
    : last?.end === null || last?.isCut
      ? last.label
      : undefined;
  const so = wanted === 0 ? '' : `, ${done} of ${count(wanted, 'iteration')} done`;
  const at = where === undefined ? '' : ` at ${where}`;
  switch (status) {
    case 'finished':
      return wanted === 0
        ? 'Finished: supervised fine-tuning alone.'
        : `Finished: ${count(wanted, 'iteration')}.`;
    case 'running':
      return `Running${at}${so}.`;
    case 'interrupted':
      return `Interrupted${at}${so}; the same command continues it.`;
    case 'failed':
      return `Failed${at}${so}: ${reason?.message ?? 'no reason was recorded'}${reason ? ` [${reason.code}]` : ''}.`;
    case 'stopped':
      return `Not finished${at}${so}, and no process works on it: it was ended from outside. The same command continues it.`;
  }
}

function outcome({ models, iterations }: Facts): string {
  const found = outcomeOf(models);
  if (found === undefined) {
    const means = iterations.flatMap(({ consistency }) => consistency?.mean ?? []);
    const said =
      means.length === 0 ? '' : ` Consistency: ${means.map((mean) => mean.toFixed(2)).join(' → ')}.`;
    return `No held-out task was measured, so it is not known whether answers got better.${said}`;
  }
  const start = startOf(found);
  const end = found.scores.at(-1)!;
  const of = found.tasks.length === 1 ? found.tasks[0]! : `${found.tasks.length} tasks`;
  if (found.scores.length < 2 || start === end) {
    return `${end.model} answers ${percent(end.accuracy)} right (${found.kind}, ${of}).`;
  }
  const words = {
    better: 'better, and the 95 % intervals do not overlap',
    worse: 'worse, and the 95 % intervals do not overlap',
    alike: 'the 95 % intervals overlap, so no difference is shown',
  };
  const best = found.scores.reduce((a, b) => (b.accuracy > a.accuracy ? b : a));
  const instead =
    best !== end && compareScores(best, end) === 'better'
      ? ` ${best.model} is the better one to keep (${percent(best.accuracy)}).`
      : '';
  return (
    `${end.model} answers ${percent(end.accuracy)} right, ${start.model} ${percent(start.accuracy)} ` +
    `(${found.kind}, ${of}): ${words[compareScores(end, start)]}.${instead}`
  );
}

function attention(lights: readonly Light[]): string {
  const named = (level: Light['level']) =>
    lights
      .filter((light) => light.level === level)
      .map(({ title }) => title.replace(/^[A-Z](?=[a-z])/, (letter) => letter.toLowerCase()));
  const bad = named('bad');
  const watch = named('watch');
  if (bad.length > 0)
    return `Look at: ${bad.join(', ')}${watch.length > 0 ? `; then ${watch.join(', ')}` : ''}.`;
  if (watch.length > 0) return `Keep an eye on: ${watch.join(', ')}.`;
  return lights.some(({ level }) => level === 'good') ? 'No warning light is on.' : '';
}

/** One sentence about several runs: who ends highest, and whether that is more than chance. */
export function comparisonOf(runs: readonly Pick<ReportRun, 'name' | 'models'>[]): string {
  const measured = runs.flatMap(({ name, models }) => {
    const found = outcomeOf(models);
    return found === undefined ? [] : [{ name, found, end: found.scores.at(-1)! }];
  });
  const [first] = measured;
  if (measured.length < 2 || first === undefined) return '';
  const same = ({ found }: typeof first) =>
    found.kind === first.found.kind && found.tasks.join() === first.found.tasks.join();
  if (!measured.every(same))
    return 'The runs were measured on different tasks, so their accuracies do not compare.';
  const sorted = measured.toSorted((a, b) => b.end.accuracy - a.end.accuracy);
  const [best, second] = sorted as [typeof first, typeof first];
  const shown = sorted.map(({ name, end }) => `${name} ${percent(end.accuracy)}`).join(', ');
  const isClear = compareScores(best.end, second.end) === 'better';
  return `Last models: ${shown}. ${
    isClear
      ? `${best.name} is better than the next one: the 95 % intervals do not overlap.`
      : `${best.name} and ${second.name} are not told apart: their 95 % intervals overlap.`
  }`;
}
