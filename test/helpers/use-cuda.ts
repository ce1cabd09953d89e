// Imported first by the tests in test/cuda-device: helpers/gpu.js then takes a real GPU.
process.env.CREAM_TEST_GPU ??= 'cuda';
