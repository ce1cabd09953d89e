import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { type Browser, chromium } from 'playwright-core';

// A browser of the machine, for tests of pages. playwright-core brings none.

const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];

const executable = (process.env['PATH'] ?? '')
  .split(delimiter)
  .flatMap((folder) => NAMES.map((name) => join(folder, name)))
  .find((path) => existsSync(path));

/** Why tests of pages are skipped; false when they run. */
export const noBrowser = executable === undefined ? 'no Chromium on PATH (apt-get install chromium)' : false;

/** Network is refused, so that a page which asks for something shows it. */
export const launch = (): Promise<Browser> =>
  chromium.launch({
    executablePath: executable!,
    // Root, as in a container, has no sandbox of its own.
    args: [
      ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
      '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
    ],
  });
