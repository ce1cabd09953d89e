import { eachRecord, type Fields, finite, textOf } from './lines.js';
import type { RunStatus, TimelineEntry } from './types.js';

// events.jsonl: when what was done, and how the run stands.

export interface Timeline {
  entries: TimelineEntry[];
  /** What the last word on the run was; undefined where there is none. */
  last?: {
    status: 'started' | 'resumed' | Exclude<RunStatus, 'running' | 'stopped'>;
    code: string;
    message: string;
  };
  warnings: { code: string; message: string }[];
  faulty: number;
}

const STATUSES = new Set(['started', 'resumed', 'finished', 'interrupted', 'failed']);

const labelOf = (event: Fields) =>
  [textOf(event['stage']), finite(event['iteration']) || '', textOf(event['model'])]
    .filter((word) => word !== '')
    .join(' ');

export async function readTimeline(path: string): Promise<Timeline> {
  const entries: TimelineEntry[] = [];
  const warnings: Timeline['warnings'] = [];
  let last: Timeline['last'];
  let open: TimelineEntry | undefined;
  let before = 0;
  const faulty = await eachRecord(path, (event) => {
    const time = Date.parse(textOf(event['time']));
    if (Number.isNaN(time)) return;
    const lastTime = before;
    before = time;
    if (event['type'] === 'warning') {
      warnings.push({ code: textOf(event['code']), message: textOf(event['message']) });
    } else if (event['type'] === 'run' && STATUSES.has(textOf(event['status']))) {
      const status = event['status'] as NonNullable<Timeline['last']>['status'];
      last = { status, code: textOf(event['code']), message: textOf(event['message']) };
      if (open !== undefined) {
        // Of a process that was killed, the last thing that it said is all there is.
        open.end = status === 'started' || status === 'resumed' ? lastTime : time;
        open.isCut = true;
      }
      entries.push({ label: status, stage: 'run', iteration: 0, start: time, end: time, isMark: true });
      open = undefined;
    } else if (event['type'] === 'stage' && event['status'] === 'started') {
      const stage = textOf(event['stage']);
      const iteration = finite(event['iteration']) ?? 0;
      open = { label: labelOf(event), stage, iteration, start: time, end: null };
      entries.push(open);
    } else if (event['type'] === 'stage' && event['status'] === 'finished' && open !== undefined) {
      open.end = time;
      open = undefined;
    }
  });
  return { entries, ...(last === undefined ? {} : { last }), warnings, faulty };
}
