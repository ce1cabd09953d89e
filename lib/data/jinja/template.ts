import { strftime } from '../strftime.js';
import { fromKeys } from './attributes.js';
import { compile } from './compiler.js';
import { RaisedByTemplate, TemplateError, notSupported } from './errors.js';
import { type Limits, Output, startLimits } from './limits.js';
import { Cycler, Joiner, makeDict, makeRange, Namespace } from './objects.js';
import { parse } from './parser.js';
import { str } from './print.js';
import { type Run, Scope } from './scope.js';
import { sliceText } from './operators.js';
import { bind, parseSignature } from './signature.js';
import { needText } from './text.js';
import { Callable, fromJson, type Kwargs, PyObject, Slice, type Value } from './values.js';

// Renders a template as Jinja2 does in the environment of transformers' apply_chat_template: a sandbox without ways to
// change lists and dicts, trim_blocks, lstrip_blocks, loop controls, generation blocks, a tojson of its own.

export interface RenderedText {
  text: string;
  /** Start and end of every generation block, in UTF-16 units of the text. */
  generation: [start: number, end: number][];
}

/** `dict` as transformers gives it to templates. */
class TemplateDict extends PyObject {
  readonly typeName = 'TemplateDict';
  override call(args: readonly Value[], kwargs: Kwargs): Value {
    return makeDict(args, kwargs);
  }
  override isCallable(): boolean {
    return true;
  }
  override attribute(name: string): Value | undefined {
    if (name !== 'fromkeys') return undefined;
    return new Callable('method', ([keys, value = null]) => fromKeys(keys as Value, value));
  }
}

/** A function with one parameter. */
const unary = (name: string, signature: string, body: (value: Value | undefined) => Value) =>
  new Callable('function', (args, kwargs) => body(bind(name, parseSignature(signature), args, kwargs)[0]));

function globals(now: number | undefined): [string, Value][] {
  return [
    ['range', new Callable('function', makeRange)],
    ['dict', new TemplateDict()],
    [
      'lipsum',
      new Callable('function', () => {
        throw notSupported('lipsum()');
      }),
    ],
    ['cycler', new Callable('type', (args) => new Cycler(args))],
    ['joiner', unary('joiner', 'sep=', (separator = ', ') => new Joiner(separator))],
    ['namespace', new Callable('type', (args, kwargs) => new Namespace(makeDict(args, kwargs)))],
    [
      'raise_exception',
      unary('raise_exception', 'message', (message) => {
        throw new RaisedByTemplate(str(message as Value));
      }),
    ],
    [
      'strftime_now',
      unary('strftime_now', 'format', (format) =>
        strftime(
          now === undefined ? new Date() : new Date(now),
          needText(format, 'the format of strftime_now'),
        ),
      ),
    ],
  ];
}

export class Template {
  readonly #compiled: ReturnType<typeof compile>;

  /** Errors: TemplateError, for what Jinja2 refuses and for what is not supported. */
  constructor(source: string) {
    this.#compiled = compile(parse(source));
  }

  /**
   * @param variables values of JSON by name (see fromJson)
   * @param now milliseconds since 1970 for strftime_now; undefined means the time of the call
   */
  render(
    variables: Readonly<Record<string, unknown>>,
    now: number | undefined,
    limits: Limits,
  ): RenderedText {
    startLimits(limits);
    const root = new Output();
    const given = Object.entries(variables).map(([name, value]): [string, Value] => [name, fromJson(value)]);
    const run: Run = { root, generation: [], variables: new Map([...globals(now), ...given]) };
    const { symbols, execute } = this.#compiled;
    try {
      execute(new Scope(run, symbols), root);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      const isDepth = error.message.includes('call stack');
      throw new TemplateError(isDepth ? 'RecursionError: it calls itself too deeply' : error.message);
    }
    const { text } = root;
    // Within a block that is collected first, the positions are those that Jinja2 counts: of the text so far.
    const generation = run.generation.map(({ start, length }): [number, number] => {
      const inside = sliceText(text.slice(start), new Slice(0, length, null));
      return [start, start + inside.length];
    });
    return { text, generation };
  }
}
