import { type CreamConfig, checkConfig } from '../config.js';

/** The defaults of a run hold for the stage commands too; the config schema is the only place that knows them. */
export function defaultConfig(): CreamConfig {
  const checked = checkConfig({ model: '.', iterations: 0 });
  if ('issues' in checked) throw new Error(checked.issues.map(({ message }) => message).join());
  return checked.config;
}
