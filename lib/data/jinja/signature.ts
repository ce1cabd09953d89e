import { typeError } from './errors.js';
import type { Kwargs, Value } from './values.js';

/** A built-in function: its arguments in order of the signature, undefined for those that are not given. */
export type Builtin<Self extends unknown[]> = (...args: [...Self, ...(Value | undefined)[]]) => Value;

interface Parameter {
  name: string;
  isRequired: boolean;
  isPositionalOnly: boolean;
}

/**
 * The parameters of a built-in function in short: "sep= maxsplit=" names two that may be left out, "old new" two that
 * may not, and those in front of "/" are given by position only.
 */
export function parseSignature(signature: string): readonly Parameter[] {
  const words = signature.split(' ').filter((word) => word !== '');
  const slash = words.indexOf('/');
  return words
    .filter((word) => word !== '/')
    .map((word, i) => ({
      name: word.replace('=', ''),
      isRequired: !word.endsWith('='),
      isPositionalOnly: i < slash,
    }));
}

/** Arguments of a call in the order of the parameters. */
export function bind(
  name: string,
  parameters: readonly Parameter[],
  args: readonly Value[],
  kwargs: Kwargs,
): (Value | undefined)[] {
  if (args.length > parameters.length) {
    throw typeError(`${name}() takes at most ${parameters.length} arguments (${args.length} given)`);
  }
  const bound: (Value | undefined)[] = [...args];
  if (kwargs.size === 0 && args.length === parameters.length) return bound;
  let taken = 0;
  for (const [i, parameter] of parameters.entries()) {
    const named = parameter.isPositionalOnly ? undefined : kwargs.get(parameter.name);
    if (named !== undefined) {
      if (i < args.length) throw typeError(`${name}() got multiple values for argument '${parameter.name}'`);
      bound[i] = named;
      taken += 1;
    }
    if (parameter.isRequired && bound[i] === undefined) {
      throw typeError(`${name}() missing required argument '${parameter.name}'`);
    }
  }
  if (taken < kwargs.size) {
    const known = new Set(parameters.filter((p) => !p.isPositionalOnly).map((p) => p.name));
    const unknown = [...kwargs.keys()].find((key) => !known.has(key));
    throw typeError(`${name}() got an unexpected keyword argument '${unknown}'`);
  }
  return bound;
}
