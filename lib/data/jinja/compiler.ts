import type { MacroBody, Statement, Target } from './ast.js';
import { TemplateError, valueError } from './errors.js';
import { callValue, type Evaluate, ExpressionCompiler } from './expressions.js';
import { Output, spend } from './limits.js';
import { type CompiledMacro, Macro } from './macro.js';
import { Loop, Namespace } from './objects.js';
import { str } from './print.js';
import { Scope } from './scope.js';
import { isTrue, iterate, Iterator, type Kwargs, listOf, type Value } from './values.js';

// Compiles statements to functions that write to an output.

/** How a statement ended. */
type Signal = 'break' | 'continue' | undefined;
type Execute = (scope: Scope, out: Output) => Signal;
type Assign = (scope: Scope, value: Value) => void;

class Compiler {
  readonly #expressions = new ExpressionCompiler();

  block(statements: readonly Statement[]): Execute {
    const compiled = statements.map((statement) => this.#statement(statement));
    return (scope, out) => {
      for (const execute of compiled) {
        spend();
        const signal = execute(scope, out);
        if (signal !== undefined) return signal;
      }
      return undefined;
    };
  }

  #statement(node: Statement): Execute {
    switch (node.kind) {
      case 'data': {
        const { text } = node;
        return (_, out) => {
          out.write(text);
          return undefined;
        };
      }
      case 'output': {
        const value = this.#expressions.expression(node.value);
        return (scope, out) => {
          out.write(str(value(scope)));
          return undefined;
        };
      }
      case 'if':
        return this.#expressions.softly(() => this.#if(node));
      case 'for':
        return this.#expressions.softly(() => this.#for(node), false);
      case 'break':
      case 'continue': {
        const signal = node.kind;
        return () => signal;
      }
      case 'set': {
        const [assign, value] = [assignment(node.target), this.#expressions.expression(node.value)];
        return (scope) => {
          assign(scope, value(scope));
          return undefined;
        };
      }
      case 'setBlock': {
        const assign = assignment(node.target);
        const value = this.#collected(node.body, node.filter);
        return (scope) => {
          assign(scope, value(scope));
          return undefined;
        };
      }
      case 'filterBlock': {
        const value = this.#collected(node.body, node.filter);
        return (scope, out) => {
          out.write(str(value(scope)));
          return undefined;
        };
      }
      case 'with':
        return this.#with(node);
      case 'macro': {
        const macro = this.#macro(node.name, node);
        return (scope) => {
          scope.set(node.name, new Macro(macro, scope));
          return undefined;
        };
      }
      case 'callBlock':
        return this.#callBlock(node);
      case 'generation': {
        const macro = this.#macro(null, node);
        return (scope, out) => {
          const { root, generation } = scope.run;
          const start = root.text.length;
          const text = new Macro(macro, scope).call([], new Map());
          generation.push([start, start + text.length]);
          out.write(text);
          return undefined;
        };
      }
      default:
        throw new TemplateError('a statement of an unknown kind');
    }
  }

  #if(node: Statement & { kind: 'if' }): Execute {
    const branches = node.branches.map(({ test, body }) => ({
      test: this.#expressions.expression(test),
      body: this.block(body),
    }));
    const otherwise = this.block(node.otherwise);
    return (scope, out) => {
      for (const { test, body } of branches) if (isTrue(test(scope))) return body(scope, out);
      return otherwise(scope, out);
    };
  }

  #for(node: Statement & { kind: 'for' }): Execute {
    const assign = assignment(node.target);
    const iterable = this.#expressions.expression(node.iterable);
    const test = node.test === undefined ? undefined : this.#expressions.expression(node.test);
    const body = this.block(node.body);
    const otherwise = this.block(node.otherwise);
    const chosen = (items: Value, scope: Scope): Value => {
      if (test === undefined) return items;
      const passing = function* () {
        for (const item of iterate(items)) {
          const inner = new Scope(scope);
          assign(inner, item);
          if (isTrue(test(inner))) yield item;
        }
      };
      return new Iterator('generator', passing());
    };
    const run = (items: Value, depth0: number, scope: Scope, out: Output): Signal => {
      const recurse = (deeper: Value, depth: number) => {
        const inner = new Output();
        run(deeper, depth, scope, inner);
        return inner.text;
      };
      const loop = new Loop(chosen(items, scope), depth0, node.isRecursive ? recurse : undefined);
      let isEmpty = true;
      for (let item = loop.next(); item !== undefined; item = loop.next()) {
        spend();
        isEmpty = false;
        const inner = new Scope(scope);
        inner.set('loop', loop);
        assign(inner, item);
        if (body(inner, out) === 'break') break;
      }
      return isEmpty ? otherwise(scope, out) : undefined;
    };
    return (scope, out) => run(iterable(scope), 0, scope, out);
  }

  #with(node: Statement & { kind: 'with' }): Execute {
    const targets = node.targets.map(
      ([target, value]) => [assignment(target), this.#expressions.expression(value)] as const,
    );
    const body = this.block(node.body);
    return (scope, out) => {
      const inner = new Scope(scope);
      for (const [assign, value] of targets) assign(inner, value(scope));
      return body(inner, out);
    };
  }

  /** The text of a block, through a filter. */
  #collected(
    statements: readonly Statement[],
    filter: (Statement & { kind: 'filterBlock' })['filter'] | undefined,
  ) {
    const body = this.block(statements);
    const text: Evaluate = (scope) => {
      const out = new Output();
      body(new Scope(scope), out);
      return out.text;
    };
    return filter?.kind === 'filter' ? this.#expressions.filter(filter, text) : text;
  }

  #macro(name: string | null, node: MacroBody): CompiledMacro {
    return this.#expressions.softly(
      () => ({
        name,
        parameters: node.parameters,
        defaults: node.defaults.map((value) => this.#expressions.expression(value)),
        uses: node.uses,
        body: this.block(node.body),
      }),
      false,
    );
  }

  #callBlock(node: Statement & { kind: 'callBlock' }): Execute {
    const macro = this.#macro(null, node);
    const callee = this.#expressions.expression(node.call.callee);
    const { args, kwargs } = this.#expressions.arguments(node.call.arguments);
    return (scope, out) => {
      const named: Kwargs = new Map([...kwargs(scope), ['caller', new Macro(macro, scope)]]);
      out.write(str(callValue(callee(scope), args(scope), named)));
      return undefined;
    };
  }
}

function assignment(target: Target): Assign {
  if (target.kind === 'name') return (scope, value) => scope.set(target.name, value);
  if (target.kind === 'namespace') {
    return (scope, value) => {
      const namespace = scope.get(target.name);
      if (!(namespace instanceof Namespace)) {
        throw new TemplateError('TemplateRuntimeError: cannot assign attribute on non-namespace object');
      }
      namespace.set(target.attribute, value);
    };
  }
  const parts = target.items.map(assignment);
  return (scope, value) => {
    const values = listOf(value);
    if (values.length !== parts.length) {
      throw valueError(`${values.length} values to unpack, expected ${parts.length}`);
    }
    for (const [i, assign] of parts.entries()) assign(scope, values[i] as Value);
  };
}

export function compile(statements: readonly Statement[]): (scope: Scope, out: Output) => void {
  return new Compiler().block(statements);
}
