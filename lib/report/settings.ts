import { stringify } from 'yaml';
import { settings } from '../config-docs.js';
import { isFields } from './lines.js';
import type { SettingRow } from './types.js';

const asText = (value: unknown): string =>
  typeof value === 'string'
    ? value
    : stringify(value, { collectionStyle: 'flow', lineWidth: 0 })
        .trimEnd()
        .replaceAll(/\s*\n\s*/g, ' ');

/** Settings by dotted name, lists whole. */
function flatten(value: unknown, path: string, into: Map<string, unknown>): Map<string, unknown> {
  if (isFields(value)) {
    for (const [key, inner] of Object.entries(value))
      flatten(inner, path === '' ? key : `${path}.${key}`, into);
  } else if (value !== undefined) {
    into.set(path, value);
  }
  return into;
}

/** Every setting of a run with where its value comes from; `origins` is what run.json recorded. */
export function settingRows(config: unknown, origins: unknown): SettingRow[] {
  const known = new Map(settings().map((setting) => [setting.path.join('.'), setting]));
  const recorded = isFields(origins) ? origins : {};
  const order = [...known.keys()];
  const place = (name: string) => (order.includes(name) ? order.indexOf(name) : order.length);
  return [...flatten(config, '', new Map())]
    .toSorted(([a], [b]) => place(a) - place(b))
    .map(([name, value]) => {
      const setting = known.get(name);
      const text = asText(value);
      const standard = setting?.default === undefined ? undefined : asText(setting.default);
      const isStandard = standard === text;
      const found = Object.hasOwn(recorded, name) ? recorded[name] : undefined;
      // A program often passes settings that it completed before.
      const isGiven = typeof found === 'string' && !(isStandard && found === 'program');
      const origin = isGiven ? found : isStandard ? 'default' : 'not recorded';
      return { name, value: text, origin, ...(isStandard || standard === undefined ? {} : { standard }) };
    });
}
