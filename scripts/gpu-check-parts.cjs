'use strict';
// What ./gpu-check makes of what its programs wrote: tests, accuracies of the demo beside the CPU's, rows of the bench.

/** Results of scripts/run-tests.cjs. `text` is all that it said: what was not run for want of time is told there alone. */
function testsOf({ seconds, results }, text) {
  const all = results.flatMap(({ file, tests }) => tests.map((test) => ({ ...test, file })));
  const count = (status) => all.filter((test) => test.status === status).length;
  const failed = all.filter(({ status }) => status === 'failed').map(({ file, name }) => `${file}: ${name}`);
  const notRun = text.match(/^ {2}not run, for want of time: (.*)$/m)?.[1].split(' ') ?? [];
  const isWhole = notRun.length === 0;
  const [passed, skipped] = [count('ok'), count('skipped')];
  return {
    isOk: isWhole && failed.length === 0 && passed > 0,
    isWhole,
    passed,
    skipped,
    failed,
    notRun,
    seconds,
  };
}

/**
 * The least and the most that the CPU's 95 % intervals reach for a model of the demo. Its runs differ in nothing but the
 * rounding of sums, which training from nothing carries far: so far a GPU's may differ from each of them.
 */
function intervalOf(runs, index) {
  const of = (key) => runs.map((run) => run[index].interval[key]);
  return [Math.min(...of(0)), Math.max(...of(1))];
}

/** Sampled accuracy of every model of a run of the demo: [{model, accuracy, interval}]. */
const accuraciesOf = ({ models }) =>
  models.map(({ model, tasks: [{ sampled }] }) => ({
    model,
    accuracy: sampled.accuracy,
    interval: sampled.interval,
  }));

/** `summaries`: {cream, srlm} as the demo wrote them; `cpu`: runs of the same on a CPU. */
function demoOf(summaries, cpu) {
  const models = Object.entries(summaries).flatMap(([method, summary]) =>
    accuraciesOf(summary).map(({ model, accuracy }, index) => {
      const [low, high] = intervalOf(
        cpu.map((run) => run[method]),
        index,
      );
      return { method, model, accuracy, cpu: [low, high], isWithin: accuracy >= low && accuracy <= high };
    }),
  );
  return { isOk: models.every(({ isWithin }) => isWithin), models };
}

function demoTable(dtype, { models }) {
  return models.map(
    ({ method, model, accuracy, cpu: [low, high], isWithin }) =>
      `  ${dtype} ${method.padEnd(5)} ${model}  ${accuracy.toFixed(3)}  CPU ${low.toFixed(3)} to ${high.toFixed(3)}${isWithin ? '' : '  OUTSIDE'}`,
  );
}

/** Rows that were measured, that failed, for which no time was left, and that are below what is wanted. */
function rowsOf({ rows }) {
  const entries = Object.entries(rows);
  const isLate = (row) => (row.error ?? '').startsWith('not begun');
  const names = (isWanted) => entries.filter(([, row]) => isWanted(row)).map(([name]) => name);
  const ratio = (row) => (row.slowerThan === undefined ? row.ratio / row.wantedRatio : 1);
  const reached = (row) => (row.isLess ? row.wanted / row.value : row.value / row.wanted);
  const failed = names((row) => row.error !== undefined && !isLate(row));
  const notBegun = names(isLate);
  return {
    isOk: failed.length === 0 && notBegun.length === 0,
    measured: names((row) => row.value !== undefined),
    leftOut: names((row) => row.skipped !== undefined),
    failed,
    notBegun,
    belowWanted: names((row) => (row.wanted ? reached(row) : row.wantedRatio ? ratio(row) : 1) < 1),
  };
}

module.exports = { accuraciesOf, demoOf, demoTable, rowsOf, testsOf };
