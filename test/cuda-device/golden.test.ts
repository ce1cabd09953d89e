import '../helpers/use-cuda.js';
import { t, whyNoGpu } from '../helpers/gpu.js';

// Losses, gradients, optimizer steps and adapters on a GPU beside PyTorch's, TRL's and PEFT's: the tests of the CPU, whose
// models are loaded on the GPU.

const GOLDENS = ['../train/golden.test.js', '../train/lora.test.js', '../model/golden.test.js'];

if (whyNoGpu() === undefined) for (const file of GOLDENS) await import(file);
else t.test('every golden of transformers, PyTorch, TRL and PEFT', async () => {});
