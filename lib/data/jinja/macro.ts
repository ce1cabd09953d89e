import type { SpecialName } from './ast.js';
import { typeError } from './errors.js';
import type { Evaluate } from './expressions.js';
import { Output, spend } from './limits.js';
import { repr } from './print.js';
import { Scope } from './scope.js';
import type { Symbols } from './symbols.js';
import { Dict, type Kwargs, PyObject, Tuple, Undefined, type Value } from './values.js';

export interface CompiledMacro {
  name: string | null;
  parameters: readonly string[];
  /** Of the last parameters. */
  defaults: readonly Evaluate[];
  /** Of `caller`, `kwargs` and `varargs`, what the body reads. */
  uses: ReadonlySet<SpecialName>;
  symbols: Symbols;
  body: (scope: Scope, out: Output) => unknown;
}

/** A macro, or the body of a call block, with the scope in which it was defined. */
export class Macro extends PyObject {
  readonly typeName = 'Macro';
  readonly #macro: CompiledMacro;
  readonly #scope: Scope;

  constructor(macro: CompiledMacro, scope: Scope) {
    super();
    this.#macro = macro;
    this.#scope = scope;
  }

  override call(args: readonly Value[], kwargs: Kwargs): string {
    spend();
    const { parameters, uses, body, symbols } = this.#macro;
    const scope = new Scope(this.#scope, symbols);
    const rest = new Map(kwargs);
    const given = new Map<string, Value>();
    for (const [i, name] of parameters.entries()) {
      const value = i < args.length ? args[i] : rest.get(name);
      if (i >= args.length) rest.delete(name);
      if (value !== undefined) given.set(name, value);
    }
    if (uses.has('caller') && !parameters.includes('caller')) {
      const caller = rest.get('caller');
      rest.delete('caller');
      scope.set(
        'caller',
        caller === undefined || caller === null ? new Undefined('No caller defined') : caller,
      );
    }
    if (uses.has('kwargs') && !parameters.includes('kwargs')) scope.set('kwargs', Dict.of(rest));
    else if (rest.size > 0) {
      throw typeError(`macro ${this.#label()} takes no keyword argument '${[...rest.keys()][0]}'`);
    }
    if (uses.has('varargs') && !parameters.includes('varargs')) {
      scope.set('varargs', new Tuple(args.slice(parameters.length)));
    } else if (args.length > parameters.length) {
      throw typeError(`macro ${this.#label()} takes not more than ${parameters.length} argument(s)`);
    }
    this.#bind(scope, given);
    const out = new Output();
    body(scope, out);
    return out.text;
  }

  /** Defaults may refer to the parameters in front of them, and to every one that is given. */
  #bind(scope: Scope, given: ReadonlyMap<string, Value>): void {
    const { parameters, defaults } = this.#macro;
    for (const [name, value] of given) scope.set(name, value);
    for (const [i, name] of parameters.entries()) {
      if (given.has(name)) continue;
      const byDefault = defaults[i - (parameters.length - defaults.length)];
      scope.set(name, byDefault === undefined ? notProvided(name) : byDefault(scope));
    }
  }

  #label(): string {
    return this.#macro.name === null ? 'None' : repr(this.#macro.name);
  }

  override isCallable(): boolean {
    return true;
  }

  override attribute(name: string): Value | undefined {
    const { parameters, uses } = this.#macro;
    switch (name) {
      case 'name':
        return this.#macro.name;
      case 'arguments':
        return new Tuple([...parameters]);
      case 'catch_kwargs':
        return uses.has('kwargs') && !parameters.includes('kwargs');
      case 'catch_varargs':
        return uses.has('varargs') && !parameters.includes('varargs');
      case 'caller':
        return uses.has('caller');
      case 'explicit_caller':
        return parameters.includes('caller');
      default:
        return undefined;
    }
  }

  override print(): string {
    return `<Macro ${this.#macro.name === null ? 'anonymous' : repr(this.#macro.name)}>`;
  }
}

const notProvided = (name: string) => new Undefined(`parameter '${name}' was not provided`);
