import t from 'tap';
import type { Model } from '../../lib/native/model.js';
import { Models } from '../../lib/run/models.js';

// Where the models of a run are, by stand-ins that count: on a GPU of 100 bytes.

function gpu(numParameters: number, size = 100) {
  const log: string[] = [];
  let used = 0;
  const bytes = 2 * numParameters;
  const load = async (folder: string) => {
    log.push(`load ${folder}`);
    used += bytes;
    let isHere = true;
    const model = {
      numParameters,
      dtype: 'bfloat16',
      folder,
      offload: async () => {
        log.push(`offload ${folder}`);
        used -= bytes;
        isHere = false;
        return 0.5;
      },
      onload: async () => {
        log.push(`onload ${folder}`);
        used += bytes;
        isHere = true;
        return 0.25;
      },
      dispose: () => {
        log.push(`dispose ${folder}`);
        if (isHere) used -= bytes;
      },
    };
    return model as unknown as Model;
  };
  const models = new Models({
    directoryOf: (number) => `M${number}`,
    load,
    seed: 0,
    gpuMemory: async () => ({ free: size - used, total: size }),
  });
  const score = async (...numbers: number[]) => {
    for (const number of numbers) await models.borrow(number, async () => log.push(`score M${number}`));
  };
  return { models, score, take: () => log.splice(0), used: () => used };
}

t.test('models that fit together are loaded once and never move', async (t) => {
  const { models, score, take } = gpu(1);
  await models.policy(1);
  await score(1, 0);
  await models.policy(1);
  models.becomes(2);
  await score(2, 0, 1);
  await models.policy(2);
  await score(0);
  t.strictSame(take(), [
    'load M1',
    'score M1',
    'load M0',
    'score M0',
    'score M2',
    'score M0',
    'load M1',
    'score M1',
    'score M0',
  ]);
  t.equal(models.takeMovedSeconds(), 0);
});

t.test('large ones leave the GPU to sampling and training, and come back for their pass', async (t) => {
  const { models, score, take, used } = gpu(17);
  await models.policy(1);
  await score(0);
  take();
  await models.policy(1);
  t.strictSame(take(), ['offload M0'], 'before training');
  t.equal(used(), 34);
  models.becomes(2);
  await score(2, 0, 1);
  t.strictSame(take(), [
    'score M2',
    'onload M0',
    'score M0',
    'offload M0',
    'load M1',
    'score M1', // 68 of 100 are taken: no room for a third
  ]);
  t.equal(models.takeMovedSeconds(), 1.25);
  t.equal(models.takeMovedSeconds(), 0);
  models.release();
  t.equal(take().length, 3, 'all three are disposed of');
  t.equal(used(), 0);
});

t.test('the previous policy of an earlier pass goes', async (t) => {
  const { models, score, take } = gpu(1);
  await models.policy(3);
  await score(0, 2, 1);
  t.strictSame(take(), [
    'load M3',
    'load M0',
    'score M0',
    'load M2',
    'score M2',
    'dispose M2',
    'load M1',
    'score M1',
  ]);
});

t.test('on the CPU a borrowed model is released after its pass', async (t) => {
  const log: string[] = [];
  const models = new Models({
    directoryOf: (number) => `M${number}`,
    load: async (folder) => {
      log.push(`load ${folder}`);
      return { dispose: () => log.push(`dispose ${folder}`) } as unknown as Model;
    },
    seed: 0,
  });
  await models.policy(1);
  await models.borrow(0, async () => log.push('score M0'));
  t.strictSame(log, ['load M1', 'load M0', 'score M0', 'dispose M0']);
});
