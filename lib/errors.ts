/** Stable codes of {@link CreamError}. The exit code of the command line follows from the code. */
export type ErrorCode =
  | 'USAGE' // the command line is wrong
  | 'INVALID_CONFIG' // a setting is unknown, of the wrong type or out of range
  | 'INVALID_ARGUMENT' // a function of the API or the addon was called with a wrong value
  | 'ENVIRONMENT' // the addon, LibTorch, a device or another part of the installation is missing or unusable
  | 'INVALID_CHECKPOINT' // a model folder cannot be used
  | 'INVALID_DATA' // a data file cannot be used
  | 'MISSING_SCORES' // a record lacks what a later stage needs
  | 'REWARD_FAILED' // a user's reward function threw or returned something else than rewards
  | 'NO_PAIRS' // an iteration produced no usable preference pair
  | 'DIVERGED' // loss or gradients stayed non-finite, or step 0 did not start at log 2
  | 'RUN_MISMATCH' // resuming with another config, data set or model
  | 'RUN_LOCKED' // another process works in the run folder
  | 'RUN_CORRUPT' // a file of a run folder does not have its recorded digest
  | 'IO' // the file system refused
  | 'OUT_OF_MEMORY'
  | 'TORCH' // LibTorch failed
  | 'NATIVE' // the addon failed
  | 'ENGINE_LOST' // the engine process died
  | 'ABORTED'; // an AbortSignal or SIGINT

/** Exit codes: 1 failure, 2 usage or config, 3 environment, 4 data, 5 diverged, 130 interrupted. */
export const EXIT_CODES: Readonly<Record<ErrorCode, number>> = {
  USAGE: 2,
  INVALID_CONFIG: 2,
  INVALID_ARGUMENT: 2,
  ENVIRONMENT: 3,
  INVALID_CHECKPOINT: 4,
  INVALID_DATA: 4,
  MISSING_SCORES: 4,
  REWARD_FAILED: 4,
  NO_PAIRS: 4,
  DIVERGED: 5,
  RUN_MISMATCH: 2,
  RUN_LOCKED: 1,
  RUN_CORRUPT: 4,
  IO: 1,
  OUT_OF_MEMORY: 3,
  TORCH: 1,
  NATIVE: 1,
  ENGINE_LOST: 1,
  ABORTED: 130,
};

/** The only error that this package throws on purpose. The message says what, which value, where, what to do. */
export class CreamError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'CreamError';
    this.code = code;
  }
}

/** True for an error whose `code` is one of {@link ErrorCode}, also across realms and processes. */
export function isCreamError(error: unknown): error is CreamError {
  return error instanceof Error && error.name === 'CreamError' && 'code' in error;
}
