import { pathToFileURL } from 'node:url';
import { CreamError } from '../errors.js';
import type { RewardFunction } from '../stages/reward.js';

/** The function that a user's module exports by default. Throws REWARD_FAILED with the path. */
export async function loadRewardModule(path: string): Promise<RewardFunction> {
  let module: { default?: unknown };
  try {
    module = (await import(pathToFileURL(path).href)) as { default?: unknown };
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new CreamError('REWARD_FAILED', `reward.module ${path} does not load: ${reason}`, { cause });
  }
  if (typeof module.default !== 'function') {
    throw new CreamError(
      'REWARD_FAILED',
      `reward.module ${path} must export a function by default, got ${typeof module.default}`,
    );
  }
  return module.default as RewardFunction;
}
