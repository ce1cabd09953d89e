import type { Command } from './command.js';
import { compareCommand } from './commands/compare.js';
import { demoCommand } from './commands/demo.js';
import { doctorCommand } from './commands/doctor.js';
import { estimateCommand } from './commands/estimate.js';
import { evaluateCommand } from './commands/evaluate.js';
import { generateCommand } from './commands/generate.js';
import { initCommand } from './commands/init.js';
import { inspectCommand } from './commands/inspect.js';
import { mergeCommand } from './commands/merge.js';
import { pairCommand } from './commands/pair.js';
import { rankCommand } from './commands/rank.js';
import { rankingCommand } from './commands/ranking.js';
import { recipesCommand } from './commands/recipes.js';
import { reportCommand } from './commands/report.js';
import { runCommand } from './commands/run.js';
import { sampleCommand } from './commands/sample.js';
import { scoreCommand } from './commands/score.js';
import { sftCommand } from './commands/sft.js';
import { trainCommand } from './commands/train.js';
import { validateCommand } from './commands/validate.js';
import { watchCommand } from './commands/watch.js';

/** Every command, in the order of the help. */
export const COMMANDS: readonly Command[] = [
  initCommand,
  recipesCommand,
  validateCommand,
  estimateCommand,
  runCommand,
  compareCommand,
  watchCommand,
  reportCommand,
  generateCommand,
  sftCommand,
  sampleCommand,
  scoreCommand,
  rankCommand,
  pairCommand,
  trainCommand,
  evaluateCommand,
  rankingCommand,
  mergeCommand,
  inspectCommand,
  doctorCommand,
  demoCommand,
];
