// The tests of test/cuda on a real GPU, where its kernels run instead of their emulation.
import '../helpers/use-cuda.js';
import '../cuda/emulated-slots.test.js';
