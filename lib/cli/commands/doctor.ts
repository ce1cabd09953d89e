import { defineCommand } from '../command.js';
import { flag } from '../options.js';

export const doctorCommand = defineCommand({
  name: 'doctor',
  describe: 'check what this machine has: Node.js, memory, disk, LibTorch, the engine, a tiny training step',
  options: { json: flag('the findings as one JSON object on standard output') },
  notes: 'Exit code 3 when cream cannot work here.',
  async run({ json }, { terminal, signal }) {
    const { examine } = await import('../doctor.js');
    const findings = await examine(process.cwd(), signal);
    const isUsable = findings.every(({ status }) => status !== 'failed');
    if (json) {
      await terminal.print(`${JSON.stringify({ usable: isUsable, findings })}\n`);
      return isUsable ? 0 : 3;
    }
    const marks = { ok: ['ok', 'green'], warning: ['warn', 'yellow'], failed: ['FAIL', 'red'] } as const;
    for (const { name, status, detail, advice } of findings) {
      const [mark, style] = marks[status];
      const hint = advice === undefined ? '' : `; ${advice}`;
      await terminal.print(
        `${terminal.outStyle(style, mark.padEnd(4))}  ${name.padEnd(10)}  ${detail}${hint}\n`,
      );
    }
    await terminal.print(isUsable ? 'cream can work here\n' : 'cream cannot work here yet\n');
    return isUsable ? 0 : 3;
  },
});
