import type { CreamConfig } from '../config.js';
import { scoringNeeds } from '../scoring-needs.js';
import { decidingSettings, type RunRecord } from '../run/lineage.js';
import { sha256 } from '../run/storage.js';

// Which stages of two runs are the same work: those whose settings, inputs, versions and seed are the same, as far as
// they decide the stage. A setting that is not named here counts for every stage: what is not known to be without
// effect is taken to have one.

/** A stage that another run may have done already. Stages with one digest make the same files. */
export interface ShareableStage {
  /** As in manifest.json. */
  key: string;
  digest: string;
}

/** A name ending in "." is a whole group of settings, or of inputs. */
type Names = readonly string[];

const METHOD: Names = ['method', 'reward.', 'consistency.', 'pairing.', 'train.', 'score.', 'beta'];
const PROMPTS: Names = ['data.prompts', 'data.extract', 'sampling.', 'iterations'];
const MEASUREMENT: Names = ['data.evaluation', 'data.evaluation.', 'evaluation.'];
const ALWAYS_WITHOUT_EFFECT: Names = ['report.'];
const FINE_TUNING: Names = ['data.sft', 'sft.'];

/** What has no effect on a stage. */
const WITHOUT_EFFECT = {
  'evaluate:M0': [...METHOD, ...PROMPTS, ...FINE_TUNING],
  'sft:M1': [...METHOD, ...PROMPTS, ...MEASUREMENT],
  'evaluate:M1': [...METHOD, ...PROMPTS],
  'iteration-1/sample': [...METHOD, ...MEASUREMENT],
  // Which policies a group is compared with decides the scoring passes; what is made of it does not.
  'iteration-1/score': [
    'method',
    'consistency.metric',
    'consistency.weight',
    'consistency.constant',
    'consistency.rule',
    'consistency.minConsistency',
    'consistency.measure',
    'pairing.',
    'train.',
    ...MEASUREMENT,
  ],
} as const satisfies Record<string, Names>;
type Work = keyof typeof WITHOUT_EFFECT;

const isNamed = (name: string, names: Names) =>
  names.some((one) => (one.endsWith('.') ? name.startsWith(one) : name === one));

/** The settings and inputs that decide a piece of work. */
function deciding(record: RunRecord, work: Work): [string, string | number][] {
  const { config, inputs } = record;
  const { sampling, evaluation } = config;
  const names: Names = [...WITHOUT_EFFECT[work], ...ALWAYS_WITHOUT_EFFECT];
  const all = [
    ...decidingSettings(config),
    ...Object.entries(inputs).map(([name, digest]) => [`content of ${name}`, digest] as const),
  ];
  const kept = new Map<string, string | number>(
    all.filter(([name]) => !isNamed(name.replace(/^content of /, ''), names)),
  );
  // Whom the pairs and their loss want to be asked is part of the scores.
  if (work === 'iteration-1/score') kept.set('needs', JSON.stringify(scoringNeeds(config)));
  const isMeasurement = work.startsWith('evaluate');
  // Greedy answers of M0 are the same for every seed.
  if (work === 'evaluate:M0' && evaluation.samples === 0) kept.delete('seed');
  if (isMeasurement) kept.set('problems per chunk', sampling.chunkSize * sampling.n);
  // How many prompts an iteration has depends on their number where they are split evenly.
  if (work.startsWith('iteration') && sampling.promptsPerIteration === 'auto')
    kept.set('iterations', config.iterations);
  return [...kept].toSorted(([a], [b]) => (a < b ? -1 : 1));
}

/** The stages of a run up to the first scores that may be taken from another run, in the order in which they are done. */
export function shareableStages(record: RunRecord): ShareableStage[] {
  const { config, created, threads, versions } = record;
  const stage = (key: string, work: Work): ShareableStage => ({
    key,
    digest: sha256(JSON.stringify([key, created, threads, versions, deciding(record, work)])),
  });
  const isMeasured = config.data.evaluation.length > 0;
  const isFineTuned = config.data.sft !== undefined;
  const stages: ShareableStage[] = [];
  if (isMeasured) stages.push(stage('evaluate:M0', 'evaluate:M0'));
  if (isFineTuned) stages.push(stage('sft:M1', 'sft:M1'));
  if (isMeasured && isFineTuned) stages.push(stage('evaluate:M1', 'evaluate:M1'));
  if (config.iterations > 0) {
    stages.push(stage('prompts-per-iteration', 'iteration-1/sample'));
    stages.push(stage('iteration-1/sample:M1', 'iteration-1/sample'));
    stages.push(stage('iteration-1/score:M1', 'iteration-1/score'));
    if (config.pairing.rejectedFrom === 'base') {
      stages.push(stage('iteration-1/sample:M0', 'iteration-1/sample'));
      stages.push(stage('iteration-1/score:M0', 'iteration-1/score'));
    }
  }
  return stages;
}

/** Of a method's settings, those that say on how much data it works. */
const amountOf = (config: CreamConfig): Record<string, unknown> => ({
  iterations: config.iterations,
  threads: config.threads,
  'sampling.promptsPerIteration': config.sampling.promptsPerIteration,
});

/** Settings and inputs that must be the same for a comparison of methods from one M1, on one set of prompts and tasks. */
export function commonGround({ config, inputs }: Pick<RunRecord, 'config' | 'inputs'>): Map<string, string> {
  const names: Names = [...METHOD, ...ALWAYS_WITHOUT_EFFECT, 'sampling.', 'seed'];
  const ground = new Map([...decidingSettings(config)].filter(([name]) => !isNamed(name, names)));
  for (const [name, value] of Object.entries(amountOf(config))) ground.set(name, JSON.stringify(value));
  for (const [name, digest] of Object.entries(inputs)) {
    if (!isNamed(name, names)) ground.set(`content of ${name}`, `sha256 ${digest.slice(0, 12)}`);
  }
  return ground;
}
