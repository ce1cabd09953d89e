import type { CreamConfig } from './config-schema.js';
import { definitionOf } from './data/task-definitions.js';

export type EvaluationEntry = CreamConfig['data']['evaluation'][number];

/** What cannot work, or would have no effect, in one entry of data.evaluation. */
export function taskConflicts(entry: EvaluationEntry): { key: string; message: string }[] {
  const { task, scoring, extract, maxNewTokens, stop, fewShot } = entry;
  const definition = definitionOf(task);
  const isHarness = scoring === 'harness';
  const isWritten = scoring === 'generate' || scoring === 'both' || definition?.answer === 'number';
  const found: { key: string; message: string }[] = [];
  const idle = (key: string, isSet: boolean, hasEffect: boolean, where: string) => {
    if (isSet && !hasEffect) found.push({ key, message: `has no effect ${where}; remove it` });
  };
  if (definition?.answer === 'number' && (scoring === 'options' || scoring === 'both')) {
    found.push({
      key: 'scoring',
      message: `must be generate or harness for ${task}, which has no options; it is ${scoring}`,
    });
  }
  if (isHarness && definition === undefined) {
    found.push({ key: 'task', message: 'is missing: scoring: harness is for the tasks that have a name' });
  }
  idle('maxNewTokens', maxNewTokens !== undefined, isWritten, 'where no answer is written');
  idle(
    'stop',
    stop.length > 0,
    isWritten && !isHarness,
    isHarness ? 'with scoring: harness, which has its own' : 'where no answer is written',
  );
  idle('extract', extract !== 'auto', !isHarness, 'with scoring: harness, which has its own filters');
  idle('fewShot', fewShot !== undefined, isHarness, 'without scoring: harness');
  if (isHarness && definition !== undefined) {
    const shots = fewShot?.n ?? definition.harness.shots;
    if (shots > 0 && fewShot?.path === undefined) {
      const message = `is missing: the harness asks ${definition.title} with ${shots} examples; give the training split, or set fewShot.n: 0`;
      found.push({ key: 'fewShot.path', message });
    }
    idle('fewShot.path', fewShot?.path !== undefined, shots > 0, 'without examples: set fewShot.n');
  }
  return found;
}
