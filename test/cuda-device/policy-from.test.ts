// The tests of test/cuda on a real GPU.
import '../helpers/use-cuda.js';
import '../cuda/emulated-policy-from.test.js';
