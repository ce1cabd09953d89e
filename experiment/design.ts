import type { CreamConfigInput } from '../lib/config.js';
import { carryTrace } from '../lib/demo/carry-trace.js';
import type { DataSizes } from '../lib/demo/data.js';
import { raggedTrace } from '../lib/demo/ragged-trace.js';
import type { ToyTask } from '../lib/demo/task.js';
import { sha256 } from '../lib/run/storage.js';

// What is run, fixed before the seeds were: docs/experiment.md says why.

/** The settings in which the methods differ; everything else is the regime's. */
export const METHODS = {
  srlm: { method: 'srlm' },
  cream: { method: 'cream' },
  'cream-sample': { method: 'cream-sample' },
  'constant-0.8': { method: 'cream-constant', consistency: { constant: 0.8 } },
  'anchor-dataset': { method: 'cream', score: { previousReward: 'anchor' } },
  'anchor-sample': { method: 'cream-sample', score: { previousReward: 'anchor' } },
  'likelihood-sample': { method: 'cream-sample', score: { previousReward: 'likelihood' } },
  'rule-floor': { method: 'cream', consistency: { rule: 'floor' } },
  'rule-theorem': { method: 'cream', consistency: { rule: 'theorem' } },
  oracle: { method: 'oracle' },
  'constant-0.55': { method: 'cream-constant', consistency: { constant: 0.55 } },
  'likelihood-reward': { method: 'likelihood' },
} as const satisfies Record<string, Partial<CreamConfigInput>>;
export type Method = keyof typeof METHODS;
/** Those of the plan; the other two were added for the regime `control`. */
const PLANNED = (Object.keys(METHODS) as Method[]).slice(0, 10);
/** Every difference is to this one. */
export const BASELINE: Method = 'srlm';

export interface Regime {
  name: string;
  task: ToyTask;
  sizes: DataSizes;
  betas: readonly number[];
  methods: readonly Method[];
  seeds: readonly number[];
  /** Added when others had been seen: run with --all, or by name. */
  isFollowUp?: true;
}

const seedsFrom = (first: number, count: number) => Array.from({ length: count }, (_, i) => first + i);
const SIZES: DataSizes = { sft: 1024, promptsPerIteration: 600, iterations: 4, evaluation: 400 };
const CORE: readonly Method[] = ['srlm', 'cream', 'cream-sample', 'constant-0.8', 'anchor-sample', 'oracle'];

/** 3,176,704 parameters. */
const WIDER = { hidden_size: 256, intermediate_size: 688, num_hidden_layers: 4, head_dim: 64 };
const three = raggedTrace(3);

/** In the order in which they are run: an experiment that is cut short has the first ones. */
export const REGIMES: readonly Regime[] = [
  {
    name: 'carry',
    task: carryTrace,
    sizes: SIZES,
    betas: [4, 1],
    methods: PLANNED,
    seeds: seedsFrom(100, 20),
  },
  {
    name: 'ragged',
    task: { ...raggedTrace(), name: 'ragged trace' },
    sizes: SIZES,
    betas: [4, 1],
    methods: CORE,
    seeds: seedsFrom(200, 8),
  },
  {
    name: 'control',
    task: carryTrace,
    sizes: SIZES,
    betas: [4],
    methods: [
      'srlm',
      'cream-sample',
      'constant-0.55',
      'anchor-dataset',
      'anchor-sample',
      'likelihood-sample',
      'likelihood-reward',
      'oracle',
    ],
    seeds: seedsFrom(400, 10),
    isFollowUp: true,
  },
  {
    name: 'wide',
    task: {
      ...three,
      model: { ...three.model, ...WIDER },
      pretraining: { steps: 900, batchSize: 96, learningRate: 1.5e-3 },
    },
    sizes: { ...SIZES, promptsPerIteration: 300 },
    betas: [4],
    methods: ['srlm', 'cream', 'constant-0.8', 'anchor-sample', 'oracle'],
    seeds: seedsFrom(300, 4),
  },
  {
    name: 'ragged-control',
    task: { ...raggedTrace(), name: 'ragged trace' },
    sizes: SIZES,
    betas: [4],
    methods: ['srlm', 'cream', 'anchor-sample', 'likelihood-sample', 'likelihood-reward', 'oracle'],
    seeds: seedsFrom(210, 6),
    isFollowUp: true,
  },
];

/** One seed of a regime: a base model, and every method from it. */
export interface Unit {
  regime: Regime;
  seed: number;
}

export const unitName = ({ regime, seed }: Unit) => `${regime.name}-${seed}`;

export function unitsOf(regimes: readonly Regime[]): Unit[] {
  return regimes.flatMap((regime) => regime.seeds.map((seed) => ({ regime, seed })));
}

/** Changes with every number that decides a unit's results but its seed. */
export function digestOf({ name, task, sizes, betas, methods }: Regime): string {
  const settings = methods.map((method) => [method, METHODS[method]]);
  return sha256(JSON.stringify([name, task, sizes, betas, settings])).slice(0, 16);
}

/** A form of minutes: one seed of the first two regimes, three methods. */
export function quick(regimes: readonly Regime[]): Regime[] {
  return regimes.slice(0, 2).map((regime) => ({
    ...regime,
    betas: regime.betas.slice(0, 1),
    methods: ['srlm', 'cream', 'oracle'],
    seeds: regime.seeds.slice(0, 1),
  }));
}
