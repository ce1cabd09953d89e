import type { Expression, MacroBody, Signature, Statement, Target } from './ast.js';
import { notSupported, TemplateError } from './errors.js';
import { ExpressionParser } from './expression-parser.js';
import { tokenize } from './lexer.js';
import { TokenStream } from './token-stream.js';

// Jinja2's statements by recursive descent.

const REFUSED_TAGS = new Set([
  'autoescape',
  'block',
  'extends',
  'include',
  'import',
  'from',
  'trans',
  'do',
  'debug',
]);

class Parser extends ExpressionParser {
  /** Loops that are open: the variable `loop` is theirs. */
  #allLoops = 0;
  /** Loops that are open since the last macro, call or generation block. */
  #loops = 0;

  template(): Statement[] {
    return this.#statementsUntil([]);
  }

  /** Statements up to a tag of one of these names, which is left; [] means up to the end of the template. */
  #statementsUntil(ends: readonly string[]): Statement[] {
    const stream = this.stream;
    const body: Statement[] = [];
    while (stream.type !== 'eof') {
      if (stream.type === 'data') body.push({ kind: 'data', text: stream.next().value });
      else if (stream.skipIf('variable_begin')) {
        body.push({ kind: 'output', value: this.tuple() });
        stream.expect('variable_end');
      } else {
        stream.expect('block_begin');
        if (stream.type === 'name' && ends.includes(stream.current.value)) return body;
        body.push(...this.#statement());
        stream.expect('block_end');
      }
    }
    if (ends.length > 0) stream.fail(`unexpected end of template, expected ${ends.join(' or ')}`);
    return body;
  }

  /** The body of a tag; the end tag's name is consumed and returned. */
  #block(...ends: string[]): { body: Statement[]; end: string } {
    this.stream.skipIf(':');
    this.stream.expect('block_end');
    const body = this.#statementsUntil(ends);
    return { body, end: this.stream.next().value };
  }

  #statement(): Statement[] {
    const tag = this.stream.expect('name').value;
    switch (tag) {
      case 'if':
        return [this.#if()];
      case 'for':
        return [this.#for()];
      case 'set':
        return [this.#set()];
      case 'print':
        return this.#print();
      case 'with':
        return [this.#with()];
      case 'macro': {
        const name = this.stream.expect('name').value;
        return [{ kind: 'macro', name, ...this.#macroBody(this.#signature(), 'endmacro') }];
      }
      case 'call': {
        const signature = this.stream.type === '(' ? this.#signature() : { parameters: [], defaults: [] };
        const call = this.expression();
        if (call.kind !== 'call') this.stream.fail('expected call');
        return [{ kind: 'callBlock', call, ...this.#macroBody(signature, 'endcall') }];
      }
      case 'filter': {
        const filter = this.filters(undefined, true) as Expression;
        return [{ kind: 'filterBlock', filter, body: this.#block('endfilter').body }];
      }
      case 'generation':
        return [
          { kind: 'generation', ...this.#macroBody({ parameters: [], defaults: [] }, 'endgeneration') },
        ];
      case 'break':
      case 'continue':
        if (this.#loops === 0) this.stream.fail(`'${tag}' outside loop`);
        return [{ kind: tag }];
      default:
        if (REFUSED_TAGS.has(tag)) throw notSupported(`{% ${tag} %}`);
        return this.stream.fail(`Encountered unknown tag '${tag}'`);
    }
  }

  #macroBody(signature: Signature, end: string): MacroBody {
    const loops = this.#loops;
    this.#loops = 0;
    const { body } = this.#block(end);
    this.#loops = loops;
    return { ...signature, body };
  }

  #if(): Statement {
    const branches: { test: Expression; body: Statement[] }[] = [];
    for (;;) {
      const test = this.tuple({ withConditional: false });
      const { body, end } = this.#block('elif', 'else', 'endif');
      branches.push({ test, body });
      if (end === 'elif') continue;
      return { kind: 'if', branches, otherwise: end === 'else' ? this.#block('endif').body : [] };
    }
  }

  #for(): Statement {
    const stream = this.stream;
    this.#allLoops += 1;
    const target = this.#assigned({ end: 'in' });
    stream.expectName('in');
    const iterable = this.tuple({ withConditional: false, end: 'recursive' });
    const test = stream.skipIfName('if') ? this.expression() : undefined;
    const isRecursive = stream.skipIfName('recursive');
    this.#loops += 1;
    const { body, end } = this.#block('endfor', 'else');
    this.#loops -= 1;
    const otherwise = end === 'else' ? this.#block('endfor').body : [];
    this.#allLoops -= 1;
    return { kind: 'for', target, iterable, test, isRecursive, body, otherwise };
  }

  #set(): Statement {
    const target = this.#assigned({ withNamespace: true });
    if (this.stream.skipIf('=')) return { kind: 'set', target, value: this.tuple() };
    const filter = this.filters(undefined, false);
    return { kind: 'setBlock', target, filter, body: this.#block('endset').body };
  }

  #assigned(options: { end?: string; withNamespace?: boolean }): Target {
    const target = this.target(options);
    const names = (one: Target): boolean =>
      one.kind === 'tuple' ? one.items.some(names) : one.kind === 'name' && one.name === 'loop';
    if (this.#allLoops > 0 && names(target))
      this.stream.fail("Can't assign to special loop variable in for-loop target");
    return target;
  }

  #print(): Statement[] {
    const outputs: Statement[] = [];
    while (this.stream.type !== 'block_end') {
      if (outputs.length > 0) this.stream.expect(',');
      outputs.push({ kind: 'output', value: this.expression() });
    }
    return outputs;
  }

  #with(): Statement {
    const targets: [Target, Expression][] = [];
    while (this.stream.type !== 'block_end') {
      if (targets.length > 0) this.stream.expect(',');
      const target = this.target({});
      this.stream.expect('=');
      targets.push([target, this.expression()]);
    }
    return { kind: 'with', targets, body: this.#block('endwith').body };
  }

  #signature(): Signature {
    const stream = this.stream;
    const parameters: string[] = [];
    const defaults: Expression[] = [];
    stream.expect('(');
    while (stream.type !== ')') {
      if (parameters.length > 0) stream.expect(',');
      const name = stream.expect('name').value;
      if (parameters.includes(name)) stream.fail(`duplicate argument '${name}' in function definition`);
      parameters.push(name);
      if (stream.skipIf('=')) defaults.push(this.expression());
      else if (defaults.length > 0) stream.fail('non-default argument follows default argument');
    }
    stream.expect(')');
    const caller = parameters.indexOf('caller');
    if (caller >= 0 && caller < parameters.length - defaults.length) {
      stream.fail('the parameter "caller" must have a default');
    }
    return { parameters, defaults };
  }
}

/** The statements of a template. Errors: TemplateError, with the line. */
export function parse(source: string): Statement[] {
  try {
    return new Parser(new TokenStream(tokenize(source))).template();
  } catch (error) {
    if (error instanceof RangeError) throw new TemplateError('its expressions are nested too deeply');
    throw error;
  }
}
