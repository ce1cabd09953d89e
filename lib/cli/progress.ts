import type { ProgressEvent, RunEvent, Stage, StageEvent } from '../run/events.js';
import { formatCount, formatDuration, formatMetrics, formatRate } from './format.js';
import type { Terminal } from './terminal.js';

const HIDE_CURSOR = '\u001B[?25l';
const SHOW_CURSOR = '\u001B[?25h';
const CLEAR_BELOW = '\u001B[0J';

/** Between two drawings of the live block, and between two lines of a log. */
const FRAME_MS = 100;
const LOG_MS = 5000;
const BAR_CELLS = 24;

/** Stages that end before anyone could read that they began. */
const INSTANT: ReadonlySet<Stage> = new Set(['rank', 'pair']);

interface Current {
  stage: Stage;
  iteration: number;
  model?: string;
  startedMs: number;
  progress?: ProgressEvent;
  metrics?: Readonly<Record<string, number>>;
}

/**
 * Shows a stream of run events on standard error: in a terminal as a block that is redrawn in place below the lines
 * that stay, elsewhere as plain lines, one every few seconds. Finished stages and warnings are lines in both.
 */
export class Progress {
  readonly #terminal: Terminal;
  readonly #isQuiet: boolean;
  readonly #isLive: boolean;
  readonly #now: () => number;
  readonly #startedMs: number;
  #idleSinceMs: number;
  readonly #restore = (): void => this.#terminal.draw(SHOW_CURSOR);
  #current: Current | undefined;
  #drawnRows = 0;
  #drawnMs = 0;
  #loggedMs = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(terminal: Terminal, options: { isQuiet?: boolean; isLive?: boolean; now?: () => number } = {}) {
    this.#terminal = terminal;
    this.#isQuiet = options.isQuiet ?? false;
    this.#isLive = !this.#isQuiet && (options.isLive ?? terminal.isLive);
    this.#now = options.now ?? (() => performance.now());
    this.#startedMs = this.#now();
    this.#idleSinceMs = this.#startedMs;
    if (!this.#isLive) return;
    terminal.setBlock({ hide: () => this.#erase(), show: () => this.#draw() });
    terminal.draw(HIDE_CURSOR);
    process.once('exit', this.#restore);
    this.#timer = setInterval(() => this.#draw(), 1000);
    this.#timer.unref();
  }

  event(event: RunEvent): void {
    switch (event.type) {
      case 'run':
        if (event.status === 'finished') this.#leave();
        else this.#say(`${event.status === 'resumed' ? 'continuing' : 'starting'} in ${event.directory}`);
        return;
      case 'stage':
        this.#onStage(event);
        return;
      case 'progress':
        this.#onProgress(event);
        return;
      case 'metrics':
        if (this.#current?.stage === event.stage) this.#current.metrics = event.metrics;
        this.#refresh();
        return;
      case 'warning':
        this.#terminal.note(`${this.#terminal.style('yellow', 'warning:')} ${where(event)}${event.message}`);
        return;
      case 'choice':
        this.#say(`${event.setting}: ${event.value} (auto: ${event.because})`);
        return;
      case 'plan': // a line of events.jsonl; a screen has no room for a table
        return;
      case 'summary':
        this.#leave();
        return;
    }
  }

  /** Removes the block and gives the cursor back. */
  stop(): void {
    this.#leave();
    clearInterval(this.#timer);
    if (!this.#isLive) return;
    this.#terminal.setBlock(undefined);
    process.off('exit', this.#restore);
    this.#restore();
  }

  #onStage(event: StageEvent): void {
    if (event.status === 'started') {
      this.#current = {
        stage: event.stage,
        iteration: event.iteration,
        startedMs: this.#now(),
        ...(event.model !== undefined && { model: event.model }),
      };
      this.#loggedMs = this.#now();
      if (this.#isLive) this.#draw();
      else if (!INSTANT.has(event.stage))
        this.#say(
          `${nameOf(event)} ...${event.total === undefined ? '' : ` ${formatCount(event.total)} ${event.unit ?? ''}`}`,
        );
      return;
    }
    const seconds =
      event.seconds ??
      (this.#current === undefined ? undefined : (this.#now() - this.#current.startedMs) / 1000);
    this.#leave();
    const [mark, style] =
      event.status === 'skipped'
        ? (['-', 'dim'] as const)
        : ([this.#terminal.isUnicode ? '✓' : '*', 'green'] as const);
    const facts = [
      ...(event.status === 'skipped' ? ['already done'] : []),
      ...(event.total === undefined ? [] : [`${formatCount(event.total)} ${event.unit ?? ''}`.trim()]),
      ...(event.metrics === undefined ? [] : [formatMetrics(event.metrics)]),
      ...(event.status === 'skipped' || seconds === undefined ? [] : [formatDuration(seconds)]),
    ].filter((fact) => fact !== '');
    this.#say(
      `${this.#terminal.style(style, mark)} ${nameOf(event).padEnd(18)} ${facts.join(', ')}`.trimEnd(),
    );
  }

  #onProgress(event: ProgressEvent): void {
    const { stage, iteration } = event;
    const isSame = this.#current?.stage === stage && this.#current.iteration === iteration;
    if (!isSame || event.done < (this.#current?.progress?.done ?? 0)) {
      // Work that did not announce itself began when the last one was seen to end.
      this.#current = { stage, iteration, startedMs: this.#idleSinceMs };
      this.#loggedMs = Math.max(this.#loggedMs, this.#idleSinceMs);
    }
    if (event.done >= event.total) this.#idleSinceMs = this.#now();
    if (this.#current === undefined) return;
    this.#current.progress = event;
    if (event.metrics !== undefined) this.#current.metrics = event.metrics;
    this.#refresh();
  }

  #refresh(): void {
    const now = this.#now();
    if (this.#isLive) {
      if (now - this.#drawnMs >= FRAME_MS) this.#draw();
      return;
    }
    if (this.#current?.progress === undefined || now - this.#loggedMs < LOG_MS) return;
    this.#loggedMs = now;
    const { progress, metrics } = this.#current;
    const parts = [
      `${nameOf(this.#current)}  ${this.#counts(progress)}`,
      ...(metrics === undefined ? [] : [formatMetrics(metrics)]),
    ];
    this.#say(parts.filter((part) => part !== '').join('  '));
  }

  #say(line: string): void {
    if (!this.#isQuiet) this.#terminal.note(line);
  }

  #leave(): void {
    this.#erase();
    this.#current = undefined;
  }

  #erase(): void {
    if (this.#drawnRows === 0) return;
    this.#terminal.draw(`\r${this.#drawnRows > 1 ? `\u001B[${this.#drawnRows - 1}A` : ''}${CLEAR_BELOW}`);
    this.#drawnRows = 0;
  }

  #draw(): void {
    if (!this.#isLive || this.#current === undefined) return;
    this.#erase();
    const rows = this.#rows(this.#current);
    this.#terminal.draw(rows.join('\n'));
    this.#drawnRows = rows.length;
    this.#drawnMs = this.#now();
  }

  /** Never wider than the terminal: a wrapped row could not be erased. */
  #rows(current: Current): string[] {
    const width = this.#terminal.columns - 1;
    const elapsed = formatDuration((this.#now() - this.#startedMs) / 1000);
    const name = nameOf(current);
    const { progress, metrics } = current;
    const counts =
      progress === undefined
        ? formatDuration((this.#now() - current.startedMs) / 1000)
        : this.#counts(progress);
    const plain = `  ${name}  ${counts}`;
    const room = width - plain.length - 2;
    const cells = Math.min(BAR_CELLS, room);
    const first =
      progress === undefined || progress.total <= 0 || cells < 8
        ? plain.slice(0, width)
        : `  ${this.#terminal.style('bold', name)}  ${this.#bar(progress.done / progress.total, cells)}  ${counts}`;
    const second = `  ${[...(metrics === undefined ? [] : [formatMetrics(metrics)]), `elapsed ${elapsed}`].join('  ')}`;
    return [first, this.#terminal.style('dim', second.slice(0, width))];
  }

  #bar(share: number, cells: number): string {
    const full = Math.round(Math.min(1, Math.max(0, share)) * cells);
    const [on, off] = this.#terminal.isUnicode ? ['━', '─'] : ['#', '.'];
    return (
      this.#terminal.style('cyan', on.repeat(full)) + this.#terminal.style('dim', off.repeat(cells - full))
    );
  }

  #counts(progress: ProgressEvent): string {
    const parts = [`${formatCount(progress.done)}/${formatCount(progress.total)} ${progress.unit}`];
    const seconds = (this.#now() - (this.#current?.startedMs ?? this.#startedMs)) / 1000;
    const perSecond = progress.perSecond ?? (seconds > 0 ? progress.done / seconds : 0);
    if (perSecond > 0) {
      parts.push(formatRate(perSecond));
      if (progress.done < progress.total)
        parts.push(`ETA ${formatDuration((progress.total - progress.done) / perSecond)}`);
    }
    return parts.join('  ');
  }
}

function nameOf(event: { stage: Stage; iteration: number; model?: string }): string {
  const iteration = event.iteration > 0 ? ` ${event.iteration}` : '';
  return `${event.stage}${iteration}${event.model === undefined ? '' : ` ${event.model}`}`;
}

function where(event: { stage?: Stage; iteration?: number }): string {
  if (event.stage === undefined) return '';
  return `${nameOf({ stage: event.stage, iteration: event.iteration ?? 0 })}: `;
}
