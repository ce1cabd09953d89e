import { existsSync } from 'node:fs';
import { addonPath, loadBinding } from './binding.js';
import type { NativeInfo } from './binding.js';

/** State of the compiled engine on this machine. */
export interface Installation {
  /** Where the addon is, or would be. */
  path: string;
  isBuilt: boolean;
  /** What the loaded engine says of itself; absent when it does not load. */
  info?: NativeInfo;
  /** Why it does not load. */
  problem?: unknown;
}

/** Loads the addon when it is there; never throws. */
export function inspectInstallation(): Installation {
  const path = addonPath();
  if (!existsSync(path)) return { path, isBuilt: false };
  try {
    return { path, isBuilt: true, info: loadBinding().info() };
  } catch (problem) {
    return { path, isBuilt: true, problem };
  }
}

/** True when the addon file is there; does not load it. */
export function isAddonBuilt(): boolean {
  return existsSync(addonPath());
}
