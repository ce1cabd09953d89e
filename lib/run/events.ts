import type { RunSummary } from './summary.js';

// What a run tells its host while it works. Plain data: events cross a process border and are lines of events.jsonl.

export type Stage = 'sft' | 'sample' | 'score' | 'rank' | 'pair' | 'train' | 'evaluate';

/** The run as a whole. `directory` is the run folder, `time` ISO 8601. */
export interface RunStatusEvent {
  type: 'run';
  status: 'started' | 'resumed' | 'finished';
  directory: string;
  time: string;
}

/** A stage begins, ends, or was already done when the run was resumed. Iteration 0 is before the first iteration. */
export interface StageEvent {
  type: 'stage';
  status: 'started' | 'skipped' | 'finished';
  stage: Stage;
  iteration: number;
  /** The model that the stage makes or measures: "M0", "M1", ... */
  model?: string;
  total?: number;
  unit?: string;
  seconds?: number;
  metrics?: Record<string, number>;
}

/** At most a few a second. */
export interface ProgressEvent {
  type: 'progress';
  stage: Stage;
  iteration: number;
  done: number;
  total: number;
  unit: string;
  perSecond?: number;
  metrics?: Record<string, number>;
}

/** One optimizer step; also a line of metrics.jsonl. */
export interface MetricsEvent {
  type: 'metrics';
  stage: Stage;
  iteration: number;
  step: number;
  metrics: Record<string, number>;
}

export interface WarningEvent {
  type: 'warning';
  code: string;
  message: string;
  stage?: Stage;
  iteration?: number;
}

/** What a training needs of memory, before its first step. Sizes in bytes. */
export interface PlanEvent {
  type: 'plan';
  stage: Stage;
  iteration: number;
  parts: { what: string; bytes: number }[];
  totalBytes: number;
  freeBytes: number;
  maxTokensPerBatch: number;
  gradientsDtype: 'float32' | 'bfloat16';
}

/** What a setting `auto` stands for in this run; at the start of every process of it. */
export interface ChoiceEvent {
  type: 'choice';
  setting: string;
  value: string;
  /** By what it was decided, for people. */
  because: string;
}

export interface SummaryEvent {
  type: 'summary';
  summary: RunSummary;
}

export type RunEvent =
  | RunStatusEvent
  | StageEvent
  | ProgressEvent
  | MetricsEvent
  | WarningEvent
  | PlanEvent
  | ChoiceEvent
  | SummaryEvent;
