import tap, { type Test } from 'tap';
import { loadBinding } from '../../lib/native/binding.js';

/**
 * Where the tests of the GPU's path run: `emulated`, or `cuda` when test/cuda-device imports them. A build is for one of
 * the two.
 */
export const GPU = process.env.CREAM_TEST_GPU ?? 'emulated';

/** Why tests on that device cannot run here; undefined when they can. */
export function whyNoGpu(device = GPU): string | undefined {
  const binding = loadBinding();
  const { cuda } = binding.info();
  if (device === 'cpu') return undefined;
  if (device === 'emulated') {
    return cuda ? 'this build has the kernels for the GPU itself: npm run test:cuda' : undefined;
  }
  const { gpus, problem } = binding.devices();
  if (gpus.length > 0) return undefined;
  return `there is no GPU to test on: ${problem ?? 'none is visible'}`;
}

/** Why kernels that copy in bulk (compute capability 9.0) cannot run on that device; undefined when they can. */
function whyNoBulkCopies(): string | undefined {
  const missing = whyNoGpu();
  if (missing !== undefined || GPU !== 'cuda') return missing;
  const [gpu] = loadBinding().devices().gpus;
  return Number(gpu!.computeCapability) >= 9 ? undefined : `${gpu!.name} has no bulk copies`;
}

const testUnless = (skip: string | undefined) => (name: string, body: (t: Test) => Promise<void>) =>
  void tap.test(name, skip === undefined ? {} : { skip }, body);

/** tap's `t` whose tests are skipped, with the reason, where the device cannot be used. */
export const t = { test: testUnless(whyNoGpu()) };
/** The same for what needs bulk copies. */
export const bulk = { test: testUnless(whyNoBulkCopies()) };
