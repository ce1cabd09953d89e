import { appendFileSync, writeFileSync } from 'node:fs';
import { request, type IncomingHttpHeaders } from 'node:http';
import { join } from 'node:path';
import { spawn } from 'node:child_process';
import t from 'tap';
import { type Watch, watchRuns } from '../../lib/report/watch.js';
import type { ReportData } from '../../lib/report/types.js';
import { launch, noBrowser } from '../helpers/chromium.js';
import { plainEnvironment, PROGRAM } from '../helpers/cream.js';
import { group, makeRun, step } from '../helpers/report-run.js';

// cream watch: what it serves, to whom, and that the page follows the run.

t.setTimeout(60_000);

const folder = makeRun({
  folder: join(t.testdir({}), 'run'),
  iterations: [[group('a')]],
  steps: [step('iteration-1/train', 1)],
});
let watch: Watch;
t.before(async () => {
  watch = await watchRuns([folder], { port: 0 });
});
t.teardown(() => watch.close());

interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
}

function ask(path: string, options: { method?: string; host?: string } = {}): Promise<Answer> {
  const { port } = new URL(watch.url);
  return new Promise((resolve, reject) => {
    const call = request(
      {
        host: '127.0.0.1',
        port,
        path,
        method: options.method ?? 'GET',
        headers: { host: options.host ?? `127.0.0.1:${port}` },
      },
      (response) => {
        let body = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          body += chunk;
        });
        response.on('end', () => resolve({ status: response.statusCode!, headers: response.headers, body }));
      },
    );
    call.on('error', reject);
    call.end();
  });
}

t.test('the page and its data are served under the secret address alone', async (t) => {
  const { pathname, hostname } = new URL(watch.url);
  t.equal(hostname, '127.0.0.1');
  t.match(pathname, /^\/[0-9a-f]{32}\/$/);
  const page = await ask(pathname);
  t.equal(page.status, 200);
  t.match(page.headers, {
    'content-type': /^text\/html/,
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    'x-frame-options': 'DENY',
    'cross-origin-resource-policy': 'same-origin',
  });
  t.notOk(page.headers['access-control-allow-origin']);
  t.match(page.body, "connect-src 'self'");
  t.notMatch(page.body, 'question a', 'the page itself holds no data');
  const data = JSON.parse((await ask(`${pathname}data`)).body) as ReportData;
  t.equal(data.runs[0]?.name, 'run');
  t.equal((await ask(pathname, { method: 'HEAD' })).body, '');
  for (const path of [
    '/',
    '/data',
    `/${'0'.repeat(32)}/`,
    `/${'0'.repeat(32)}/data`,
    pathname.slice(0, -2),
    '//',
  ]) {
    t.equal((await ask(path)).status, 404, path);
  }
});

t.test('no path leads to a file', async (t) => {
  const { pathname } = new URL(watch.url);
  for (const path of [
    '../run.json',
    '..%2frun.json',
    'run.json',
    '%2e%2e/%2e%2e/etc/passwd',
    'data/../run.json',
    'data%00',
    'DATA',
  ]) {
    const { status, body } = await ask(pathname + path);
    t.equal(status, 404, path);
    t.notMatch(body, /version|root:/);
  }
});

t.test('another name for this address is refused: DNS rebinding gets nothing', async (t) => {
  const { pathname, port } = new URL(watch.url);
  for (const host of [
    'evil.example',
    `evil.example:${port}`,
    '127.0.0.1',
    `127.0.0.1:${Number(port) + 1}`,
    `localhost.evil:${port}`,
  ]) {
    t.equal((await ask(`${pathname}data`, { host })).status, 421, host);
  }
  t.equal((await ask(`${pathname}data`, { host: `localhost:${port}` })).status, 200);
  t.equal((await ask(`${pathname}data`, { method: 'POST' })).status, 405);
});

t.test('a folder that is no run is refused', async (t) => {
  await t.rejects(watchRuns([t.testdir({})], { port: 0 }), { code: 'INVALID_ARGUMENT' });
});

t.test('the page follows the run', { skip: noBrowser }, async (t) => {
  const browser = await launch();
  t.teardown(() => browser.close());
  const page = await browser.newPage();
  const problems: string[] = [];
  page.on('pageerror', ({ message }) => problems.push(message));
  await page.goto(watch.url);
  await page.getByText('Finished: 1 iteration').waitFor();
  t.match(await page.locator('#stamp').textContent(), /live$/);
  await page.getByRole('tab', { name: 'Timeline' }).click();

  const event = {
    time: '2026-01-02T03:05:00.000Z',
    type: 'run',
    status: 'failed',
    code: 'IO',
    message: 'the disk is full',
  };
  appendFileSync(join(folder, 'events.jsonl'), `${JSON.stringify(event)}\n`);
  await page.getByText('the disk is full').waitFor({ timeout: 10_000 });
  t.equal(await page.getByRole('tab', { selected: true }).textContent(), 'Timeline', 'the tab stays');

  await page.getByRole('tab', { name: 'Samples' }).click();
  await page.getByLabel('search').fill('quest');
  appendFileSync(join(folder, 'events.jsonl'), `${JSON.stringify({ ...event, message: 'again' })}\n`);
  await page.getByText('again').waitFor({ timeout: 10_000 });
  t.equal(await page.getByLabel('search').inputValue(), 'quest', 'somebody who types is not disturbed');
  t.strictSame(problems, []);
});

t.test('the command prints the address and ends with 0 at Ctrl-C', async (t) => {
  const child = spawn(process.execPath, [PROGRAM, 'watch', folder], { env: plainEnvironment() });
  t.teardown(() => child.kill('SIGKILL'));
  let output = '';
  const printed = new Promise<string>((resolve) => {
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString();
      if (output.includes('\n')) resolve(output.trim());
    });
  });
  const url = await printed;
  t.match(url, /^http:\/\/127\.0\.0\.1:\d+\/[0-9a-f]{32}\/$/);
  t.equal((await fetch(url)).status, 200);
  const ended = new Promise((resolve) => {
    child.on('exit', (code, signal) => resolve({ code, signal }));
  });
  child.kill('SIGINT');
  t.strictSame(await ended, { code: 0, signal: null });
});

t.test('a port that is in use is named', async (t) => {
  const { port } = new URL(watch.url);
  const child = spawn(process.execPath, [PROGRAM, 'watch', folder, '--port', port], {
    env: plainEnvironment(),
  });
  let output = '';
  child.stderr.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  const code = await new Promise((resolve) => {
    child.on('exit', resolve);
  });
  t.equal(code, 2);
  t.match(output, `port ${port} is in use; name another one`);
});

t.test('the data is read again only when the run has gone on', async (t) => {
  const { pathname } = new URL(watch.url);
  const stamp = async () => (JSON.parse((await ask(`${pathname}data`)).body) as ReportData).generated;
  const first = await stamp();
  t.equal(await stamp(), first);
  writeFileSync(join(folder, 'summary.json'), '{}');
  t.not(await stamp(), first);
});
