import type { PartialIteration } from '../run/summarize.js';
import type { ModelSummary } from '../run/summary.js';

// What the page shows: plain data, made in lib/report and drawn in lib/report/page.

export interface ReportData {
  /** ISO 8601. */
  generated: string;
  /** Version of this package. */
  version: string;
  runs: ReportRun[];
  /** How several runs compare. */
  comparison?: string;
}

/** stopped: no process works on it and it has not said why. */
export type RunStatus = 'running' | 'finished' | 'interrupted' | 'failed' | 'stopped';

export interface ReportRun {
  /** Unique among the runs of a report. */
  name: string;
  directory: string;
  status: RunStatus;
  /** Of a run that failed or was interrupted. */
  reason?: { code: string; message: string };
  created: string;
  seed: number | null;
  method: string;
  /** One or two sentences. */
  verdict: string;
  lights: Light[];
  models: ModelSummary[];
  iterations: ReportIteration[];
  steps: Steps;
  settings: SettingRow[];
  inputs: DigestRow[];
  /** What every finished stage wrote. */
  outputs: (DigestRow & { stage: string; bytes: number })[];
  versions: Record<string, string>;
  timeline: TimelineEntry[];
  /** Work in progress, of a run that is running. */
  progress?: ProgressNow;
  /** Seconds of work, over all processes that took part. */
  seconds: number;
  warnings: { code: string; message: string; count: number }[];
  /** What of the folder could not be read. */
  faults: string[];
}

/** good, watch, bad; unknown: there is nothing to judge it by. */
export type Level = 'good' | 'watch' | 'bad' | 'unknown';

export interface Light {
  id: string;
  title: string;
  level: Level;
  /** What was found, short. */
  value: string;
  /** What it means, how it is judged, and what to do about it. */
  meaning: string;
}

export interface Histogram {
  /** One more than counts. */
  edges: number[];
  counts: number[];
}

export interface ReportIteration extends PartialIteration {
  /** How many groups were sampled; `groups` shows some of them. */
  totalGroups: number;
  groups: SampleGroup[];
  tau?: Histogram;
  /** tau of one group under random rankings: mean and standard deviation. */
  chance?: { mean: number; deviation: number };
  lengths?: PairLengths;
  /** Share of responses that another response of the group equals, and of groups with equal rewards. */
  duplicates?: number;
  tiedGroups?: number;
}

/** Tokens of chosen and rejected responses. */
export interface PairLengths {
  edges: number[];
  chosen: number[];
  rejected: number[];
  meanChosen: number;
  meanRejected: number;
  /** Share of pairs whose chosen response is the longer one. */
  chosenLonger: number;
}

export interface SampleGroup {
  id: string;
  /** Roles and texts; a plain prompt has one entry without a role. */
  prompt: { role?: string; text: string }[];
  label?: string;
  tau: number | null;
  consistency: number | null;
  weight?: number;
  /** Why it made no pair. */
  dropped?: string;
  responses: SampleResponse[];
  /** The rejected response where it is one of M0's own. */
  rejectedOfBase?: SampleResponse;
}

export interface SampleResponse {
  text: string;
  tokens: number;
  truncated: boolean;
  reward: number | null;
  previousReward: number | null;
  correct?: boolean;
  role?: 'chosen' | 'rejected';
}

/** Optimizer steps of all trainings in order. Series are base64 of little-endian float32, NaN where there is none. */
export interface Steps {
  rows: number;
  /** Only every so many-th step is here. */
  every: number;
  streams: { name: string; start: number; rows: number }[];
  series: Record<string, string>;
}

export interface SettingRow {
  name: string;
  value: string;
  /** default, or where it was set. */
  origin: string;
  /** The default where the value is another one. */
  standard?: string;
}

export interface DigestRow {
  name: string;
  sha256: string;
}

export interface TimelineEntry {
  /** "sample 2 M2" */
  label: string;
  stage: string;
  iteration: number;
  /** Milliseconds since 1970. */
  start: number;
  /** null while it goes on, and where nothing tells when the process ended in it. */
  end: number | null;
  /** The process ended in it. */
  isCut?: boolean;
  /** Of a process rather than a stage. */
  isMark?: boolean;
}

/** progress.json of the run folder. */
export interface ProgressNow {
  stage: string;
  iteration: number;
  done: number;
  total: number;
  unit: string;
  perSecond?: number;
  time: string;
}
