import { z } from 'zod';
import { nearest } from './nearest.js';

// What is wrong with a settings object, in words for people: "must be > 0, got -0.1".

export interface ConfigIssue {
  /** Keys from the root to the setting. */
  path: (string | number)[];
  /** Goes after the path: "must be ...", "is missing", "is unknown; did you mean ...". */
  message: string;
}

/** A value as it is shown in a message: short, and never ambiguous. */
export function show(value: unknown): string {
  const text = typeof value === 'number' || value === undefined ? String(value) : JSON.stringify(value);
  return text.length <= 60 ? text : `${text.slice(0, 57)}...`;
}

function at(input: unknown, path: readonly PropertyKey[]): unknown {
  let value = input;
  for (const key of path) value = Object(value)[key];
  return value;
}

function expectation(issue: z.core.$ZodRawIssue | z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return `must be ${{ int: 'a whole number', number: 'a number', string: 'text', boolean: 'true or false', array: 'a list', object: 'a group of settings' }[issue.expected as string] ?? issue.expected}`;
    case 'too_small':
      if (issue.origin === 'string') return 'must not be empty';
      return `must be ${issue.inclusive ? '>=' : '>'} ${issue.minimum}`;
    case 'too_big':
      return `must be ${issue.inclusive ? '<=' : '<'} ${issue.maximum}`;
    case 'invalid_value':
      return `must be ${issue.values.length > 1 ? 'one of ' : ''}${issue.values.map(String).join(', ')}`;
    default:
      return issue.message ?? 'is not valid';
  }
}

/** The keys that a group of settings knows; empty for a plain setting. */
export function knownKeys(schema: z.ZodType, path: readonly PropertyKey[]): string[] {
  let current: unknown = schema;
  const steps = [...path];
  for (;;) {
    if (
      current instanceof z.ZodPrefault ||
      current instanceof z.ZodDefault ||
      current instanceof z.ZodOptional
    ) {
      current = current.unwrap();
    } else if (current instanceof z.ZodObject) {
      if (steps.length === 0) return Object.keys(current.shape);
      const key = String(steps.shift());
      if (!Object.hasOwn(current.shape, key)) return [];
      current = current.shape[key];
    } else if (current instanceof z.ZodArray && steps.length > 0) {
      steps.shift();
      current = current.element;
    } else {
      return [];
    }
  }
}

/** Translates zod's findings; every message says what was wanted and what came. */
export function issuesOf(error: z.ZodError, schema: z.ZodType, input: unknown): ConfigIssue[] {
  return error.issues.flatMap((issue): ConfigIssue[] => {
    const path = issue.path.map((key) => (typeof key === 'number' ? key : String(key)));
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map((key) => {
        const known = knownKeys(schema, path);
        const guess = nearest(key, known);
        const advice = guess === undefined ? `known here: ${known.join(', ')}` : `did you mean ${guess}?`;
        return { path: [...path, key], message: `is unknown; ${advice}` };
      });
    }
    const value = at(input, path);
    if (value === undefined || value === null) {
      return [
        { path, message: path.length === 0 ? 'the configuration is empty: model is required' : 'is missing' },
      ];
    }
    return [{ path, message: `${expectation(issue).replace(/; .*$/, '')}, got ${show(value)}` }];
  });
}
