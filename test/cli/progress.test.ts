import { EventEmitter } from 'node:events';
import t from 'tap';
import { Progress } from '../../lib/cli/progress.js';
import { Terminal } from '../../lib/cli/terminal.js';
import type { RunEvent } from '../../lib/run/events.js';

const ESCAPE = '\u001B';

/** A stream that remembers what was written to it. */
class Recorder extends EventEmitter {
  text = '';
  readonly isTTY: boolean;
  columns: number;

  constructor({ isTTY = false, columns = 80 } = {}) {
    super();
    this.isTTY = isTTY;
    this.columns = columns;
  }

  write(text: string): boolean {
    this.text += text;
    return true;
  }
}

function terminalOf(err: Recorder, env: Record<string, string> = {}, out = new Recorder()): Terminal {
  return new Terminal(
    out as never,
    err as never,
    { LANG: 'C.UTF-8', TERM: 'xterm', ...env },
    () => undefined,
  );
}

/** What a terminal shows in the end, and the widest row that was ever drawn. */
function screenOf(text: string): { rows: string[]; widest: number; isCursorHidden: boolean } {
  const rows = [''];
  let row = 0;
  let widest = 0;
  let isCursorHidden = false;
  for (const [token] of text.replaceAll(ESCAPE, '␛').matchAll(/␛\[[?\d;]*[A-Za-z]|\n|\r|[^␛\n\r]+/g)) {
    if (token === '\n') {
      row += 1;
      rows[row] ??= '';
    } else if (token === '␛[?25l') isCursorHidden = true;
    else if (token === '␛[?25h') isCursorHidden = false;
    else if (token === '␛[0J') {
      rows.length = row + 1;
      rows[row] = '';
    } else if (/^␛\[\d+A$/.test(token)) row -= Number(token.slice(2, -1));
    else if (!token.startsWith('␛') && token !== '\r') {
      rows[row] += token;
      widest = Math.max(widest, rows[row]!.length);
    }
  }
  return { rows, widest, isCursorHidden };
}

const started = (stage: 'sample' | 'train', iteration: number): RunEvent => ({
  type: 'stage',
  status: 'started',
  stage,
  iteration,
  total: 300,
  unit: 'responses',
});
const progress = (done: number, metrics?: Record<string, number>): RunEvent => ({
  type: 'progress',
  stage: 'sample',
  iteration: 1,
  done,
  total: 300,
  unit: 'responses',
  perSecond: 20,
  ...(metrics === undefined ? {} : { metrics }),
});
const finished: RunEvent = {
  type: 'stage',
  status: 'finished',
  stage: 'sample',
  iteration: 1,
  seconds: 15,
  metrics: { 'cream/consistency': 0.71234 },
};

t.test('a log gets plain lines, at most one every five seconds of work', async (t) => {
  const err = new Recorder();
  let now = 0;
  const view = new Progress(terminalOf(err), { now: () => now });
  view.event(started('sample', 1));
  for (let done = 1; done <= 300; done++) {
    now += 50;
    view.event(progress(done));
  }
  view.event(finished);
  view.stop();
  t.notMatch(err.text, ESCAPE);
  t.notMatch(err.text, '\r');
  const lines = err.text.trimEnd().split('\n');
  t.equal(lines[0], 'sample 1 ... 300 responses');
  t.strictSame(lines.slice(1, -1), [
    'sample 1  100/300 responses  20/s  ETA 10 s',
    'sample 1  200/300 responses  20/s  ETA 5.0 s',
    'sample 1  300/300 responses  20/s',
  ]);
  t.match(lines.at(-1), /^✓ sample 1 +C 0\.7123, 15 s$/);
});

t.test('a terminal shows a block that is redrawn in place and leaves only what stays', async (t) => {
  const err = new Recorder({ isTTY: true });
  let now = 0;
  const terminal = terminalOf(err);
  const view = new Progress(terminal, { now: () => now });
  view.event(started('sample', 1));
  now += 200;
  view.event(progress(150, { loss: 0.712345 }));
  const during = screenOf(err.text);
  t.ok(during.isCursorHidden);
  t.match(during.rows.join('\n'), /sample 1 .*150\/300 responses {2}20\/s {2}ETA 7\.5 s/);
  t.match(during.rows.join('\n'), 'loss 0.7123');
  terminal.note('a line from elsewhere');
  t.match(screenOf(err.text).rows.join('\n'), /^a line from elsewhere\n {2}sample 1/, 'above the block');
  view.event({ type: 'warning', code: 'x', message: 'look', stage: 'sample', iteration: 1 });
  view.event(finished);
  view.stop();
  const after = screenOf(err.text);
  t.notOk(after.isCursorHidden);
  t.strictSame(
    after.rows.filter((row) => row !== '').map((row) => row.replaceAll(/ +/g, ' ')),
    ['a line from elsewhere', 'warning: sample 1: look', '✓ sample 1 C 0.7123, 15 s'],
  );
});

t.test('no row of the block is as wide as the terminal, which would wrap it', async (t) => {
  for (const columns of [20, 40, 60, 80, 200]) {
    const err = new Recorder({ isTTY: true, columns });
    let now = 0;
    const view = new Progress(terminalOf(err), { now: () => now });
    view.event(progress(1, { loss: 1, 'rewards/margins': 2, 'cream/consistency': 0.5, 'cream/tau': 0 }));
    for (const done of [100, 200, 300]) {
      now += 1000;
      view.event(progress(done, { loss: 1, 'rewards/margins': 2, 'cream/consistency': 0.5, 'cream/tau': 0 }));
    }
    const { widest } = screenOf(err.text);
    view.stop();
    t.ok(widest < columns && widest > 0, `${widest} of ${columns} columns`);
  }
});

t.test('a quiet view says warnings only, in a terminal too', async (t) => {
  const err = new Recorder({ isTTY: true });
  const view = new Progress(terminalOf(err, { NO_COLOR: '1' }), { isQuiet: true });
  view.event(started('sample', 1));
  view.event(progress(10));
  view.event(finished);
  t.equal(err.text, '');
  view.event({ type: 'warning', code: 'x', message: 'look' });
  view.stop();
  t.equal(err.text, 'warning: look\n');
});

t.test('NO_COLOR takes the colours and leaves the block; a dumb terminal gets plain lines', async (t) => {
  const colourless = new Recorder({ isTTY: true });
  const view = new Progress(terminalOf(colourless, { NO_COLOR: '1' }));
  view.event(progress(10));
  view.stop();
  t.notOk(/\[\d*m/.test(colourless.text));
  t.match(colourless.text, `${ESCAPE}[?25l`);
  const dumb = new Recorder({ isTTY: true });
  const lines = new Progress(terminalOf(dumb, { TERM: 'dumb' }));
  lines.event(started('train', 2));
  lines.stop();
  t.equal(dumb.text, 'train 2 ... 300 responses\n');
});

t.test('a reader of standard output that has gone is told once and not written to again', async (t) => {
  const out = new Recorder();
  let closed = 0;
  const terminal = new Terminal(out as never, new Recorder() as never, {}, () => {
    closed += 1;
  });
  await terminal.print('one\n');
  out.emit('error', Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
  await terminal.print('two\n');
  t.equal(out.text, 'one\n');
  t.equal(closed, 1);
  t.equal(terminal.failure, undefined, 'a reader that goes away is no failure');
});

t.test('standard output that cannot be written is a failure that says why', async (t) => {
  const out = new Recorder();
  const terminal = new Terminal(out as never, new Recorder() as never, {}, () => undefined);
  out.emit('error', Object.assign(new Error('write ENOSPC'), { code: 'ENOSPC' }));
  await terminal.print('two\n');
  t.equal(out.text, '');
  t.match(terminal.failure, {
    code: 'IO',
    message: 'cannot write standard output: the disk is full [ENOSPC]',
  });
});
