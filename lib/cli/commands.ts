import type { Command } from './command.js';
import { initCommand } from './commands/init.js';
import { validateCommand } from './commands/validate.js';

/** Every command, in the order of the help. */
export const COMMANDS: readonly Command[] = [initCommand, validateCommand];
