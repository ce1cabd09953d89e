import type { Arguments, Expression, Target } from './ast.js';
import type { TokenStream } from './token-stream.js';

// Jinja2's expressions by recursive descent, with its precedences: a filter, a test and a call bind tightest, then the
// signs, then `**` (which groups from the left), products, `~`, sums, comparisons, `not`, `and`, `or`, `if`.

const NO_ARGUMENTS: Arguments = { args: [], kwargs: [], dynArgs: undefined, dynKwargs: undefined };
const COMPARISONS = ['==', '!=', '<', '<=', '>', '>='];

export class ExpressionParser {
  protected readonly stream: TokenStream;

  constructor(stream: TokenStream) {
    this.stream = stream;
  }

  protected target(options: { end?: string; withNamespace?: boolean }): Target {
    const stream = this.stream;
    const one = (): Target => {
      if (stream.skipIf('(')) {
        // In parentheses Jinja2 parses a full expression; only names can be assigned to.
        const inner = toTarget(this.tuple({ isExplicit: true }));
        if (inner === undefined) return stream.fail("can't assign to this expression");
        stream.expect(')');
        return inner;
      }
      const name = stream.expect('name').value;
      if (isConstant(name)) stream.fail(`can't assign to ${name}`);
      if (options.withNamespace === true && stream.skipIf('.')) {
        return { kind: 'namespace', name, attribute: stream.expect('name').value };
      }
      return { kind: 'name', name };
    };
    const items: Target[] = [];
    let isTuple = false;
    for (;;) {
      if (items.length > 0) stream.expect(',');
      if (stream.isTupleEnd(options.end)) break;
      items.push(one());
      if (stream.type !== ',') break;
      isTuple = true;
    }
    const [first] = items;
    if (first === undefined) return stream.fail('Expected an expression');
    return isTuple ? { kind: 'tuple', items } : first;
  }

  protected tuple(
    options: { withConditional?: boolean; end?: string; isExplicit?: boolean } = {},
  ): Expression {
    const stream = this.stream;
    const items: Expression[] = [];
    let isTuple = false;
    for (;;) {
      if (items.length > 0) stream.expect(',');
      if (stream.isTupleEnd(options.end)) break;
      items.push(options.withConditional === false ? this.#or() : this.expression());
      if (stream.type !== ',') break;
      isTuple = true;
    }
    const [first] = items;
    if (!isTuple && first !== undefined) return first;
    if (!isTuple && options.isExplicit !== true) stream.fail('Expected an expression');
    return { kind: 'tuple', items };
  }

  protected expression(): Expression {
    let expression = this.#or();
    while (this.stream.skipIfName('if')) {
      const test = this.#or();
      const otherwise = this.stream.skipIfName('else') ? this.expression() : undefined;
      expression = { kind: 'conditional', test, value: expression, otherwise };
    }
    return expression;
  }

  #or(): Expression {
    let left = this.#and();
    while (this.stream.skipIfName('or')) left = { kind: 'or', left, right: this.#and() };
    return left;
  }

  #and(): Expression {
    let left = this.#not();
    while (this.stream.skipIfName('and')) left = { kind: 'and', left, right: this.#not() };
    return left;
  }

  #not(): Expression {
    if (this.stream.skipIfName('not')) return { kind: 'not', operand: this.#not() };
    return this.#compare();
  }

  #compare(): Expression {
    const stream = this.stream;
    const first = this.#sum();
    const rest: [string, Expression][] = [];
    for (;;) {
      if (COMPARISONS.includes(stream.type)) rest.push([stream.next().type, this.#sum()]);
      else if (stream.skipIfName('in')) rest.push(['in', this.#sum()]);
      else if (stream.isName('not') && stream.isName('in', 1)) {
        stream.next();
        stream.next();
        rest.push(['not in', this.#sum()]);
      } else break;
    }
    return rest.length === 0 ? first : { kind: 'compare', first, rest };
  }

  #leftBinary(operators: readonly string[], operand: () => Expression): Expression {
    let left = operand();
    while (operators.includes(this.stream.type)) {
      const operator = this.stream.next().type;
      left = { kind: 'binary', operator, left, right: operand() };
    }
    return left;
  }

  #sum(): Expression {
    return this.#leftBinary(['+', '-'], () => this.#concat());
  }

  #concat(): Expression {
    const first = this.#product();
    const items = [first];
    while (this.stream.skipIf('~')) items.push(this.#product());
    return items.length === 1 ? first : { kind: 'concat', items };
  }

  #product(): Expression {
    return this.#leftBinary(['*', '/', '//', '%'], () => this.#power());
  }

  #power(): Expression {
    return this.#leftBinary(['**'], () => this.#unary());
  }

  #unary(withFilter = true): Expression {
    let node: Expression;
    if (this.stream.skipIf('-')) node = { kind: 'negative', operand: this.#unary(false) };
    else if (this.stream.skipIf('+')) node = { kind: 'positive', operand: this.#unary(false) };
    else node = this.#primary();
    node = this.#postfix(node);
    return withFilter ? this.#filterExpression(node) : node;
  }

  #primary(): Expression {
    const stream = this.stream;
    const token = stream.next();
    switch (token.type) {
      case 'name':
        if (isConstant(token.value)) {
          const value = /none/i.test(token.value) ? null : /true/i.test(token.value);
          return { kind: 'constant', value };
        }
        return { kind: 'name', name: token.value };
      case 'string': {
        let value = token.value;
        while (stream.type === 'string') value += stream.next().value;
        return { kind: 'string', value };
      }
      case 'integer':
      case 'float':
        return { kind: token.type, value: token.value };
      case '(': {
        const inner = this.tuple({ isExplicit: true });
        stream.expect(')');
        return inner;
      }
      case '[':
        return { kind: 'list', items: this.#commaSeparated(']', () => this.expression()) };
      case '{': {
        const pair = (): [Expression, Expression] => {
          const key = this.expression();
          stream.expect(':');
          return [key, this.expression()];
        };
        return { kind: 'dict', items: this.#commaSeparated('}', pair) };
      }
      default:
        return stream.fail(`unexpected '${token.value || token.type}'`);
    }
  }

  #commaSeparated<T>(end: string, one: () => T): T[] {
    const items: T[] = [];
    while (this.stream.type !== end) {
      if (items.length > 0) this.stream.expect(',');
      if (this.stream.type === end) break;
      items.push(one());
    }
    this.stream.expect(end);
    return items;
  }

  #postfix(start: Expression): Expression {
    let node = start;
    for (;;) {
      if (this.stream.type === '.' || this.stream.type === '[') node = this.#subscript(node);
      else if (this.stream.type === '(') node = { kind: 'call', callee: node, arguments: this.#arguments() };
      else return node;
    }
  }

  #filterExpression(start: Expression): Expression {
    let node = start;
    for (;;) {
      if (this.stream.type === '|') node = this.filters(node, false) as Expression;
      else if (this.stream.skipIfName('is')) node = this.#test(node);
      else if (this.stream.type === '(') node = { kind: 'call', callee: node, arguments: this.#arguments() };
      else return node;
    }
  }

  #subscript(object: Expression): Expression {
    const stream = this.stream;
    if (stream.skipIf('.')) {
      const token = stream.next();
      if (token.type === 'name') return { kind: 'attribute', object, name: token.value };
      if (token.type !== 'integer') stream.fail('expected name or number');
      return { kind: 'item', object, key: { kind: 'integer', value: token.value } };
    }
    stream.expect('[');
    const keys: Expression[] = [];
    while (stream.type !== ']') {
      if (keys.length > 0) stream.expect(',');
      keys.push(this.#subscribed());
    }
    stream.expect(']');
    const [key] = keys;
    if (key !== undefined && keys.length === 1) return { kind: 'item', object, key };
    return { kind: 'item', object, key: { kind: 'tuple', items: keys } };
  }

  #subscribed(): Expression {
    const stream = this.stream;
    const part = () => ([':', ']', ','].includes(stream.type) ? undefined : this.expression());
    const start = part();
    if (stream.type !== ':') return start ?? stream.fail('expected subscript expression');
    stream.next();
    const stop = part();
    const step = stream.skipIf(':') ? part() : undefined;
    return { kind: 'slice', parts: [start, stop, step] };
  }

  #arguments(): Arguments {
    const stream = this.stream;
    const parsed: Arguments = { ...NO_ARGUMENTS, args: [], kwargs: [] };
    const ensure = (condition: boolean) => {
      if (!condition) stream.fail('invalid syntax for function call expression');
    };
    stream.expect('(');
    let isFirst = true;
    while (stream.type !== ')') {
      if (!isFirst) {
        stream.expect(',');
        if (stream.type === ')') break;
      }
      isFirst = false;
      if (stream.skipIf('*')) {
        ensure(parsed.dynArgs === undefined && parsed.dynKwargs === undefined);
        parsed.dynArgs = this.expression();
      } else if (stream.skipIf('**')) {
        ensure(parsed.dynKwargs === undefined);
        parsed.dynKwargs = this.expression();
      } else if (stream.type === 'name' && stream.look().type === '=') {
        ensure(parsed.dynKwargs === undefined);
        const name = stream.next().value;
        stream.next();
        if (parsed.kwargs.some(([known]) => known === name))
          stream.fail(`keyword argument repeated: ${name}`);
        parsed.kwargs.push([name, this.expression()]);
      } else {
        ensure(parsed.dynArgs === undefined && parsed.dynKwargs === undefined && parsed.kwargs.length === 0);
        parsed.args.push(this.expression());
      }
    }
    stream.expect(')');
    return parsed;
  }

  /** One filter or several in a row; `isInline` where the first has no `|` in front of it. */
  protected filters(start: Expression | undefined, isInline: boolean): Expression | undefined {
    const stream = this.stream;
    let node = start;
    let isFirst = isInline;
    while (isFirst || stream.skipIf('|')) {
      isFirst = false;
      const name = this.#dottedName();
      const args = stream.type === '(' ? this.#arguments() : NO_ARGUMENTS;
      node = { kind: 'filter', name, operand: node, arguments: args };
    }
    return node;
  }

  #dottedName(): string {
    let name = this.stream.expect('name').value;
    while (this.stream.skipIf('.')) name += `.${this.stream.expect('name').value}`;
    return name;
  }

  #test(operand: Expression): Expression {
    const stream = this.stream;
    const isNegated = stream.skipIfName('not');
    const name = this.#dottedName();
    let args = NO_ARGUMENTS;
    if (stream.type === '(') args = this.#arguments();
    else if (
      ['name', 'string', 'integer', 'float', '[', '{'].includes(stream.type) &&
      !['else', 'or', 'and'].some((word) => stream.isName(word))
    ) {
      if (stream.isName('is')) stream.fail('You cannot chain multiple tests with is');
      args = { ...NO_ARGUMENTS, args: [this.#postfix(this.#primary())] };
    }
    const test: Expression = { kind: 'test', name, operand, arguments: args };
    return isNegated ? { kind: 'not', operand: test } : test;
  }
}

const isConstant = (name: string) => /^(true|false|none|True|False|None)$/.test(name);

function toTarget(expression: Expression): Target | undefined {
  if (expression.kind === 'name') return { kind: 'name', name: expression.name };
  if (expression.kind !== 'tuple') return undefined;
  const items = expression.items.map(toTarget);
  return items.every((item) => item !== undefined) ? { kind: 'tuple', items } : undefined;
}
