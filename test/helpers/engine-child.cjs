'use strict';
// A process (or worker) that ends while the engine works. argv: addon, what to do, how to end, delay in ms, dtype.

const { Worker, isMainThread, workerData, parentPort } = require('node:worker_threads');
const [addon, work, ending, delayMs, dtype = 'float32'] = isMainThread ? process.argv.slice(2) : workerData;
const { reallyExit } = process;
const binding = require(addon);

const config = {
  vocabSize: 2048,
  hiddenSize: 256,
  intermediateSize: 512,
  numLayers: 4,
  numHeads: 8,
  numKvHeads: 4,
  headDim: 32,
  maxPositionEmbeddings: 4096,
  rmsNormEps: 1e-5,
  ropeTheta: 10000,
  ropeScaling: 'none',
  ropeFactor: 1,
  ropeLowFreqFactor: 1,
  ropeHighFreqFactor: 4,
  ropeOriginalMaxPositionEmbeddings: 4096,
  qkvBias: false,
  oBias: false,
  mlpBias: false,
  qkNorm: false,
  tieWordEmbeddings: false,
  slidingWindow: [0, 0, 0, 0],
};
const ids = Int32Array.from({ length: 512 }, (_, i) => (i * 31) % 2048);

async function start() {
  const model = await binding.randomModel({ config, seed: 1n, dtype, device: 'cpu' });
  const token = binding.cancelToken();
  const works = {
    generate: () =>
      model.generate(
        Array.from({ length: 8 }, (_, i) => ({ ids: ids.slice(0, 8), key: BigInt(i) })),
        {
          numSamples: 8,
          maxNewTokens: 2000,
          temperature: 1,
          topP: 0.9,
          topK: 0,
          stopIds: Int32Array.of(),
          seed: 1n,
          maxLiveTokens: 0,
          maxLiveSequences: 0,
        },
        () => {},
        token,
      ),
    score: () =>
      model.score(
        Array.from({ length: 200 }, () => ({ promptIds: ids, responses: [ids, ids] })),
        { maxTokensPerBatch: 4096, perToken: false },
        token,
      ),
    train: async () => {
      const trainer = await model.createTrainer({
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weightDecay: 0,
        maxGradNorm: 1,
      });
      const batch = Array.from({ length: 16 }, () => ({ promptIds: ids, responseIds: ids }));
      for (let step = 0; step < 100; step++) await trainer.sftStep(batch, 1e-3, 2048, token);
    },
    // Calls that are queued, not running.
    queue: () => Promise.all(Array.from({ length: 50 }, () => works.score())),
  };
  works[work]().then(
    () => process.stdout.write('the work ended\n'),
    () => {},
  );
}

const endings = {
  exit: () => process.exit(7),
  throw: () => {
    throw new Error('uncaught');
  },
  reject: () => void Promise.reject(new Error('unhandled')),
  reallyExit: () => process.reallyExit(7),
  // As it was before the addon came: nobody tells the engine.
  'original-exit': () => reallyExit.call(process, 7),
  'exit-in-exit': () => {
    process.on('exit', () => process.exit(7));
    process.exit(3);
  },
  kill: () => process.kill(process.pid, 'SIGTERM'),
};

async function main() {
  if (ending === 'terminate' || ending === 'worker-exit') {
    const worker = new Worker(__filename, {
      workerData: [addon, work, ending === 'terminate' ? 'none' : 'exit', delayMs, dtype],
    });
    worker.on('message', () => {
      if (ending === 'terminate') setTimeout(() => void worker.terminate(), Number(delayMs));
    });
    worker.on('exit', async () => {
      // The engine still serves this thread.
      await binding.randomModel({ config, seed: 1n, dtype: 'float32', device: 'cpu' });
      process.exit(7);
    });
    return;
  }
  await start();
  parentPort?.postMessage('started');
  const end = endings[ending];
  if (end !== undefined) setTimeout(() => end(), Number(delayMs));
}

void main();
