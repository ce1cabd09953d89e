import { isDeepStrictEqual } from 'node:util';
import type { ConfigIssue } from './config-issues.js';
import { type CreamConfig, DEFAULTS } from './config-schema.js';
import { type EvaluationEntry, taskConflicts } from './config-task-conflicts.js';
import { METHODS, sourcesOf } from './methods.js';
import { scoringNeeds } from './scoring-needs.js';

/** Combinations that the types allow but that cannot work, and settings that would have no effect. */
export function configConflicts(config: CreamConfig): ConfigIssue[] {
  const issues: ConfigIssue[] = [];
  const report = (where: string, message: string) => issues.push({ path: where.split('.'), message });
  const { consistency, data, pairing, sampling, sft, train, evaluation } = config;

  if (config.iterations > 0 && data.prompts === undefined) {
    report('data.prompts', 'is missing: the preference iterations need prompts (or set iterations: 0)');
  }
  if (config.method !== undefined) {
    const differs = (where: string, actual: string, expected: readonly string[]) => {
      if (expected.includes(actual)) return;
      const meant = expected.join(' or ');
      report(where, `is ${actual}, but method: ${config.method} means ${meant}; remove one of the two`);
    };
    differs('reward.source', config.reward.source, sourcesOf(config.method));
    differs('consistency.weight', consistency.weight, [METHODS[config.method].weight]);
  }
  const { reward } = config;
  rewardConflicts(config, report);
  if (reward.source === 'module' && reward.module === undefined) {
    report('reward.module', 'is missing: source: module needs the path of a JavaScript module');
  }
  if (reward.source === 'worst-of' && config.score.previousReward === 'anchor') {
    report(
      'reward.source',
      'is worst-of, which needs the previous policy; score.previousReward: anchor leaves it out',
    );
  }
  if (reward.source !== 'module' && reward.module !== undefined) {
    report('reward.module', `has no effect with source: ${reward.source}; set source: module or remove it`);
  }
  if (consistency.weight === 'constant' && consistency.constant === undefined) {
    report('consistency.constant', 'is missing: weight: constant needs it');
  }
  if (consistency.weight !== 'constant' && consistency.constant !== undefined) {
    report(
      'consistency.constant',
      `has no effect with weight: ${consistency.weight}; set weight: constant or remove it`,
    );
  }
  if (consistency.metric === 'topOrder' && consistency.rule !== 'linear') {
    report('consistency.rule', 'has no effect with metric: topOrder, whose C is 0 or 1; remove it');
  }
  if (consistency.history !== 'previous' && config.score.previousReward === 'anchor') {
    report(
      'consistency.history',
      `must be previous with score.previousReward: anchor, which compares with M0 alone`,
    );
  }
  if (consistency.final && config.iterations === 0) {
    report('consistency.final', 'has no effect with iterations: 0; remove it');
  }
  if (pairing.ties === 'margin' && pairing.margin === undefined) {
    report('pairing.margin', 'is missing: ties: margin needs it');
  }
  if (pairing.ties !== 'margin' && pairing.margin !== undefined) {
    report('pairing.margin', `has no effect with ties: ${pairing.ties}; set ties: margin or remove it`);
  }
  if (reward.source === 'worst-of' && pairing.rejectedFrom === 'base') {
    report(
      'pairing.rejectedFrom',
      "must not be base with reward.source: worst-of, which M0's responses do not have",
    );
  }
  if (pairing.lengthBand > 0 && pairing.rejectedFrom === 'base') {
    report('pairing.lengthBand', 'cannot go with rejectedFrom: base, both choose the rejected response');
  }
  if (pairing.lengthBand > 0 && pairing.ties === 'drop') {
    report('pairing.ties', 'must not be drop with lengthBand, which decides ties by length; remove one');
  }
  if (train.lengthTerm > 0 && train.loss !== 'sigmoid' && train.loss !== 'sigmoid-norm') {
    report('train.lengthTerm', `has no effect with loss: ${train.loss}; use sigmoid or sigmoid-norm`);
  }
  for (const [name, options] of [
    ['sft', sft],
    ['train', train],
  ] as const) {
    if (options.schedule === 'constant' && options.minLearningRateRatio !== 0) {
      report(`${name}.minLearningRateRatio`, 'has no effect with schedule: constant; remove it');
    }
    if (config.lora !== undefined) {
      for (const part of ['embeddings', 'head', 'norms'] as const) {
        if (options.learningRateFactors[part] !== 1) {
          report(
            `${name}.learningRateFactors.${part}`,
            'has no effect with lora, which trains matrices of layers',
          );
        }
      }
    }
    if (options.gradientsDtype === 'bfloat16') {
      const reasons = [
        ...(config.lora === undefined ? [] : ['lora']),
        ...(config.device === 'cpu' ? ['device: cpu'] : []),
        ...(config.dtype === 'float32' ? ['dtype: float32'] : []),
      ];
      const because = reasons[0];
      if (because !== undefined) {
        report(`${name}.gradientsDtype`, `must not be bfloat16 with ${because}; use auto`);
      }
    }
  }
  if (config.score.previousReward === 'implicit' && config.iterations > 0) {
    report(
      'score.previousReward',
      'must not be implicit: at iteration 1 the previous policy is M0, whose DPO reward is 0 for everything; use auto',
    );
  }
  if (config.maxLength !== 'auto' && sampling.maxNewTokens >= config.maxLength) {
    report(
      'sampling.maxNewTokens',
      `must be less than maxLength (${config.maxLength}), got ${sampling.maxNewTokens}`,
    );
  }
  if (evaluation.samples === 0) {
    for (const key of ['temperature', 'topP'] as const) {
      if (evaluation[key] !== DEFAULTS.evaluation[key]) {
        report(`evaluation.${key}`, 'has no effect with evaluation.samples: 0; set samples or remove it');
      }
    }
  }
  const withoutEffect = (group: 'sft' | 'evaluation', because: string) => {
    for (const [key, value] of Object.entries(config[group])) {
      if (!isDeepStrictEqual(value, (DEFAULTS[group] as Record<string, unknown>)[key])) {
        report(`${group}.${key}`, `has no effect without ${because}; set that or remove this`);
      }
    }
  };
  const { report: reporting } = config;
  if (reporting.tracker === 'none') {
    for (const key of ['trackerUrl', 'experiment'] as const) {
      if (reporting[key] !== DEFAULTS.report[key]) {
        report(`report.${key}`, 'has no effect with tracker: none; set tracker: mlflow or remove it');
      }
    }
  }
  if (reporting.trackerUrl !== undefined && /\/\/[^/?#]*@/.test(reporting.trackerUrl)) {
    report(
      'report.trackerUrl',
      'must not hold a name and password, which the run would record; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD',
    );
  }
  if (data.sft === undefined) withoutEffect('sft', 'data.sft');
  if (data.evaluation.length === 0) withoutEffect('evaluation', 'data.evaluation');

  const names = data.evaluation.map((task) => task.name);
  data.evaluation.forEach((task, index) => {
    for (const { key, message } of taskConflicts(task)) report(`data.evaluation.${index}.${key}`, message);
  });
  const isWritten = ({ scoring }: EvaluationEntry) => scoring === 'generate' || scoring === 'both';
  if (data.evaluation.length > 0 && !data.evaluation.some(isWritten)) {
    for (const key of ['maxNewTokens', 'samples'] as const) {
      if (evaluation[key] !== DEFAULTS.evaluation[key]) {
        report(`evaluation.${key}`, 'has no effect where no task has scoring: generate or both; remove it');
      }
    }
  }
  names.forEach((name, index) => {
    if (name === '') report(`data.evaluation.${index}.name`, 'is missing: give the task a name, or a task');
    else if (names.indexOf(name) !== index) report(`data.evaluation.${index}.name`, `is used twice: ${name}`);
  });
  return issues;
}

/** Of a reward model, a judge, and scoring passes that are left out. */
function rewardConflicts(config: CreamConfig, report: (where: string, message: string) => void): void {
  const { reward, consistency, pairing } = config;
  if (reward.source === 'model' && reward.model === undefined) {
    report('reward.model', 'is missing: source: model needs the folder of a reward model');
  }
  if (reward.source !== 'model' && reward.model !== undefined) {
    report('reward.model', `has no effect with source: ${reward.source}; set source: model or remove it`);
  }
  if (reward.source === 'judge' && pairing.agreement === 'judge') {
    report(
      'pairing.agreement',
      'has no effect with reward.source: judge, which agrees with itself; remove it',
    );
  }
  const { judge: isJudged } = scoringNeeds(config);
  if (!isJudged) {
    for (const [key, value] of Object.entries(reward.judge)) {
      if (isDeepStrictEqual(value, (DEFAULTS.reward.judge as Record<string, unknown>)[key])) continue;
      report(
        `reward.judge.${key}`,
        'has no effect without a judge; set reward.source: judge or pairing.agreement: judge, or remove it',
      );
    }
  }
  if (reward.judge.minReadable > reward.judge.samples) {
    report(
      'reward.judge.minReadable',
      `must be at most reward.judge.samples (${reward.judge.samples}), got ${reward.judge.minReadable}`,
    );
  }
  if (isJudged && config.maxLength !== 'auto' && reward.judge.maxNewTokens >= config.maxLength) {
    report(
      'reward.judge.maxNewTokens',
      `must be less than maxLength (${config.maxLength}), got ${reward.judge.maxNewTokens}`,
    );
  }
  if (consistency.measure) return;
  const wants = [
    ...(consistency.weight === 'dataset' || consistency.weight === 'sample'
      ? [`consistency.weight: ${consistency.weight}`]
      : []),
    ...(consistency.minConsistency > 0 ? ['consistency.minConsistency'] : []),
    ...(consistency.history === 'previous' ? [] : [`consistency.history: ${consistency.history}`]),
    ...(consistency.final ? ['consistency.final'] : []),
  ];
  if (wants.length > 0) {
    report('consistency.measure', `must not be false with ${wants.join(', ')}, which needs the consistency`);
  }
}
