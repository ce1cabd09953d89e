// The tests of test/cuda on a real GPU, where its kernels run instead of their emulation.
process.env.CREAM_TEST_GPU = 'cuda';
await import('../cuda/emulated-ops.test.js');
export {};
