// The syntax tree of a template, with the names that Jinja2 gives to its nodes.

export interface Arguments {
  args: Expression[];
  kwargs: [string, Expression][];
  dynArgs: Expression | undefined;
  dynKwargs: Expression | undefined;
}

export type Expression =
  | { kind: 'integer' | 'float' | 'string'; value: string }
  | { kind: 'constant'; value: boolean | null }
  | { kind: 'name'; name: string }
  | { kind: 'tuple' | 'list'; items: Expression[] }
  | { kind: 'dict'; items: [Expression, Expression][] }
  | { kind: 'conditional'; test: Expression; value: Expression; otherwise: Expression | undefined }
  | { kind: 'and' | 'or'; left: Expression; right: Expression }
  | { kind: 'not' | 'negative' | 'positive'; operand: Expression }
  | { kind: 'binary'; operator: string; left: Expression; right: Expression }
  | { kind: 'concat'; items: Expression[] }
  | { kind: 'compare'; first: Expression; rest: [string, Expression][] }
  | { kind: 'attribute'; object: Expression; name: string }
  | { kind: 'item'; object: Expression; key: Expression }
  | { kind: 'slice'; parts: (Expression | undefined)[] }
  | { kind: 'call'; callee: Expression; arguments: Arguments }
  /** `operand` is undefined where the filter is applied to a block. */
  | { kind: 'filter'; name: string; operand: Expression | undefined; arguments: Arguments }
  | { kind: 'test'; name: string; operand: Expression; arguments: Arguments };

export type Target =
  | { kind: 'name'; name: string }
  | { kind: 'namespace'; name: string; attribute: string }
  | { kind: 'tuple'; items: Target[] };

export interface Signature {
  parameters: string[];
  /** Of the last parameters. */
  defaults: Expression[];
}

/** Names that Jinja2 gives a meaning. */
export type SpecialName = 'caller' | 'kwargs' | 'varargs' | 'self';

export interface MacroBody extends Signature {
  body: Statement[];
}

export type Statement =
  | { kind: 'data'; text: string }
  | { kind: 'output'; value: Expression }
  | { kind: 'if'; branches: { test: Expression; body: Statement[] }[]; otherwise: Statement[] }
  | {
      kind: 'for';
      target: Target;
      iterable: Expression;
      test: Expression | undefined;
      isRecursive: boolean;
      body: Statement[];
      otherwise: Statement[];
    }
  | { kind: 'break' | 'continue' }
  | { kind: 'set'; target: Target; value: Expression }
  | { kind: 'setBlock'; target: Target; filter: Expression | undefined; body: Statement[] }
  | { kind: 'filterBlock'; filter: Expression; body: Statement[] }
  | { kind: 'with'; targets: [Target, Expression][]; body: Statement[] }
  | ({ kind: 'macro'; name: string } & MacroBody)
  | ({ kind: 'callBlock'; call: Expression & { kind: 'call' } } & MacroBody)
  | ({ kind: 'generation' } & MacroBody);
