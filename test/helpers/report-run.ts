import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { validateConfig } from '../../lib/config.js';
import { sha256 } from '../../lib/run/storage.js';

// A run folder by hand: every number in it is known.

const lines = (rows: readonly object[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join('');

export interface MadeGroup {
  id: string;
  prompt: unknown;
  label?: string;
  texts: string[];
  rewards: number[];
  previousRewards: number[];
  tau: number | null;
  correct?: boolean[];
  truncated?: boolean;
}

export interface MadeRun {
  folder: string;
  config?: object;
  origins?: Record<string, string>;
  /** Groups of each iteration. */
  iterations?: MadeGroup[][];
  /** What the score stage of each iteration recorded. */
  scores?: object[];
  /** Sampled accuracies of M0, M1, ... of 1000 answers. */
  accuracies?: number[];
  steps?: object[];
  timing?: string;
  /** The last word of events.jsonl; none: no events. */
  last?: { status: string; code?: string; message?: string } | undefined;
  events?: object[];
}

const interval = (p: number): [number, number] => [Math.max(0, p - 0.03), Math.min(1, p + 0.03)];

/** Four responses with rewards 4, 3, 2, 1 and some more fields; each text is as long as its number of ids. */
export function group(id: string, changes: Partial<MadeGroup> = {}): MadeGroup {
  return {
    id,
    prompt: `question ${id}`,
    label: 'one',
    texts: ['one', 'two', 'three', 'four'],
    rewards: [4, 3, 2, 1],
    previousRewards: [4, 3, 1, 2],
    tau: 2 / 3,
    correct: [true, false, false, false],
    ...changes,
  };
}

export function makeRun(made: MadeRun): string {
  const { folder, iterations = [], accuracies = [], steps = [], events = [] } = made;
  const write = (name: string, text: string) => {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
    return { sha256: sha256(text), bytes: Buffer.byteLength(text) };
  };
  const config = validateConfig({
    model: '/models/base',
    iterations: Math.max(iterations.length, 1),
    data: {
      prompts: '/data/prompts.jsonl',
      sft: '/data/sft.jsonl',
      evaluation: [{ name: 'task', path: '/data/task' }],
    },
    sampling: { n: 4 },
    ...made.config,
  });
  write(
    'run.json',
    JSON.stringify({
      version: 1,
      created: '2026-01-02T03:04:05.000Z',
      config,
      inputs: { 'data.prompts': sha256('prompts') },
      versions: { 'cream-lm': '0.1.0', libtorch: '2.13.0' },
      threads: 1,
      ...(made.origins && { origins: made.origins }),
    }),
  );

  const stages: { key: string; record: object }[] = [];
  const stage = (key: string, result: object, files: object = {}) =>
    stages.push({ key, record: { files, seconds: 1.5, metricsBytes: 0, result, warnings: [] } });
  const evaluate = (number: number) => {
    const accuracy = accuracies[number];
    if (accuracy === undefined) return;
    const sampled = { correct: 1000 * accuracy, total: 1000, accuracy, interval: interval(accuracy) };
    stage(`${number <= 1 ? '' : `iteration-${number - 1}/`}evaluate:M${number}`, {
      tasks: [{ name: 'task', sampled: { ...sampled, unparsable: 0, truncated: 0 } }],
    });
  };
  evaluate(0);
  evaluate(1);
  for (const [index, groups] of iterations.entries()) {
    const t = index + 1;
    const files: Record<string, object> = {};
    const ids = (text: string) => Array.from(text, (letter) => letter.codePointAt(0)!);
    const responses = ({ texts, truncated }: MadeGroup) =>
      texts.map((text) => ({ ids: ids(text), text, finishReason: truncated ? 'length' : 'stop' }));
    const put = (name: string, rows: object[]) => {
      files[`iteration-${t}/${name}`] = write(`iteration-${t}/${name}`, lines(rows));
    };
    put(
      'ranks.jsonl',
      groups.map((one) => ({
        id: one.id,
        prompt: one.prompt,
        promptIds: [1],
        ...(one.label === undefined ? {} : { label: one.label }),
        responses: responses(one),
        logprobs: one.rewards.map((reward) => -reward),
        numTokens: one.texts.map((text) => text.length),
        rewards: one.rewards,
        previousRewards: one.previousRewards,
        tau: one.tau,
        consistency: one.tau === null ? null : (one.tau + 1) / 2,
      })),
    );
    put(
      'correct.jsonl',
      groups.flatMap(({ id, correct }) => (correct ? [{ id, correct }] : [])),
    );
    const paired = groups.filter(({ tau }) => tau !== null);
    put(
      'pairs.jsonl',
      paired.map(({ id, texts, rewards, tau }) => {
        const best = rewards.indexOf(Math.max(...rewards));
        const worst = rewards.indexOf(Math.min(...rewards));
        return {
          id,
          chosen: texts[best],
          chosenIds: ids(texts[best]!),
          rejected: texts[worst],
          rejectedIds: ids(texts[worst]!),
          weight: (tau! + 1) / 2,
        };
      }),
    );
    put(
      'dropped.jsonl',
      groups.flatMap(({ id, tau }) => (tau === null ? [{ id, reason: 'policy-constant' }] : [])),
    );
    const taus = paired.map(({ tau }) => tau!);
    const tau = taus.length === 0 ? null : taus.reduce((sum, value) => sum + value, 0) / taus.length;
    const all = groups.flatMap(({ texts }) => texts);
    const right = groups.flatMap(({ correct }) => correct ?? []);
    stage(`iteration-${t}/sample:M${t}`, {
      prompts: groups.length,
      responses: all.length,
      truncatedResponses: groups
        .filter(({ truncated }) => truncated)
        .reduce((sum, { texts }) => sum + texts.length, 0),
      emptyResponses: 0,
      meanResponseTokens: all.reduce((sum, text) => sum + text.length, 0) / all.length,
    });
    const scored = made.scores?.[index];
    if (scored !== undefined) stage(`iteration-${t}/score:M${t}`, scored);
    stage(
      `iteration-${t}/rank`,
      {
        consistency: {
          mean: tau === null ? null : (tau + 1) / 2,
          interval: null,
          tau,
          nullTauDeviation: 0.491,
          nullBand: [0.25, 0.75],
          groups: taus.length,
          undefinedGroups: {},
          belowHalf: taus.filter((value) => value < 0).length,
        },
        rankingAccuracy: right.length === 0 ? null : 0.75,
        rewardCorrelation: right.length === 0 ? null : 0.5 / t,
        sampleAccuracy: right.length === 0 ? null : right.filter(Boolean).length / right.length,
      },
      files,
    );
    stage(`iteration-${t}/pair`, {
      pairs: paired.length,
      droppedGroups:
        paired.length < groups.length ? { 'policy-constant': groups.length - paired.length } : {},
      meanWeight: 0.8,
    });
    stage(`iteration-${t}/train:M${t + 1}`, { metrics: { 'rewards/margins': 0.5 * t } });
    evaluate(t + 1);
  }
  write('manifest.json', JSON.stringify({ version: 1, stages }));
  if (steps.length > 0) write('metrics.jsonl', lines(steps));
  if (made.timing !== undefined) write('metrics.csv', made.timing);
  const last = 'last' in made ? made.last : { status: 'finished' };
  const time = (second: number) => new Date(Date.UTC(2026, 0, 2, 3, 4, second)).toISOString();
  const all = [
    { type: 'run', status: 'started', directory: folder },
    { type: 'stage', status: 'started', stage: 'sample', iteration: 1, model: 'M1' },
    ...(last === undefined
      ? []
      : [{ type: 'stage', status: 'finished', stage: 'sample', iteration: 1, model: 'M1' }]),
    ...events,
    ...(last === undefined ? [] : [{ type: 'run', ...last }]),
  ];
  write('events.jsonl', lines(all.map((event, second) => ({ time: time(second), ...event }))));
  return folder;
}

/** One step of preference training as metrics.jsonl has it. */
export const step = (stream: string, number: number, metrics: Record<string, number | null> = {}) => ({
  stream,
  step: number,
  loss: 0.69,
  grad_norm: 1,
  'rewards/chosen': 0.1,
  'rewards/rejected': -0.1,
  'rewards/margins': 0.2,
  'rewards/accuracies': 0.75,
  'logps/chosen': -10,
  'logps/rejected': -12,
  'cream/weight': 0.8,
  'cream/consistency': 0.8,
  learning_rate: 1e-6,
  ...metrics,
});
