import { type Facts, levelAbove, levelBelow, percent, trail } from './light-rules.js';
import type { StepTable } from './steps.js';
import type { Light } from './types.js';

// The lights that are read off the optimizer steps.

const SPIKE_FACTOR = 10;
const SPIKE_WINDOW = 50;
const SPIKE_HISTORY = 5;

/** Steps whose gradient norm is ten times the median of up to fifty steps before, at least five, of their training. */
export function gradientSpikes({ columns, streams }: StepTable): number {
  const norms = columns.get('grad_norm');
  if (norms === undefined) return 0;
  let spikes = 0;
  for (const { start, rows } of streams) {
    // Sorted window: one insertion and one removal per step.
    const sorted: number[] = [];
    const recent: number[] = [];
    const place = (value: number) => {
      let [low, high] = [0, sorted.length];
      while (low < high) {
        const middle = (low + high) >> 1;
        if (sorted[middle]! < value) low = middle + 1;
        else high = middle;
      }
      return low;
    };
    for (let row = start; row < start + rows; row++) {
      const norm = norms[row]!;
      if (Number.isNaN(norm)) continue;
      if (recent.length >= SPIKE_HISTORY && norm > SPIKE_FACTOR * sorted[sorted.length >> 1]!) spikes += 1;
      sorted.splice(place(norm), 0, norm);
      recent.push(norm);
      if (recent.length > SPIKE_WINDOW) sorted.splice(place(recent.shift()!), 1);
    }
  }
  return spikes;
}

/** Mean of a column over the last tenth of each preference training. */
export function endsOf({ columns, streams }: StepTable, name: string): { stream: string; value: number }[] {
  const column = columns.get(name);
  if (column === undefined) return [];
  return streams.flatMap(({ name: stream, start, rows }) => {
    const tail = column.subarray(start + rows - Math.max(1, Math.ceil(rows / 10)), start + rows);
    const values = tail.filter((value) => !Number.isNaN(value));
    if (values.length === 0) return [];
    return [{ stream, value: values.reduce((sum, value) => sum + value, 0) / values.length }];
  });
}

const iterationOf = (stream: string) => Number(/^iteration-(\d+)\//.exec(stream)?.[1] ?? 0);

export function trainingLights(facts: Facts): Light[] {
  const { table, run } = facts;
  const losses = table.columns.get('loss');
  const skipped = losses?.filter(Number.isNaN).length ?? 0;
  const spikes = gradientSpikes(table);
  const hasSteps = table.rows > 0;
  const none = 'no steps yet';
  const memory = table.columns.get('system/memory_share');
  const peak = memory?.reduce((most, value) => (value > most ? value : most), 0);
  return [
    {
      id: 'finite',
      title: 'Finite numbers',
      level:
        run.reason?.code === 'DIVERGED' ? 'bad' : hasSteps ? levelAbove(skipped, 1, Infinity) : 'unknown',
      value: !hasSteps
        ? none
        : skipped === 0
          ? 'no step skipped'
          : `${skipped} of ${table.rows} steps skipped`,
      meaning:
        'Steps whose loss or gradient was not finite; they are not applied. Red: three in a row ended the run. A lower ' +
        'learning rate helps.',
    },
    {
      id: 'spikes',
      title: 'Gradient spikes',
      level: hasSteps ? levelAbove(spikes, 1, Math.max(3, 0.02 * table.rows)) : 'unknown',
      value: !hasSteps ? none : spikes === 0 ? 'none' : `${spikes} of ${table.rows} steps`,
      meaning:
        'Steps whose gradient norm is ten times the median of the fifty before. Yellow from one, red from 2 % of the ' +
        'steps and at least three. Gradients are clipped (maxGradNorm), so one spike does little harm.',
    },
    chosenLight(facts),
    rejectedLight(facts),
    saturationLight(facts),
    {
      id: 'memory',
      title: 'Memory',
      level: peak ? levelAbove(peak, 0.85, 0.95) : 'unknown',
      value: peak ? `${percent(peak)} at most` : 'not recorded',
      meaning:
        "The engine's resident memory as a share of what the process may use. Yellow from 85 %, red from 95 %. Lower " +
        'maxTokensPerBatch of train and score.',
    },
  ];
}

/** By how much a side's log-probs changed in each training, in nats per token: the mean of its last tenth. */
function changesOf({ table, run, config }: Facts, side: 'chosen' | 'rejected'): number[] {
  const { beta } = config;
  if (beta === undefined) return [];
  // sigmoid-norm and ipo compare means per token already; the others sums.
  const isPerToken = config.train?.loss === 'sigmoid-norm' || config.train?.loss === 'ipo';
  return endsOf(table, `rewards/${side}`).flatMap(({ stream, value }) => {
    if (isPerToken) return [value / beta];
    const found = run.iterations.find(({ iteration }) => iteration === iterationOf(stream))?.lengths;
    const length = side === 'chosen' ? found?.meanChosen : found?.meanRejected;
    return length ? [value / beta / length] : [];
  });
}

const least = (values: readonly number[]) => (values.length === 0 ? undefined : Math.min(...values));
const signed = (value: number) => `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(3)}`;
const perToken = (values: readonly number[]) =>
  values.length === 0 ? 'no steps yet' : `${trail(values, signed)} nats per token`;

function chosenLight(facts: Facts): Light {
  const changes = changesOf(facts, 'chosen');
  return {
    id: 'chosen',
    title: 'Chosen log-probs',
    level: levelBelow(least(changes), -0.01, -0.1),
    value: perToken(changes),
    meaning:
      'By how much the log-probs of chosen responses changed in each training (its last tenth). Preference training may ' +
      'push both responses down. Yellow below -0.01 nats per token, red below -0.1: probability leaks to texts that ' +
      'nobody chose. train.sftCoefficient and a lower learning rate hold it; train.maxChosenDrop ends the training.',
  };
}

function rejectedLight(facts: Facts): Light {
  const changes = changesOf(facts, 'rejected');
  return {
    id: 'rejected',
    title: 'Rejected log-probs',
    level: levelBelow(least(changes), -0.045, -Infinity),
    value: perToken(changes),
    meaning:
      'By how much the log-probs of rejected responses changed in each training (its last tenth). In the experiment of ' +
      'docs/experiment.md (answers of 3 to 11 tokens) this was the best sign without labels that the next model is worse: ' +
      'yellow below -0.045 nats per token. Then compare with the model before, and keep that one in doubt.',
  };
}

function saturationLight({ table, config }: Facts): Light {
  const isSigmoid = (config.train?.loss ?? 'sigmoid').startsWith('sigmoid');
  const ends = isSigmoid ? endsOf(table, 'rewards/margins').map(({ value }) => value) : [];
  return {
    id: 'saturation',
    title: 'Saturation',
    level: ends.length === 0 ? 'unknown' : levelAbove(Math.max(...ends), 3, 6),
    value: isSigmoid
      ? ends.length === 0
        ? 'no steps yet'
        : `margin ${trail(ends, (value) => value.toFixed(2))}`
      : `loss ${config.train?.loss}: not judged`,
    meaning:
      'Margin of the rewards at the end of each training. Where it is large the loss is flat: yellow from 3 (95 % sure), ' +
      'red from 6 (99.8 %). The policy then only moves further from where it was. Fewer epochs, a lower learning rate or ' +
      'a smaller weight C (whose best margin is logit C) keep it small.',
  };
}
