import { cp, readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { CreamError } from './errors.js';
import { nearest } from './nearest.js';
import { packageRoot } from './package.js';
import { writeOutput } from './run/output-file.js';
import { makeFolder } from './run/storage.js';

// The config files that come with the package, ready to be copied. A recipe is NAME.yaml, or a folder NAME of files that
// belong together. Its first file begins with what it is for, the model's size and the memory that a run needs:
//
//     # CREAM on Qwen2.5-0.5B, all weights, on one small GPU or a CPU
//     #
//     # size: 0.5 B
//     # memory: 16 GiB

export interface Recipe {
  name: string;
  /** One line. */
  purpose: string;
  /** Parameters of its model: "0.5 B", "any". */
  size: string;
  /** What a run needs at most: "16 GiB". */
  memory: string;
  /** The file, or the folder. */
  path: string;
  isFolder: boolean;
}

export const recipesFolder = () => join(packageRoot(), 'recipes');

/** The file of a folder that tells what it is for. */
const README = 'README.md';

async function readRecipe(folder: string, entry: string, isFolder: boolean): Promise<Recipe> {
  const path = join(folder, entry);
  const lines = (await readFile(isFolder ? join(path, README) : path, 'utf8'))
    .split('\n')
    .map((line) => line.replace(/^#\s?/, '').trim());
  const field = (key: string) => {
    const line = lines.find((one) => one.startsWith(`${key}: `));
    if (line === undefined) throw new CreamError('ENVIRONMENT', `${path} has no line "${key}: ..."`);
    return line.slice(key.length + 2);
  };
  const name = isFolder ? entry : basename(entry, '.yaml');
  return { name, purpose: lines[0] ?? '', size: field('size'), memory: field('memory'), path, isFolder };
}

/** Every recipe, by name. */
export async function listRecipes(folder = recipesFolder()): Promise<Recipe[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  const recipes = entries.filter((entry) => entry.isDirectory() || entry.name.endsWith('.yaml'));
  return Promise.all(
    recipes
      .toSorted((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }))
      .map((entry) => readRecipe(folder, entry.name, entry.isDirectory())),
  );
}

/** A recipe by its name, with or without ".yaml". Throws USAGE with the nearest name. */
export async function findRecipe(name: string): Promise<Recipe> {
  const recipes = await listRecipes();
  const found = recipes.find((recipe) => recipe.name === name.replace(/\.yaml$/, ''));
  if (found !== undefined) return found;
  const near = nearest(
    name,
    recipes.map((recipe) => recipe.name),
  );
  throw new CreamError(
    'USAGE',
    `there is no recipe ${JSON.stringify(name)}; ${near === undefined ? 'cream recipes ls lists them' : `did you mean ${near}?`}`,
  );
}

/** The files of a recipe, relative to it: [""] for a single file. */
export async function filesOf(recipe: Recipe): Promise<string[]> {
  if (!recipe.isFolder) return [''];
  const names = await readdir(recipe.path, { recursive: true, withFileTypes: true });
  return names
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(recipe.path.length + 1))
    .toSorted((a, b) => a.localeCompare(b, 'en'));
}

/** Copies a recipe; into `destination` where that is a folder. Returns the path of the copy. Nothing is replaced. */
export async function copyRecipe(recipe: Recipe, destination?: string, isForced = false): Promise<string> {
  const name = recipe.isFolder ? recipe.name : `${recipe.name}.yaml`;
  const given = resolve(destination ?? name);
  const isFolder = await stat(given).then(
    (found) => found.isDirectory(),
    () => false,
  );
  const target = destination !== undefined && isFolder ? join(given, name) : given;
  const exists = await stat(target).then(
    () => true,
    () => false,
  );
  if (exists && !isForced) {
    throw new CreamError('USAGE', `${target} exists already; name another, or replace it with --force`);
  }
  await makeFolder(dirname(target));
  if (recipe.isFolder) await cp(recipe.path, target, { recursive: true, force: true });
  else await writeOutput(target, await readFile(recipe.path));
  return target;
}
