import { defineCommand } from '../command.js';
import { flag } from '../options.js';

export const recipesCommand = defineCommand({
  name: 'recipes',
  describe: 'configs that come with the package: list them, show one, copy one',
  positionals: {
    syntax: '<action> [name] [file]',
    describe: {
      action: 'ls, show or cp',
      name: 'the recipe',
      file: 'where the copy goes; default: its name, in this folder',
    },
  },
  options: {
    force: flag('cp: replace what is there'),
    json: flag('ls: one JSON object per recipe on standard output'),
  },
  examples: [
    ['recipes ls', 'all of them, with size of the model, memory and purpose'],
    ['recipes cp qwen2.5-0.5b my-run.yaml', 'then edit it, cream validate, cream run'],
    ['recipes cp flywheel', 'a folder: configs, a filter and a program'],
  ],
  notes: 'Paths of models and data in a recipe are examples. docs/recipes.md tells what they are for.',
  async run(values, context) {
    const { executeRecipes } = await import('../recipes.js');
    return executeRecipes(values, context);
  },
});
