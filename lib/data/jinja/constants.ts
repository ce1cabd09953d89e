import type { Expression } from './ast.js';

/** Filters that Jinja2 gives its context. */
const WITH_CONTEXT: ReadonlySet<string> = new Set([
  'map',
  'random',
  'reject',
  'rejectattr',
  'select',
  'selectattr',
]);

/** Whether Jinja2's compiler works an expression out itself: there are no names and no calls in it. */
export function isConstant(expression: Expression): boolean {
  if (expression.kind === 'name' || expression.kind === 'call') return false;
  if (expression.kind === 'filter' && WITH_CONTEXT.has(expression.name)) return false;
  return partsOf(expression).every(isConstant);
}

/** The expressions in a node's fields, lists and arguments. */
function partsOf(node: object): Expression[] {
  return Object.values(node).flatMap((part: unknown) => {
    if (typeof part !== 'object' || part === null) return [];
    return 'kind' in part ? [part as Expression] : partsOf(part);
  });
}
