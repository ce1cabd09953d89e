import type { Arguments, Expression, SpecialName, Statement, Target } from './ast.js';
import { TemplateError } from './errors.js';

// Which variable a name means is decided before a template runs, as in Jinja2's idtracking: a name that a block sets
// anywhere is the block's own from its beginning, so that what the conversation gives under this name is not seen there.

/** Where a variable of a block comes from when the block begins. */
export type Load = 'parameter' | 'conversation' | 'outer' | 'unset';

export class Symbols {
  /** The variables of this block. */
  readonly loads: Map<string, Load>;
  readonly #parent: Symbols | undefined;
  readonly #stores: Set<string>;

  constructor(parent?: Symbols, loads = new Map<string, Load>(), stores = new Set<string>()) {
    this.#parent = parent;
    this.loads = loads;
    this.#stores = stores;
  }

  has(name: string): boolean {
    return this.loads.has(name) || this.#parent?.has(name) === true;
  }

  parameter(name: string): void {
    this.#stores.add(name);
    this.loads.set(name, 'parameter');
  }

  visitAll(statements: readonly Statement[]): void {
    for (const statement of statements) this.#visit(statement);
  }

  visitNames(...expressions: readonly (Expression | undefined)[]): void {
    for (const expression of expressions) for (const name of namesOf(expression)) this.#load(name);
  }

  /** Errors: TemplateError for a name that no block knows. */
  checkNames(expression: Expression | undefined): void {
    for (const name of namesOf(expression)) {
      if (!this.has(name)) {
        throw new TemplateError(
          `AssertionError: Tried to resolve a name that was unknown to the frame ('${name}')`,
        );
      }
    }
  }

  parametersOf(target: Target): void {
    for (const { name, isLoaded } of namesOfTarget(target)) {
      if (isLoaded) this.#load(name);
      else this.parameter(name);
    }
  }

  #load(name: string): void {
    if (!this.has(name)) this.loads.set(name, 'conversation');
  }

  #store(name: string): void {
    this.#stores.add(name);
    if (!this.loads.has(name)) this.loads.set(name, this.#parent?.has(name) === true ? 'outer' : 'unset');
  }

  #storeTarget(target: Target): void {
    for (const { name, isLoaded } of namesOfTarget(target)) {
      if (isLoaded) this.#load(name);
      else this.#store(name);
    }
  }

  /** What a block inside has for itself is not looked into; what it is given is evaluated here. */
  #visit(node: Statement): void {
    switch (node.kind) {
      case 'output':
        this.visitNames(node.value);
        break;
      case 'if':
        this.#visitIf(node.branches, node.otherwise);
        break;
      case 'for':
        this.visitNames(node.iterable);
        break;
      case 'set':
        this.visitNames(node.value);
        this.#storeTarget(node.target);
        break;
      case 'setBlock':
        this.#storeTarget(node.target);
        break;
      case 'filterBlock':
        this.visitNames(node.filter);
        break;
      case 'with':
        this.visitNames(...node.targets.map(([, value]) => value));
        break;
      case 'macro':
        this.#store(node.name);
        break;
      case 'callBlock':
        this.visitNames(node.call);
        break;
      default:
    }
  }

  #visitIf(
    [first, ...others]: readonly { test: Expression; body: readonly Statement[] }[],
    otherwise: readonly Statement[],
  ): void {
    if (first === undefined) return;
    this.visitNames(first.test);
    const [body, elif, last] = [this.#copy(), this.#copy(), this.#copy()];
    body.visitAll(first.body);
    for (const branch of others) elif.#visitIf([branch], []);
    last.visitAll(otherwise);
    const stored = [body, elif, last].flatMap((branch) => [...branch.#stores]);
    const isNew = stored.filter((name) => !this.#stores.has(name));
    for (const branch of [body, elif, last]) {
      for (const [name, load] of branch.loads) this.loads.set(name, load);
      for (const name of branch.#stores) this.#stores.add(name);
    }
    // Only one branch is run, so the variable has to have its value from outside before.
    for (const name of isNew)
      this.loads.set(name, this.#parent?.has(name) === true ? 'outer' : 'conversation');
  }

  #copy(): Symbols {
    return new Symbols(this.#parent, new Map(this.loads), new Set(this.#stores));
  }
}

/** The names that an expression reads. */
function* namesOf(expression: Expression | undefined): Generator<string> {
  if (expression === undefined) return;
  switch (expression.kind) {
    case 'name':
      return yield expression.name;
    case 'tuple':
    case 'list':
    case 'concat':
      for (const item of expression.items) yield* namesOf(item);
      return;
    case 'dict':
      for (const pair of expression.items) for (const item of pair) yield* namesOf(item);
      return;
    case 'slice':
      for (const part of expression.parts) yield* namesOf(part);
      return;
    case 'conditional':
      yield* namesOf(expression.test);
      yield* namesOf(expression.value);
      return yield* namesOf(expression.otherwise);
    case 'and':
    case 'or':
    case 'binary':
      yield* namesOf(expression.left);
      return yield* namesOf(expression.right);
    case 'compare':
      yield* namesOf(expression.first);
      for (const [, operand] of expression.rest) yield* namesOf(operand);
      return;
    case 'attribute':
      return yield* namesOf(expression.object);
    case 'item':
      yield* namesOf(expression.object);
      return yield* namesOf(expression.key);
    case 'call':
      yield* namesOf(expression.callee);
      return yield* namesOfArguments(expression.arguments);
    case 'filter':
    case 'test':
      yield* namesOf(expression.operand);
      return yield* namesOfArguments(expression.arguments);
    case 'not':
    case 'negative':
    case 'positive':
      return yield* namesOf(expression.operand);
    default:
  }
}

function* namesOfArguments({ args, kwargs, dynArgs, dynKwargs }: Arguments): Generator<string> {
  for (const arg of args) yield* namesOf(arg);
  for (const [, value] of kwargs) yield* namesOf(value);
  yield* namesOf(dynArgs);
  yield* namesOf(dynKwargs);
}

/** `isLoaded` for the namespace whose attribute is set: it is read. */
function namesOfTarget(target: Target): { name: string; isLoaded: boolean }[] {
  if (target.kind === 'tuple') return target.items.flatMap(namesOfTarget);
  return [{ name: target.name, isLoaded: target.kind === 'namespace' }];
}

/** The names, of these, that a macro's body reads before it sets them. As in Jinja2, the order is that of the text. */
export function undeclared(
  body: readonly Statement[],
  names: readonly SpecialName[],
): ReadonlySet<SpecialName> {
  const open = new Set<string>(names);
  const found = new Set<SpecialName>();
  const read = (...expressions: readonly (Expression | undefined)[]) => {
    for (const expression of expressions) {
      for (const name of namesOf(expression)) if (open.has(name)) found.add(name as SpecialName);
    }
  };
  const set = (target: Target) => {
    for (const { name, isLoaded } of namesOfTarget(target)) if (!isLoaded) open.delete(name);
  };
  const visitAll = (statements: readonly Statement[]) => {
    for (const statement of statements) visit(statement);
  };
  const visitBody = (node: Statement & { kind: 'macro' | 'callBlock' | 'generation' }) => {
    for (const name of node.parameters) open.delete(name);
    read(...node.defaults);
    visitAll(node.body);
  };
  const visit = (node: Statement): void => {
    switch (node.kind) {
      case 'output':
        read(node.value);
        break;
      case 'if':
        for (const { test, body } of node.branches) {
          read(test);
          visitAll(body);
        }
        visitAll(node.otherwise);
        break;
      case 'for':
        set(node.target);
        read(node.iterable);
        visitAll(node.body);
        visitAll(node.otherwise);
        read(node.test);
        break;
      case 'set':
        set(node.target);
        read(node.value);
        break;
      case 'setBlock':
        set(node.target);
        read(node.filter);
        visitAll(node.body);
        break;
      case 'filterBlock':
        visitAll(node.body);
        read(node.filter);
        break;
      case 'with':
        for (const [target] of node.targets) set(target);
        read(...node.targets.map(([, value]) => value));
        visitAll(node.body);
        break;
      case 'callBlock':
        read(node.call);
        visitBody(node);
        break;
      case 'macro':
      case 'generation':
        visitBody(node);
        break;
      default:
    }
  };
  visitAll(body);
  return found;
}
