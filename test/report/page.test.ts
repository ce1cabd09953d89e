import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Browser, Page } from 'playwright-core';
import t from 'tap';
import { DEFAULT_SHOWN, writeReport } from '../../lib/report/write-report.js';
import { launch, noBrowser } from '../helpers/chromium.js';
import { group, type MadeRun, makeRun, step } from '../helpers/report-run.js';

// The report in a real browser, opened from disk without a network.

t.setTimeout(120_000);

const root = t.testdir({});
let browser: Browser;
let made = 0;

t.before(async () => {
  if (noBrowser === false) browser = await launch();
});
t.teardown(() => browser?.close());

const WIDTHS = { desk: { width: 1280, height: 900 }, phone: { width: 360, height: 740 } };

interface Opened {
  page: Page;
  /** What went wrong in the page, and what it asked for beside itself. */
  problems: string[];
}

/** Writes the report of run folders and opens it. */
async function open(
  folders: readonly string[],
  { scheme = 'light', size = 'desk' }: { scheme?: 'light' | 'dark'; size?: keyof typeof WIDTHS } = {},
): Promise<Opened> {
  made += 1;
  const path = join(root, `report-${made}.html`);
  await writeReport(folders, path, { shown: DEFAULT_SHOWN });
  const page = await browser.newPage({ viewport: WIDTHS[size], colorScheme: scheme });
  const url = pathToFileURL(path).href;
  const problems: string[] = [];
  page.on('pageerror', ({ message }) => problems.push(message));
  page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
  page.on('dialog', (dialog) => {
    problems.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on('request', (request) => request.url() !== url && problems.push(`request: ${request.url()}`));
  await page.goto(url);
  return { page, problems };
}

const make = (name: string, run: Omit<MadeRun, 'folder'>) =>
  makeRun({ folder: join(root, 'runs', name), ...run });
const tab = (page: Page, name: string) => page.getByRole('tab', { name, exact: true }).click();

const steps = (iterations: number, each: number) =>
  Array.from({ length: iterations * each }, (_, row) =>
    step(`iteration-${Math.floor(row / each) + 1}/train`, (row % each) + 1, {
      loss: 0.7 - (0.3 * (row % each)) / each,
      'rewards/margins': row / 50,
      'rewards/chosen': row / 90,
      'rewards/rejected': -row / 100,
    }),
  );

/** A run of three iterations with everything in it. */
const full = (name: string, changes: Partial<MadeRun> = {}) =>
  make(name, {
    iterations: [1, 2, 3].map((t) =>
      Array.from({ length: 25 }, (_, i) => group(`t${t}-g${i}`, { tau: i % 5 === 0 ? -1 / 3 : 2 / 3 })),
    ),
    accuracies: [0.3, 0.4, 0.5, 0.45, 0.3],
    steps: [step('sft', 1), step('sft', 2), ...steps(3, 30)],
    ...changes,
  });

/** Pixels of a canvas that are not empty, by colour: the number of different ones and of all. */
const painted = (page: Page, chart: number) =>
  page
    .locator('.plot canvas')
    .nth(chart)
    .evaluate((element) => {
      const canvas = element as HTMLCanvasElement;
      const { data } = canvas.getContext('2d')!.getImageData(0, 0, canvas.width, canvas.height);
      const colors = new Map<string, number>();
      for (let i = 0; i < data.length; i += 4) {
        if ((data[i + 3] ?? 0) < 200) continue;
        const color = `${data[i]},${data[i + 1]},${data[i + 2]}`;
        colors.set(color, (colors.get(color) ?? 0) + 1);
      }
      return Object.fromEntries(colors);
    });

const skip = { skip: noBrowser };

t.test('charts are drawn: every curve is on its canvas in its colour', skip, async (t) => {
  const { page, problems } = await open([full('charts')]);
  await tab(page, 'Curves');
  await page.waitForFunction(() => document.querySelectorAll('.plot canvas').length >= 8);
  const rewards = await painted(page, 0);
  for (const name of ['series-1', 'series-2', 'series-3']) {
    const color = await page.evaluate((variable) => {
      const probe = document.createElement('i');
      probe.style.color = `var(--${variable})`;
      document.body.append(probe);
      return getComputedStyle(probe).color.replace(/^rgb\(|\)$| /g, '');
    }, name);
    t.ok((rewards[color] ?? 0) > 100, `${name}: ${rewards[color]} pixels of ${color}`);
  }
  t.strictSame(await page.locator('.chart h3').allTextContents(), [
    'Rewards',
    'Log-probs',
    'Loss',
    'Pairs ranked right',
    'Gradient norm',
    'Learning rate',
    'Weight and consistency',
    'SFT: loss',
    'SFT: gradient norm',
    'SFT: learning rate',
  ]);
  t.equal(await page.locator('.plot canvas').count(), 10, 'one each, also below the fold');

  const before = await painted(page, 0);
  await page.locator('.chart').first().getByRole('button', { name: 'margin' }).click();
  const after = await painted(page, 0);
  t.not(JSON.stringify(after), JSON.stringify(before), 'a click on a name hides its curve');
  await page.locator('input[type=range]').fill('0.9');
  await page.waitForFunction(() => document.querySelectorAll('.plot canvas').length >= 1);
  t.not(JSON.stringify(await painted(page, 2)), '{}', 'smoothed curves are drawn');
  t.strictSame(problems, []);
});

t.test('tabs show their part, by mouse, by keyboard and by address', skip, async (t) => {
  const { page, problems } = await open([full('tabs')]);
  t.equal(await page.locator('.light').count(), 17);
  t.match(
    await page.locator('.verdict .line').textContent(),
    /^Finished: 3 iterations\. M4 answers 30 % right/,
  );
  const models = page.getByRole('region', { name: 'models' });
  t.equal(await models.locator('tbody tr').count(), 5, 'M0 to M4');
  t.match(await models.locator('tbody tr').nth(1).textContent(), /^M10\.400 \[0\.37, 0\.43\]/);

  const seen = {
    Rankings: '.figure',
    Samples: '.group',
    Settings: 'table.settings',
    Lineage: 'table.inputs',
    Timeline: '.timeline .bar',
    Overview: '.light',
  };
  for (const [name, selector] of Object.entries(seen)) {
    await tab(page, name);
    t.ok(await page.locator(selector).first().isVisible(), name);
    t.equal(await page.getByRole('tab', { selected: true }).textContent(), name);
  }
  await page.keyboard.press('ArrowRight');
  t.equal(await page.getByRole('tab', { selected: true }).textContent(), 'Curves');
  await page.goto(`${page.url().split('#')[0]}#rankings`);
  t.equal(await page.getByRole('tab', { selected: true }).textContent(), 'Rankings');
  t.equal(await page.locator('rect.band').count(), 4, 'the null band behind C and behind every histogram');
  t.match(
    await page.locator('.card', { hasText: 'responses of M1' }).first().textContent(),
    /random ±0\.491/,
  );

  await tab(page, 'Overview');
  await page.locator('.light.bad summary').first().click();
  t.ok(await page.locator('.light.bad p').first().isVisible(), 'a light tells how it is judged');
  t.strictSame(problems, []);
});

t.test('the sample browser pages, searches, filters and sorts', skip, async (t) => {
  const { page, problems } = await open([full('samples')]);
  await tab(page, 'Samples');
  const ids = () => page.locator('.group header code').allTextContents();
  t.strictSame(
    await ids(),
    Array.from({ length: 10 }, (_, i) => `t3-g${i}`),
  );
  await page.getByRole('button', { name: 'next' }).first().click();
  t.strictSame(
    await ids(),
    Array.from({ length: 10 }, (_, i) => `t3-g${i + 10}`),
  );
  t.match(await page.locator('.pager span').first().textContent(), 'page 2 of 3, 25 groups');

  await page.getByLabel('iteration').selectOption('1');
  t.equal((await ids())[0], 't1-g0');
  await page.getByLabel('search').fill('QUESTION t1-g17');
  t.strictSame(await ids(), ['t1-g17']);
  await page.getByLabel('search').fill('no such thing');
  t.strictSame(await ids(), []);
  await page.getByLabel('search').fill('');
  await page.getByLabel('show').selectOption('below');
  t.strictSame(await ids(), ['t1-g0', 't1-g5', 't1-g10', 't1-g15', 't1-g20']);
  await page.getByLabel('show').selectOption('all');
  await page.getByLabel('order').selectOption('lowest');
  t.strictSame((await ids()).slice(0, 5), ['t1-g0', 't1-g5', 't1-g10', 't1-g15', 't1-g20']);

  const first = page.locator('.group').first();
  t.strictSame(await first.locator('.text').allTextContents(), ['one', 'two', 'three', 'four']);
  t.strictSame(
    await first.locator('li').evaluateAll((items: Element[]) => items.map(({ className }) => className)),
    ['chosen', '', '', 'rejected'],
  );
  t.match(await first.locator('li').nth(2).textContent(), /place 3, before 4/, 'both rankings');
  t.equal(await first.locator('.slopes line').count(), 4);
  t.strictSame(problems, []);
});

t.test('hostile text stays text, in every part of the page', skip, async (t) => {
  const evil = '</script><script>alert(1)</script><img src=x onerror=alert(2)><!--';
  const odd = 'line\u2028separator\u2029 \u202Eright to left\u202C \u0000\uD800 {{y}}';
  const nasty = group(`id ${evil}`, {
    prompt: [
      { role: evil, content: odd },
      { role: 'user', content: evil },
    ],
    label: evil,
    texts: [evil, odd, 'שלום <b>עולם</b>', '<svg onload=alert(3)>'],
  });
  const dangerous = '<img src=x onerror=alert(4)>';
  const folder = make(dangerous, {
    iterations: [[nasty]],
    accuracies: [0.5, 0.5, 0.5],
    steps: [step('sft', 1), step(`iteration-1/train${evil}`, 1, { [evil]: 1 })],
    config: { data: { prompts: `/data/${evil}`, evaluation: [{ name: 'task', path: evil }] } },
    origins: { iterations: evil, seed: evil },
    events: [
      { type: 'warning', code: evil, message: evil },
      { type: 'stage', status: 'started', stage: evil, iteration: 1, model: evil },
    ],
    last: { status: 'failed', code: evil, message: evil },
  });
  const { page, problems } = await open([folder, full('beside')]);
  for (const name of ['Overview', 'Curves', 'Rankings', 'Samples', 'Settings', 'Lineage', 'Timeline']) {
    await tab(page, name);
    t.equal(await page.locator('img, b b, svg[onload], #app script').count(), 0, name);
  }
  await tab(page, 'Samples');
  const texts = await page.locator('.group .text').allTextContents();
  t.ok(texts.includes(evil), 'shown as it is');
  t.ok(texts.includes('שלום <b>עולם</b>'));
  t.ok(texts.some((text) => text.includes('\u2028separator\u2029')));
  t.match(await page.locator('.verdict b').first().textContent(), dangerous);
  t.strictSame(
    await page
      .locator('.group .text')
      .evaluateAll((all: Element[]) => [...new Set(all.map((one) => one.getAttribute('dir')))]),
    ['auto'],
    'right-to-left text stands on its own side',
  );
  t.strictSame(problems, []);
});

t.test('a script that is not the page’s own does not run', skip, async (t) => {
  const { page } = await open([full('policy')]);
  await page.evaluate(() => {
    const script = document.createElement('script');
    script.textContent = 'window.intruder = true';
    document.body.append(script);
  });
  t.equal(await page.evaluate(() => 'intruder' in window), false);
});

t.test('light and dark follow the system, and the button', skip, async (t) => {
  const folder = full('themes');
  const backgrounds = [];
  for (const scheme of ['light', 'dark'] as const) {
    const { page, problems } = await open([folder], { scheme });
    const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    backgrounds.push(await background());
    await tab(page, 'Curves');
    await page.waitForFunction(() => document.querySelectorAll('.plot canvas').length > 0);
    const before = Object.keys(await painted(page, 0));
    for (const theme of ['light', 'dark']) {
      await page.locator('.theme').click();
      t.equal(await page.locator('.theme').textContent(), `theme: ${theme}`);
    }
    t.equal(await background(), 'rgb(18, 21, 26)');
    const after = Object.keys(await painted(page, 0));
    if (scheme === 'light') t.notMatch(after, before, 'curves take the colours of the theme');
    t.strictSame(problems, []);
  }
  t.strictSame(backgrounds, ['rgb(245, 246, 248)', 'rgb(18, 21, 26)']);
});

t.test('on a phone nothing is wider than the screen', skip, async (t) => {
  const long = group('x'.repeat(300), {
    texts: ['y'.repeat(5000), 'a b', 'c', 'd'],
    prompt: 'z'.repeat(3000),
  });
  const name = 'a-very-long-name-of-a-run-'.repeat(8);
  const folder = make(name, {
    iterations: [[long]],
    accuracies: [0.5, 0.5, 0.5],
    steps: steps(1, 30),
    config: { data: { prompts: `/${'p'.repeat(400)}`, evaluation: [{ name: 't'.repeat(64), path: 'x' }] } },
    events: [{ type: 'warning', code: 'w'.repeat(100), message: 'm'.repeat(500) }],
  });
  for (const folders of [[folder], [folder, full('short')]]) {
    const { page, problems } = await open(folders, { size: 'phone' });
    for (const part of ['Overview', 'Curves', 'Rankings', 'Samples', 'Settings', 'Lineage', 'Timeline']) {
      await tab(page, part);
      await page.waitForTimeout(50);
      const width = await page.evaluate(() => document.documentElement.scrollWidth);
      t.ok(width <= WIDTHS.phone.width, `${part}: ${width}`);
    }
    t.strictSame(problems, []);
  }
});

t.test('100,000 steps are drawn', skip, async (t) => {
  const folder = full('many', { steps: steps(2, 50_000) });
  made += 1;
  const path = join(root, `report-${made}.html`);
  await writeReport([folder], path, { shown: DEFAULT_SHOWN });
  const page = await browser.newPage({ viewport: WIDTHS.desk });
  await page.goto(`${pathToFileURL(path).href}#curves`);
  await page.waitForFunction(() => document.querySelectorAll('.plot canvas').length >= 3);
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => done(null))));
  t.ok(Object.keys(await painted(page, 0)).length > 3);
});

t.test('runs lie over each other, each in its colour', skip, async (t) => {
  const other = full('other', {
    config: { beta: 0.5 },
    accuracies: [0.3, 0.4, 0.6, 0.7, 0.8],
    steps: steps(3, 20),
  });
  const { page, problems } = await open([full('one'), other]);
  t.match(
    await page.locator('.comparison').textContent(),
    /^Last models: other 80 %, one 30 %\. other is better/,
  );
  t.equal(await page.locator('.lights-table tbody tr').count(), 17);
  await tab(page, 'Curves');
  const loss = page.locator('.chart', { has: page.getByRole('heading', { name: 'Loss', exact: true }) });
  t.match(await loss.locator('.legend span').allTextContents(), ['one', 'other']);
  await tab(page, 'Settings');
  t.strictSame(await page.locator('table.settings tbody tr td:first-child').allTextContents(), ['beta']);
  await tab(page, 'Samples');
  await page.getByLabel('run', { exact: true }).selectOption('1');
  t.ok(await page.locator('.group').first().isVisible());
  t.strictSame(problems, []);
});

t.test('runs of every kind are drawn', skip, async (t) => {
  const bare = join(root, 'runs', 'bare');
  mkdirSync(bare, { recursive: true });
  writeFileSync(join(bare, 'run.json'), '{}');
  const damaged = full('damaged');
  writeFileSync(
    join(damaged, 'manifest.json'),
    JSON.stringify({
      stages: [
        {
          key: 'iteration-1/rank',
          record: { result: { consistency: { mean: 'x', interval: 7, nullBand: [] } } },
        },
        { key: 'iteration-1/sample:M1', record: { result: { prompts: {}, meanResponseTokens: 'many' } } },
        { key: 'evaluate:M0', record: { result: { tasks: [{ name: 3, greedy: { accuracy: 'x' } }] } } },
      ],
    }),
  );
  const kinds = {
    'with run.json alone': bare,
    'before its first iteration': make('young', { last: undefined }),
    'of one iteration and one step': make('single', { iterations: [[group('a')]], steps: steps(1, 1) }),
    'that failed': full('broken', { last: { status: 'failed', code: 'NO_PAIRS', message: 'none' } }),
    'that is damaged': damaged,
  };
  for (const [kind, folder] of Object.entries(kinds)) {
    const { page, problems } = await open([folder]);
    for (const name of ['Curves', 'Rankings', 'Samples', 'Settings', 'Lineage', 'Timeline', 'Overview']) {
      await tab(page, name);
      const text = await page.locator('#panel').textContent();
      t.ok((text ?? '').length > 10, `a run ${kind}: ${name}`);
      if (kind !== 'that is damaged') t.notMatch(text, 'could not be drawn');
    }
    t.strictSame(problems, [], kind);
  }
});
