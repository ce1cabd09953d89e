import type { CreamConfig } from '../config.js';
import { CreamError } from '../errors.js';

type Environment = Readonly<Record<string, string | undefined>>;

/** Where the tracking server is: the setting, or MLFLOW_TRACKING_URI. Without a slash at the end. */
export function trackerAddress(
  { report }: Pick<CreamConfig, 'report'>,
  env: Environment,
): string | undefined {
  if (report.tracker === 'none') return undefined;
  return (report.trackerUrl ?? env['MLFLOW_TRACKING_URI'])?.replace(/\/+$/, '');
}

/** Throws INVALID_CONFIG when a tracker is wanted and its address is missing or of a kind that has no REST interface. */
export function checkTracker(config: Pick<CreamConfig, 'report'>, env: Environment): void {
  if (config.report.tracker === 'none') return;
  const address = trackerAddress(config, env);
  if (address === undefined || address === '') {
    throw new CreamError(
      'INVALID_CONFIG',
      'report.trackerUrl is missing: tracker: mlflow needs it, or MLFLOW_TRACKING_URI in the environment',
    );
  }
  if (!/^https?:\/\//.test(address)) {
    throw new CreamError(
      'INVALID_CONFIG',
      `MLFLOW_TRACKING_URI must be a http:// or https:// address, got ${address}; start one with: mlflow server`,
    );
  }
}
