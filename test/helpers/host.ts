import type { CreamConfigInput } from '../../lib/config.js';
import { built } from './built.js';

// A host that runs the settings of its first argument and prints the engine's process id when work begins.

const run = built.runCream(JSON.parse(process.argv[2]!) as CreamConfigInput);
for await (const event of run) if (event.type === 'stage' && event.status === 'started') console.log(run.pid);
