// The tests of the optimizer's moments on a real GPU.
import '../helpers/use-cuda.js';
import '../ops/moments.test.js';
