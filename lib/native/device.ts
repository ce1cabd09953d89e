import { type NativeDeviceMemory, loadBinding } from './binding.js';
import { native } from './call.js';

export type { NativeDeviceMemory as DeviceMemory } from './binding.js';

let best: string | undefined;

/** The device that `auto` stands for: the first GPU that this build can use, else the CPU. */
export function resolveDevice(device = 'auto'): string {
  if (device !== 'auto') return device;
  if (best === undefined) {
    const binding = loadBinding();
    best = binding.info().cuda && binding.devices().gpus.length > 0 ? 'cuda' : 'cpu';
  }
  return best;
}

/** Memory of a device, after the work before it. `resetPeak` begins a new measurement of the peak. */
export async function deviceMemory(device: string, { resetPeak = false } = {}): Promise<NativeDeviceMemory> {
  return native(() => loadBinding().deviceMemory(resolveDevice(device), resetPeak));
}
