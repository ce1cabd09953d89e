import { ForeignValue } from './foreign-value.js';

// JSON whose numbers keep their value: one that no double equals (a whole number beyond 2^53, 1e400) becomes a
// ForeignValue in place of another number. Fractions are rounded to the nearest double, as everywhere.

/** A whole number of many digits, or an exponent of three. Texts may look so too, which costs time alone. */
const MAY_LOSE = /[:,[\s]-?\d{16,}\s*(?:[,\]}]|$)|[eE]\+?\d{3}/;
/** A text, which is passed over, or a number. */
const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
/** The only key of an object that stands for a foreign value. The NUL keeps it apart from what people write. */
const KEY = '\0foreign';

/** As JSON.parse. */
export function parseJson(text: string): unknown {
  const value: unknown = JSON.parse(text);
  return MAY_LOSE.test(text) ? JSON.parse(text.replace(TOKEN, kept), revive) : value;
}

/** A JSON text of ours, with foreign values in it, as {@link writeJson} made it. */
export const readJson = (text: string): unknown =>
  text.includes(JSON.stringify(KEY)) ? JSON.parse(text, revive) : JSON.parse(text);

/** As JSON.stringify, with foreign values in a form that {@link readJson} takes back. */
export const writeJson = (value: unknown): string => JSON.stringify(marked(value));

/** JSON.stringify would ask a foreign value for its text before a replacer sees it. */
function marked(value: unknown): unknown {
  if (value instanceof ForeignValue) return { [KEY]: [value.type, value.text] };
  if (Array.isArray(value)) return value.map(marked);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, marked(item)]));
}

function kept(token: string): string {
  if (token.startsWith('"')) return token;
  const number = Number(token);
  const isKept = Number.isFinite(number) && (!/^-?\d{16,}$/.test(token) || String(number) === token);
  return isKept ? token : writeJson(new ForeignValue('number', token));
}

function revive(_key: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, KEY)) return value;
  const [type, text] = (value as Record<string, [string, string]>)[KEY]!;
  return new ForeignValue(type, text);
}
