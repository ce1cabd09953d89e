import type { MacroBody, Statement, Target } from './ast.js';
import { notSupported, TemplateError, valueError } from './errors.js';
import { callValue, ExpressionCompiler } from './expressions.js';
import { Output, spend } from './limits.js';
import { type CompiledMacro, Macro } from './macro.js';
import { Loop, Namespace } from './objects.js';
import { str } from './print.js';
import { Scope } from './scope.js';
import { Symbols, undeclared } from './symbols.js';
import { isTrue, iterate, Iterator, type Kwargs, listOf, textLength, type Value } from './values.js';

// Compiles statements to functions that write to an output.

/** How a statement ended. */
type Signal = 'break' | 'continue' | undefined;
type Execute = (scope: Scope, out: Output) => Signal;
type Assign = (scope: Scope, value: Value) => void;

class Compiler {
  readonly #expressions = new ExpressionCompiler();

  template(statements: readonly Statement[]): { symbols: Symbols; execute: Execute } {
    const symbols = new Symbols();
    symbols.visitAll(statements);
    if (undeclared(statements, ['self']).size > 0) throw notSupported('self');
    return { symbols, execute: this.#block(statements, symbols) };
  }

  #block(statements: readonly Statement[], symbols: Symbols): Execute {
    const compiled = statements.map((statement) => this.#statement(statement, symbols));
    return (scope, out) => {
      for (const execute of compiled) {
        spend();
        const signal = execute(scope, out);
        if (signal !== undefined) return signal;
      }
      return undefined;
    };
  }

  #statement(node: Statement, symbols: Symbols): Execute {
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
        return this.#expressions.softly(() => this.#if(node, symbols));
      case 'for':
        return this.#for(node, symbols);
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
        return this.#collected(node, symbols, (text, scope) => assign(scope, text));
      }
      case 'filterBlock':
        return this.#collected(node, symbols, (text, _, out) => out.write(str(text)));
      case 'with':
        return this.#with(node, symbols);
      case 'macro': {
        const macro = this.#macro(node.name, node, symbols);
        return (scope) => {
          scope.set(node.name, new Macro(macro, scope));
          return undefined;
        };
      }
      case 'callBlock':
        return this.#callBlock(node, symbols);
      case 'generation': {
        const macro = this.#macro(null, node, symbols);
        return (scope, out) => {
          const { root, generation } = scope.run;
          const start = root.text.length;
          const text = new Macro(macro, scope).call([], new Map());
          generation.push({ start, length: textLength(text) });
          out.write(text);
          return undefined;
        };
      }
      default:
        throw new TemplateError('a statement of an unknown kind');
    }
  }

  /** A block of its own has all its filters and tests looked up, inside an `if` too. */
  #strictly<T>(compile: () => T): T {
    return this.#expressions.softly(compile, false);
  }

  #if(node: Statement & { kind: 'if' }, symbols: Symbols): Execute {
    const branches = node.branches.map(({ test, body }) => ({
      test: this.#expressions.expression(test),
      body: this.#block(body, symbols),
    }));
    const otherwise = this.#block(node.otherwise, symbols);
    return (scope, out) => {
      for (const { test, body } of branches) if (isTrue(test(scope))) return body(scope, out);
      return otherwise(scope, out);
    };
  }

  #for(node: Statement & { kind: 'for' }, symbols: Symbols): Execute {
    const [bodySymbols, testSymbols, otherwiseSymbols] = [1, 2, 3].map(() => new Symbols(symbols)) as [
      Symbols,
      Symbols,
      Symbols,
    ];
    bodySymbols.parameter('loop');
    for (const one of [bodySymbols, testSymbols]) one.parametersOf(node.target);
    testSymbols.visitNames(node.test);
    bodySymbols.visitAll(node.body);
    otherwiseSymbols.visitAll(node.otherwise);
    const assign = assignment(node.target);
    const iterable = this.#expressions.expression(node.iterable);
    const [test, body, otherwise] = this.#strictly(
      () =>
        [
          node.test === undefined ? undefined : this.#expressions.expression(node.test),
          this.#block(node.body, bodySymbols),
          this.#block(node.otherwise, otherwiseSymbols),
        ] as const,
    );
    const chosen = (items: Value, scope: Scope): Value => {
      if (test === undefined) return items;
      const passing = function* () {
        const inner = new Scope(scope, testSymbols);
        for (const item of iterate(items)) {
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
        const inner = new Scope(scope, bodySymbols);
        inner.set('loop', loop);
        assign(inner, item);
        if (body(inner, out) === 'break') break;
      }
      return isEmpty ? otherwise(new Scope(scope, otherwiseSymbols), out) : undefined;
    };
    return (scope, out) => run(iterable(scope), 0, scope, out);
  }

  #with(node: Statement & { kind: 'with' }, symbols: Symbols): Execute {
    const innerSymbols = new Symbols(symbols);
    for (const [target] of node.targets) innerSymbols.parametersOf(target);
    innerSymbols.visitAll(node.body);
    const targets = node.targets.map(
      ([target, value]) => [assignment(target), this.#expressions.expression(value)] as const,
    );
    const body = this.#strictly(() => this.#block(node.body, innerSymbols));
    return (scope, out) => {
      const inner = new Scope(scope, innerSymbols);
      for (const [assign, value] of targets) assign(inner, value(scope));
      return body(inner, out);
    };
  }

  /** Gives the text of a block, through its filter, to `use`; a block that is left by a break has none. */
  #collected(
    node: Statement & { kind: 'setBlock' | 'filterBlock' },
    symbols: Symbols,
    use: (text: Value, scope: Scope, out: Output) => void,
  ): Execute {
    const innerSymbols = new Symbols(symbols);
    innerSymbols.visitAll(node.body);
    // Jinja2 does not look for the names in the filter of a set block.
    if (node.kind === 'filterBlock') innerSymbols.visitNames(node.filter);
    else innerSymbols.checkNames(node.filter);
    let text = '';
    const [body, filter] = this.#strictly(
      () =>
        [
          this.#block(node.body, innerSymbols),
          node.filter?.kind === 'filter' ? this.#expressions.filter(node.filter, () => text) : undefined,
        ] as const,
    );
    return (scope, out) => {
      const inner = new Scope(scope, innerSymbols);
      const collected = new Output();
      const signal = body(inner, collected);
      if (signal !== undefined) return signal;
      text = collected.text;
      use(filter === undefined ? text : filter(inner), scope, out);
      return undefined;
    };
  }

  #macro(name: string | null, node: MacroBody, symbols: Symbols): CompiledMacro {
    const { parameters } = node;
    const innerSymbols = new Symbols(symbols);
    const visit = () => {
      for (const parameter of parameters) innerSymbols.parameter(parameter);
      innerSymbols.visitNames(...node.defaults);
      innerSymbols.visitAll(node.body);
    };
    visit();
    const uses = undeclared(node.body, ['caller', 'kwargs', 'varargs']);
    for (const special of uses) innerSymbols.parameter(special);
    visit();
    return this.#strictly(() => ({
      name,
      parameters,
      symbols: innerSymbols,
      defaults: node.defaults.map((value) => this.#expressions.expression(value)),
      uses,
      body: this.#block(node.body, innerSymbols),
    }));
  }

  #callBlock(node: Statement & { kind: 'callBlock' }, symbols: Symbols): Execute {
    const macro = this.#macro(null, node, symbols);
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

export function compile(statements: readonly Statement[]): { symbols: Symbols; execute: Execute } {
  return new Compiler().template(statements);
}
