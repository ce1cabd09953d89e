import { join } from 'node:path';
import { makeFolder, writeFileDurably } from '../lib/run/storage.js';
import { type Family, familiesOf, meanAt, measured, primary, thresholdsOf, warnings } from './analysis.js';
import type { IterationRow } from './collect.js';
import { BASELINE, type Method, METHODS, type Regime } from './design.js';
import { spreadOf } from './statistics.js';
import { intervalChart, lineChart } from './svg.js';
import {
  accuracyTable,
  agreementTable,
  contrastTable,
  differenceTable,
  flippedTable,
  gateTable,
  iterationTable,
  warningTable,
} from './tables.js';
import type { UnitResult } from './unit.js';

// The results folder: numbers as JSON, tables as Markdown, plots as SVG. All of it follows from the units alone.

export interface ReportInput {
  regimes: readonly Regime[];
  results: readonly UnitResult[];
  /** How long it took and on what machine. */
  time?: Record<string, unknown>;
}

export async function writeReport(folder: string, { regimes, results, time }: ReportInput): Promise<void> {
  await makeFolder(folder);
  const sections: string[] = [];
  let thresholds: ReadonlyMap<string, number> | undefined;
  for (const regime of regimes) {
    const units = results.filter((unit) => unit.regime === regime.name);
    if (units.length === 0) continue;
    const text = units.map((unit) => JSON.stringify(unit)).join(',\n');
    await writeFileDurably(join(folder, `${regime.name}.json`), `{"units":[\n${text}\n]}\n`);
    if (!units.some(({ runs }) => runs.length > 0)) continue;
    const families = familiesOf(regime, units);
    sections.push(`## ${regime.name}`, gateTable(units));
    for (const family of families) {
      for (const [name, svg] of plotsOf(family)) await writeFileDurably(join(folder, name), svg);
      sections.push(...sectionOf(family));
    }
    const isFirst = thresholds === undefined;
    thresholds ??= thresholdsOf(families);
    sections.push(
      `### ${regime.name}: what warns of a fall`,
      isFirst
        ? 'Thresholds chosen on even seeds, judged on odd ones.'
        : `Thresholds as chosen in ${regimes[0]!.name}, judged on all seeds here.`,
      warningTable(warnings(families, thresholds, isFirst ? 'odd' : 'all')),
    );
  }
  if (time !== undefined)
    await writeFileDurably(join(folder, 'machine.json'), `${JSON.stringify(time, null, 2)}\n`);
  const markdown = [
    '# Results',
    'Written by `npm run experiment`; docs/experiment.md reads them.',
    ...sections,
  ];
  await writeFileDurably(join(folder, 'tables.md'), `${markdown.join('\n\n')}\n`);
}

function sectionOf(family: Family): string[] {
  const title = (text: string) => `### ${family.regime}, β ${family.beta}: ${text}`;
  return [
    title('sampled accuracy, mean over seeds'),
    accuracyTable(family),
    title(`difference from ${BASELINE}`),
    differenceTable(family),
    title('contrasts'),
    contrastTable(family),
    title('what the iterations show (t = 1 to T, means over seeds)'),
    iterationTable(family),
    title('where the first C was low'),
    agreementTable(family),
    title('flipped labels'),
    flippedTable(family),
  ];
}

const lookOf = (method: Method) => Object.keys(METHODS).indexOf(method);

function plotsOf(family: Family): [name: string, svg: string][] {
  const { regime, beta, last, methods } = family;
  const models = Array.from({ length: last }, (_, index) => index + 1);
  const name = (kind: string) => `${regime}-beta${beta}-${kind}.svg`;
  const title = (text: string) => `${regime}, β ${beta}: ${text}`;
  const trace = (of: (row: IterationRow) => number | null) =>
    methods.map((method) => ({
      name: method,
      look: lookOf(method),
      points: models.slice(0, -1).flatMap((t) => {
        const y = meanAt(family.runsOf(method), t, of);
        return y === null ? [] : [{ x: t, y }];
      }),
    }));
  const iteration = (t: number) => `t = ${t}`;
  return [
    [
      name('accuracy'),
      lineChart({
        title: title('sampled accuracy (± standard error over seeds)'),
        xLabel: (model) => `M${model}`,
        yLabel: 'share of right answers',
        lines: methods.map((method) => ({
          name: method,
          look: lookOf(method),
          points: models.map((model) => {
            const values = family.runsOf(method).map(({ run }) => measured(run, model, 'sampled'));
            const { mean, error } = spreadOf(values);
            return { x: model, y: mean, error };
          }),
        })),
      }),
    ],
    [
      name('differences'),
      intervalChart({
        title: title(`M${last} minus ${BASELINE}, every seed and Student's 95 % interval`),
        rows: primary(family).map(({ method, values, difference }) => ({
          name: method,
          values,
          mean: difference.mean,
          interval: difference.student,
        })),
      }),
    ],
    [
      name('consistency'),
      lineChart({
        title: title('consistency C of the run'),
        xLabel: iteration,
        yLabel: 'C',
        lines: trace((row) => row.consistency),
      }),
    ],
    [
      name('ranking'),
      lineChart({
        title: title('ranking accuracy of the reward'),
        xLabel: iteration,
        yLabel: 'share of (right, wrong) ordered right',
        lines: trace((row) => row.rankingAccuracy),
      }),
    ],
  ];
}
