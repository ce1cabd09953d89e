import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { packageRoot } from '../package.js';
import type { ReportData } from './types.js';

// One HTML file: style, uPlot, the page's scripts and the data, with nothing to fetch. Data is text in a block that no
// browser runs, and the page's policy lets no script run but the one that is named by its digest.

/** In the order of their use: each may use those before it. */
const MODULES = [
  'dom',
  'format',
  'decode',
  'colors',
  'lines',
  'bars',
  'overview',
  'curves',
  'rankings',
  'samples',
  'details',
  'main',
] as const;

const STYLES = ['theme', 'layout', 'parts'] as const;

const folder = () => join(packageRoot(), 'lib', 'report', 'page');

/** The page's modules as one script: imports go, exports become plain declarations. */
export function joinModules(sources: readonly string[]): string {
  const bodies = sources.map((source) =>
    source.replaceAll(/^import\s[\s\S]*?from '\.\/[\w-]+\.js';\n/gm, '').replaceAll(/^export /gm, ''),
  );
  return `'use strict';\n(() => {\n${bodies.join('\n')}\nstart();\n})();`;
}

/** For use inside <script>: no end tag, no comment, no line separator that old parsers refuse. */
export const scriptJson = (value: unknown): string =>
  JSON.stringify(value)
    .replaceAll('<', '\\u003c')
    .replaceAll('>', '\\u003e')
    .replaceAll('\u2028', '\\u2028')
    .replaceAll('\u2029', '\\u2029');

export const escapeHtml = (text: string): string =>
  text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;');

interface Assets {
  script: string;
  style: string;
  digest: string;
}

/** Read once; the files belong to the package. */
let assets: Promise<Assets> | undefined;

async function readAssets(): Promise<Assets> {
  const uplot = createRequire(import.meta.url).resolve('uplot/dist/uPlot.iife.min.js');
  const text = (path: string) => readFile(path, 'utf8');
  const [library, libraryStyle] = await Promise.all([
    text(uplot),
    text(uplot.replace('uPlot.iife.min.js', 'uPlot.min.css')),
  ]);
  const styles = await Promise.all(STYLES.map((name) => text(join(folder(), `${name}.css`))));
  const modules = await Promise.all(MODULES.map((name) => text(join(folder(), `${name}.js`))));
  const script = `${library}\n${joinModules(modules)}`;
  if (script.includes('</script')) throw new Error('the page script holds its own end tag');
  return {
    script,
    style: [libraryStyle, ...styles].join('\n'),
    digest: createHash('sha256').update(script).digest('base64'),
  };
}

/**
 * The page. With `live` it holds no data and asks the server that it came from, at the address beside its own;
 * without, it is complete.
 */
export async function renderPage(data: ReportData | 'live'): Promise<string> {
  assets ??= readAssets();
  const { script, style, digest } = await assets;
  const isLive = data === 'live';
  const title = isLive ? 'cream watch' : `${data.runs.map(({ name }) => name).join(', ')} · cream report`;
  const policy = [
    "default-src 'none'",
    `script-src 'sha256-${digest}'`,
    "style-src 'unsafe-inline'",
    ...(isLive ? ["connect-src 'self'"] : []),
    "base-uri 'none'",
    "form-action 'none'",
  ].join('; ');
  const verdicts = isLive
    ? ''
    : data.runs.map(({ name, verdict }) => `<p>${escapeHtml(name)}: ${escapeHtml(verdict)}</p>`).join('\n');
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>${escapeHtml(title)}</title>
<style>
${style}
</style>
</head>
<body>
<div id="app"></div>
<noscript><p>The charts and tables of this report need JavaScript; the file fetches nothing.</p>
${verdicts}
</noscript>
<script type="application/json" id="data">${isLive ? '"live"' : scriptJson(data)}</script>
<script>${script}</script>
</body>
</html>
`;
}
