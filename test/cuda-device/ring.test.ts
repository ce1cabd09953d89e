// The tests of test/cuda on a real GPU.
import '../helpers/use-cuda.js';
import '../cuda/emulated-ring.test.js';
