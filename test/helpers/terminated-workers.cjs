'use strict';
// Starts workers that keep the engine busy and terminates each after 0 to 22 ms. Arguments: the addon, how many.

const { isMainThread, parentPort, Worker, workerData } = require('node:worker_threads');
const { setTimeout: sleep } = require('node:timers/promises');

const CONFIG = {
  vocabSize: 64,
  hiddenSize: 32,
  intermediateSize: 64,
  numLayers: 2,
  numHeads: 4,
  numKvHeads: 4,
  headDim: 8,
  maxPositionEmbeddings: 64,
  rmsNormEps: 1e-5,
  ropeTheta: 1e4,
  ropeScaling: 'none',
  ropeFactor: 1,
  ropeLowFreqFactor: 1,
  ropeHighFreqFactor: 4,
  ropeOriginalMaxPositionEmbeddings: 64,
  qkvBias: false,
  oBias: false,
  mlpBias: false,
  qkNorm: false,
  tieWordEmbeddings: false,
  slidingWindow: [0, 0],
};

async function terminateAll(addon, count) {
  for (let i = 0; i < count; i++) {
    const worker = new Worker(__filename, { workerData: addon });
    await new Promise((resolve) => worker.once('message', resolve));
    await sleep((7 * i) % 23);
    await worker.terminate();
  }
  console.log(`terminated ${count}`);
}

async function keepBusy(addon) {
  const binding = require(addon);
  binding.setThreads(1);
  const model = await binding.randomModel({ config: CONFIG, seed: 1n, dtype: 'float32', device: 'cpu' });
  const prompts = [{ ids: Int32Array.of(1, 2), key: 1n }];
  const options = {
    numSamples: 64,
    maxNewTokens: 3,
    temperature: 1,
    topP: 1,
    topK: 0,
    stopIds: Int32Array.of(),
    seed: 1n,
    maxLiveTokens: 0,
    maxLiveSequences: 0,
  };
  const groups = [{ promptIds: Int32Array.of(1), responses: [Int32Array.of(1, 2)] }];
  parentPort.postMessage('busy');
  for (;;) {
    await model.generate(prompts, options, () => {}, binding.cancelToken());
    await model.score(groups, { maxTokensPerBatch: 0, perToken: false }, binding.cancelToken());
  }
}

if (isMainThread) void terminateAll(process.argv[2], Number(process.argv[3]));
else void keepBusy(workerData);
