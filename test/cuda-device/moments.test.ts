// The tests of the optimizer's moments on a real GPU.
process.env.CREAM_TEST_GPU = 'cuda';
await import('../ops/moments.test.js');
export {};
