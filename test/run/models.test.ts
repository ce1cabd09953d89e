import t from 'tap';
import type { Model } from '../../lib/native/model.js';
import { Models } from '../../lib/run/models.js';

// Where the models of a run are, by stand-ins that count: on a GPU of 100 bytes.

function gpu(numParameters: number, { size = 100, host = 1000 } = {}) {
  const log: string[] = [];
  let used = 0;
  const bytes = 2 * numParameters;
  const warnings: string[] = [];
  const load = async (folder: string) => {
    log.push(`load ${folder}`);
    return make(folder, true);
  };
  const make = (folder: string, isResident: boolean): Model => {
    let isHere = isResident;
    if (isHere) used += bytes;
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
      snapshot: async ({ on }: { on: 'device' | 'host' }) => {
        log.push(`copy ${folder} to the ${on}`);
        return make(`copy of ${folder}`, on === 'device');
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
    hostMemory: async () => host,
    warn: (code) => warnings.push(code),
  });
  const score = async (...numbers: number[]) => {
    for (const number of numbers) await models.borrow(number, async () => log.push(`score M${number}`));
  };
  return { models, score, take: () => log.splice(0), used: () => used, warnings };
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

/** An iteration's passes, then training. */
async function iterate({ models, score }: ReturnType<typeof gpu>, t: number): Promise<void> {
  await models.policy(t);
  await score(t, ...(t > 1 ? [t - 1] : []), 0);
  await models.policy(t);
  await models.keepPolicy();
  models.becomes(t + 1);
}

t.test('a policy that was copied before its training is never read again', async (t) => {
  const run = gpu(17);
  await run.models.policy(0);
  await run.models.keepPolicy();
  run.models.becomes(1);
  await iterate(run, 1);
  t.strictSame(run.take(), [
    'load M0',
    'copy M0 to the host',
    'score M1',
    'onload copy of M0',
    'score M0',
    'offload copy of M0',
    'copy M0 to the host', // which is M1 now
  ]);
  t.equal(run.used(), 34, "the GPU is the policy's alone while it is trained");
  await iterate(run, 2);
  t.strictSame(run.take(), [
    'score M2',
    'onload copy of M0', // M1
    'score M1',
    'offload copy of M0',
    'onload copy of M0',
    'score M0',
    'offload copy of M0',
    'dispose copy of M0', // M1: the next previous policy is M2
    'copy M0 to the host',
  ]);
  t.strictSame(run.warnings, []);
  run.models.release();
  t.equal(run.used(), 0);
});

t.test('small models are copied on the GPU', async (t) => {
  const run = gpu(1);
  await run.models.policy(1);
  await run.models.keepPolicy();
  run.models.becomes(2);
  await run.models.policy(2);
  await run.score(1);
  t.strictSame(run.take(), ['load M1', 'copy M1 to the device', 'score M1']);
});

t.test('without room in host memory a model is read again, and the run says so', async (t) => {
  const run = gpu(17, { host: 39 });
  await iterate(run, 1);
  await run.models.policy(2);
  await run.score(1);
  t.strictSame(run.take(), [
    'load M1',
    'score M1',
    'load M0',
    'score M0',
    'dispose M0',
    'load M1',
    'score M1',
  ]);
  t.strictSame(run.warnings, ['host-memory', 'host-memory']);
});

t.test('the previous adapter is kept, on the CPU too', async (t) => {
  const log: string[] = [];
  const adapter = (name: string): object => ({
    snapshot: async () => {
      log.push(`copy ${name}`);
      return adapter(`copy of ${name}`);
    },
    dispose: () => log.push(`dispose ${name}`),
  });
  const models = new Models({
    directoryOf: (number) => `M${number}`,
    load: async (folder) =>
      ({
        addAdapter: async () => adapter('new'),
        loadAdapter: async (name: string) => adapter(name),
        dispose: () => log.push(`dispose ${folder}`),
      }) as unknown as Model,
    lora: { rank: 1, alpha: 1, dropout: 0, rankStabilized: false, targetModules: ['q_proj'] },
    seed: 0,
  });
  await models.policy(0);
  await models.keepPolicy(); // M0 is the base, which stays
  models.becomes(1);
  await models.keepPolicy();
  models.becomes(2);
  await models.borrow(1, async () => log.push('score M1'));
  await models.policy(2);
  await models.keepPolicy();
  models.becomes(3);
  await models.borrow(2, async () => log.push('score M2'));
  t.strictSame(log, ['copy new', 'score M1', 'dispose copy of new', 'copy new', 'score M2']);
  models.release();
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
