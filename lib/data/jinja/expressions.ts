import type { Arguments, Expression } from './ast.js';
import { callTextMethod, getAttribute, getItem } from './attributes.js';
import { isConstant } from './constants.js';
import { notSupported, TemplateError, typeError } from './errors.js';
import { applyFilter, isFilterName } from './filters.js';
import { isNegative, percentFormat } from './format.js';
import { spend } from './limits.js';
import { int } from './numbers.js';
import { binary, compareBy, negate, positive } from './operators.js';
import { str } from './print.js';
import type { Scope } from './scope.js';
import { applyTest, isTestName } from './tests.js';
import {
  Dict,
  Float,
  isNumber,
  isTrue,
  type Kwargs,
  listOf,
  Markup,
  PyObject,
  Slice,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from './values.js';

// Compiles expressions to functions of the scope.

export type Evaluate = (scope: Scope) => Value;

/** Of constants, which read no names. */
const NO_SCOPE = undefined as unknown as Scope;
const NO_KWARGS: Kwargs = new Map();

export function callValue(callee: Value, args: readonly Value[], kwargs: Kwargs): Value {
  spend();
  if (callee instanceof PyObject) return callee.call(args, kwargs);
  if (callee instanceof Undefined) return callee.fail();
  throw typeError(`'${typeName(callee)}' object is not callable`);
}

export interface CompiledArguments {
  args: (scope: Scope) => Value[];
  kwargs: (scope: Scope) => Kwargs;
}

const NOT_FOLDED: ReadonlySet<Expression['kind']> = new Set<Expression['kind']>([
  'integer',
  'float',
  'string',
  'constant',
  'name',
  'list',
  'tuple',
  'dict',
  'slice',
]);

/** A constant dict whose keys Python refuses is an error where it is not reached too: Jinja2's compiler makes it. */
function checkKeys(make: Evaluate): void {
  try {
    make(NO_SCOPE);
  } catch (error) {
    if (error instanceof TemplateError && error.message.startsWith('TypeError: unhashable type')) throw error;
  }
}

export class ExpressionCompiler {
  /** Inside an `if` an unknown filter or test is an error only when it is reached. */
  isSoft = false;
  /** Inside an operation Jinja2's compiler works constants out. */
  #isFolded = false;

  softly<T>(compile: () => T, isSoft = true): T {
    const before = this.isSoft;
    this.isSoft = isSoft;
    const result = compile();
    this.isSoft = before;
    return result;
  }

  arguments({ args, kwargs, dynArgs, dynKwargs }: Arguments): CompiledArguments {
    const positional = args.map((arg) => this.expression(arg));
    const more = dynArgs === undefined ? undefined : this.expression(dynArgs);
    const named = kwargs.map(([name, value]) => [name, this.expression(value)] as const);
    const moreNamed = dynKwargs === undefined ? undefined : this.expression(dynKwargs);
    return {
      args: (scope) => {
        const values = positional.map((evaluate) => evaluate(scope));
        if (more !== undefined) for (const value of listOf(more(scope))) values.push(value);
        return values;
      },
      kwargs: (scope) => {
        if (named.length === 0 && moreNamed === undefined) return NO_KWARGS;
        const values = new Map<string, Value>();
        for (const [name, evaluate] of named) values.set(name, evaluate(scope));
        if (moreNamed !== undefined) {
          const given = moreNamed(scope);
          if (!(given instanceof Dict)) throw typeError('argument after ** must be a mapping');
          for (const [name, value] of given.entries()) {
            if (name instanceof Markup) throw notSupported('safe text as the name of an argument');
            if (typeof name !== 'string') throw typeError('keywords must be strings');
            if (values.has(name)) throw typeError(`got multiple values for keyword argument '${name}'`);
            values.set(name, value);
          }
        }
        return values;
      },
    };
  }

  expression(node: Expression): Evaluate {
    const before = this.#isFolded;
    this.#isFolded ||= !NOT_FOLDED.has(node.kind);
    const evaluate = this.#compile(node);
    this.#isFolded = before;
    return evaluate;
  }

  #compile(node: Expression): Evaluate {
    switch (node.kind) {
      case 'integer': {
        const value = int(BigInt(node.value));
        return () => value;
      }
      case 'float': {
        const value = new Float(Number(node.value));
        return () => value;
      }
      case 'string':
      case 'constant': {
        const { value } = node;
        return () => value;
      }
      case 'name': {
        const { name } = node;
        return (scope) => {
          const value = scope.get(name);
          return value === undefined ? new Undefined(`'${name}' is undefined`) : value;
        };
      }
      case 'list': {
        const items = node.items.map((item) => this.expression(item));
        return (scope) => items.map((evaluate) => evaluate(scope));
      }
      case 'tuple': {
        const items = node.items.map((item) => this.expression(item));
        return (scope) => new Tuple(items.map((evaluate) => evaluate(scope)));
      }
      case 'dict': {
        const items = node.items.map(
          ([key, value]) => [this.expression(key), this.expression(value)] as const,
        );
        const make: Evaluate = (scope) =>
          Dict.of(items.map(([key, value]) => [key(scope), value(scope)] as const));
        if (this.#isFolded && isConstant(node)) checkKeys(make);
        return make;
      }
      case 'slice': {
        const [start, stop, step] = node.parts.map((part) =>
          part === undefined ? () => null : this.expression(part),
        ) as [Evaluate, Evaluate, Evaluate];
        return (scope) => new Slice(start(scope), stop(scope), step(scope));
      }
      case 'attribute': {
        const object = this.expression(node.object);
        const { name } = node;
        return (scope) => getAttribute(object(scope), name);
      }
      case 'item': {
        const [object, key] = [this.expression(node.object), this.expression(node.key)];
        return (scope) => getItem(object(scope), key(scope));
      }
      case 'call':
        return this.call(node);
      case 'filter':
        return this.filter(node);
      case 'test':
        return this.#test(node);
      default:
        return this.#operator(node);
    }
  }

  call(node: Expression & { kind: 'call' }): Evaluate {
    const { args, kwargs } = this.arguments(node.arguments);
    if (node.callee.kind === 'attribute') {
      const object = this.expression(node.callee.object);
      const { name } = node.callee;
      return (scope) => {
        const self = object(scope);
        if (typeof self === 'string') {
          const result = callTextMethod(self, name, args(scope), kwargs(scope));
          if (result !== undefined) return result;
        }
        return callValue(getAttribute(self, name), args(scope), kwargs(scope));
      };
    }
    const callee = this.expression(node.callee);
    return (scope) => callValue(callee(scope), args(scope), kwargs(scope));
  }

  /** `block` is what the filter is applied to where it has no operand: the text of a block. */
  filter(node: Expression & { kind: 'filter' }, block?: Evaluate): Evaluate {
    const { name } = node;
    if (!this.isSoft && !isFilterName(name)) {
      throw new TemplateError(`TemplateAssertionError: No filter named '${name}'.`);
    }
    let operand = block;
    if (node.operand !== undefined) {
      operand =
        node.operand.kind === 'filter' && block !== undefined
          ? this.filter(node.operand, block)
          : this.expression(node.operand);
    }
    if (operand === undefined) throw new TemplateError(`the filter ${name} has nothing to work on`);
    const value = operand;
    const { args, kwargs } = this.arguments(node.arguments);
    return (scope) => applyFilter(name, value(scope), args(scope), kwargs(scope));
  }

  #test(node: Expression & { kind: 'test' }): Evaluate {
    const { name } = node;
    if (!this.isSoft && !isTestName(name)) {
      throw new TemplateError(`TemplateAssertionError: No test named '${name}'.`);
    }
    const operand = this.expression(node.operand);
    const { args, kwargs } = this.arguments(node.arguments);
    return (scope) => applyTest(name, operand(scope), args(scope), kwargs(scope));
  }

  #operator(
    node: Extract<
      Expression,
      {
        kind:
          | 'conditional'
          | 'and'
          | 'or'
          | 'not'
          | 'negative'
          | 'positive'
          | 'binary'
          | 'concat'
          | 'compare';
      }
    >,
  ): Evaluate {
    switch (node.kind) {
      case 'conditional': {
        const [test, value, otherwise] = this.softly(() => [
          this.expression(node.test),
          this.expression(node.value),
          node.otherwise === undefined ? undefined : this.expression(node.otherwise),
        ]) as [Evaluate, Evaluate, Evaluate | undefined];
        const missing = new Undefined(
          'the inline if-expression evaluated to false and no else section was defined.',
        );
        return (scope) => {
          if (isTrue(test(scope))) return value(scope);
          return otherwise === undefined ? missing : otherwise(scope);
        };
      }
      case 'and': {
        const [left, right] = [this.expression(node.left), this.expression(node.right)];
        return (scope) => {
          const value = left(scope);
          return isTrue(value) ? right(scope) : value;
        };
      }
      case 'or': {
        const [left, right] = [this.expression(node.left), this.expression(node.right)];
        return (scope) => {
          const value = left(scope);
          return isTrue(value) ? value : right(scope);
        };
      }
      case 'not': {
        const operand = this.expression(node.operand);
        return (scope) => !isTrue(operand(scope));
      }
      case 'negative': {
        const operand = this.expression(node.operand);
        return (scope) => negate(operand(scope));
      }
      case 'positive': {
        const operand = this.expression(node.operand);
        return (scope) => positive(operand(scope));
      }
      case 'binary': {
        const [left, right] = [this.expression(node.left), this.expression(node.right)];
        const { operator } = node;
        if (operator === '**' && isConstant(node.left) && !isConstant(node.right)) {
          // Jinja2 writes the negative constant into Python's source without parentheses: -2 ** n is -(2 ** n).
          return (scope) => {
            const base = left(scope);
            const power = (value: Value) => binary('**', value, right(scope), percentFormat);
            return isNumber(base) && isNegative(base) ? negate(power(negate(base))) : power(base);
          };
        }
        return (scope) => binary(operator, left(scope), right(scope), percentFormat);
      }
      case 'concat': {
        const items = node.items.map((item) => this.expression(item));
        return (scope) => items.map((evaluate) => str(evaluate(scope))).join('');
      }
      case 'compare': {
        const first = this.expression(node.first);
        const rest = node.rest.map(([operator, operand]) => [operator, this.expression(operand)] as const);
        return (scope) => {
          let left = first(scope);
          for (const [operator, operand] of rest) {
            const right = operand(scope);
            if (!compareBy(operator, left, right)) return false;
            left = right;
          }
          return true;
        };
      }
      default:
        throw new TemplateError('an expression of an unknown kind');
    }
  }
}
