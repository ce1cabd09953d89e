import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CreamError } from '../errors.js';
import { nearest } from '../nearest.js';
import { copyRecipe, filesOf, findRecipe, listRecipes, type Recipe } from '../recipes.js';
import type { Context } from './command.js';
import { formatTable } from './format.js';
import { shortPath } from './summary.js';

export interface RecipesValues {
  force: boolean;
  json: boolean;
}

const ACTIONS = ['ls', 'show', 'cp'] as const;

/** `cream recipes ls | show NAME | cp NAME [FILE]` */
export async function executeRecipes(values: RecipesValues, context: Context): Promise<undefined> {
  const [action, name, file] = context.words as [string, string?, string?];
  const refuse = (message: string) => new CreamError('USAGE', `${message}; see: cream recipes --help`);
  if (!(ACTIONS as readonly string[]).includes(action)) {
    const near = nearest(action, ACTIONS);
    throw refuse(
      `unknown action ${JSON.stringify(action)}${near === undefined ? `: ${ACTIONS.join(', ')}` : `; did you mean ${near}?`}`,
    );
  }
  if (values.json && action !== 'ls') throw refuse(`--json has no effect with ${action}`);
  if (values.force && action !== 'cp') throw refuse(`--force has no effect with ${action}`);
  if (action === 'ls') {
    if (name !== undefined) throw refuse(`ls takes no name, got ${JSON.stringify(name)}`);
    await list(values.json, context);
    return;
  }
  if (name === undefined) throw refuse(`cream recipes ${action} needs the name of a recipe`);
  const recipe = await findRecipe(name);
  if (action === 'show') {
    if (file !== undefined) throw refuse('show takes one name');
    await show(recipe, context);
  } else {
    await copy(recipe, file, values.force, context);
  }
}

async function list(json: boolean, { terminal }: Context): Promise<void> {
  const recipes = await listRecipes();
  if (json) {
    for (const recipe of recipes) await terminal.print(`${JSON.stringify(recipe)}\n`);
    return;
  }
  // The purpose, which is text, goes last and to the left.
  const columns = formatTable(
    ['recipe', 'size', 'memory'],
    recipes.map(({ name, size, memory }) => [name, size, memory]),
  ).split('\n');
  const width = Math.max(...columns.map((line) => line.length));
  const purposes = ['purpose', '-------', ...recipes.map(({ purpose }) => purpose)];
  const lines = columns.map((line, index) => `${line.padEnd(width)}  ${purposes[index]}`);
  await terminal.print(`${lines.join('\n')}\n`);
}

async function show(recipe: Recipe, { terminal }: Context): Promise<void> {
  for (const name of await filesOf(recipe)) {
    if (name !== '') await terminal.print(`${terminal.outStyle('bold', `==> ${name} <==`)}\n`);
    await terminal.print(await readFile(join(recipe.path, name), 'utf8'));
  }
}

async function copy(
  recipe: Recipe,
  file: string | undefined,
  isForced: boolean,
  { terminal, isQuiet }: Context,
): Promise<void> {
  const target = shortPath(await copyRecipe(recipe, file, isForced));
  if (isQuiet) return;
  const next = recipe.isFolder
    ? `read ${join(target, 'README.md')}`
    : `edit it, then: cream validate ${target} && cream run ${target}`;
  terminal.note(`wrote ${target}; ${next}`);
}
