import { randomBytes, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { renderPage } from './html.js';
import type { GroupDigest } from './groups.js';
import { versionOf } from './read-run.js';
import { readReport } from './report.js';
import { DEFAULT_SHOWN } from './write-report.js';

// The report of a run as a page that follows it. Loopback alone; every address begins with a secret word, because other
// users of the machine reach the port too; the Host header must be this server's, so that no other site's name can be
// bound to it; and the addresses are a fixed list, so that no path leads to a file.

const HOST = '127.0.0.1';
const POLL_MS = 1_000;
const HEARTBEAT_MS = 15_000;
const MOST_LISTENERS = 32;

const HEADERS = {
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'x-frame-options': 'DENY',
};

export interface Watch {
  /** With the secret word. */
  url: string;
  close(): Promise<void>;
}

export interface WatchOptions {
  /** 0: any free port. */
  port: number;
  shown?: number;
}

/** Serves the report of run folders until it is closed. Throws what readReport() throws, and IO-like errors of the port. */
export async function watchRuns(folders: readonly string[], { port, shown }: WatchOptions): Promise<Watch> {
  const cache = new Map<string, GroupDigest>();
  const read = () => readReport(folders, { shown: shown ?? DEFAULT_SHOWN, cache });
  await read(); // a folder that holds no run is told at once
  const page = await renderPage('live');
  const secret = randomBytes(16).toString('hex');
  const listeners = new Set<ServerResponse>();
  const versions = async () => (await Promise.all(folders.map(versionOf))).join('\n');

  /** One reading at a time, shared by all who ask meanwhile. */
  let reading: { version: string; text: Promise<string> } | undefined;
  const data = async () => {
    const version = await versions();
    if (reading?.version !== version) {
      const text = read().then(JSON.stringify);
      reading = { version, text };
      text.catch(() => {
        reading = undefined;
      });
    }
    return reading.text;
  };

  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => {
      const message = error instanceof Error ? error.message : String(error);
      if (!response.headersSent) send(response, 500, 'text/plain', message);
      else response.destroy();
    });
  });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { port: bound } = server.address() as AddressInfo;
    if (!isOwnHost(request.headers.host, bound)) {
      send(response, 421, 'text/plain', 'this server answers to its own address alone');
      return;
    }
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      send(response, 405, 'text/plain', 'GET or HEAD', { allow: 'GET, HEAD' });
      return;
    }
    const name = nameOf(request.url ?? '', secret);
    if (name === '') send(response, 200, 'text/html; charset=utf-8', page);
    else if (name === 'data') send(response, 200, 'application/json', await data());
    else if (name === 'events') listen(response);
    else send(response, 404, 'text/plain', 'not found; the address that cream watch printed is complete');
  }

  function listen(response: ServerResponse): void {
    if (listeners.size >= MOST_LISTENERS) {
      send(response, 503, 'text/plain', 'too many pages watch this run');
      return;
    }
    response.writeHead(200, { ...HEADERS, 'content-type': 'text/event-stream' });
    response.write('retry: 2000\n\n');
    listeners.add(response);
    response.on('close', () => listeners.delete(response));
  }

  let version = await versions();
  const look = async () => {
    const now = await versions();
    if (now === version) return;
    version = now;
    for (const listener of listeners) listener.write('event: change\ndata: {}\n\n');
  };
  const poll = setInterval(() => void look(), POLL_MS);
  const heartbeat = setInterval(() => {
    for (const listener of listeners) listener.write(': still here\n\n');
  }, HEARTBEAT_MS);

  const stop = () => {
    clearInterval(poll);
    clearInterval(heartbeat);
  };
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, HOST, resolve);
    });
  } catch (error) {
    stop();
    throw error;
  }
  return {
    url: `http://${HOST}:${(server.address() as AddressInfo).port}/${secret}/`,
    close: () =>
      new Promise((resolve) => {
        stop();
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function send(
  response: ServerResponse,
  status: number,
  type: string,
  body: string,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { ...HEADERS, 'content-type': type, ...headers });
  response.end(body); // without the body for HEAD
}

/** 127.0.0.1 or localhost, with this port. */
const isOwnHost = (host: string | undefined, port: number) =>
  host === `${HOST}:${port}` || host === `localhost:${port}`;

/** What stands behind "/SECRET/" in an address; undefined when the secret is another one. */
function nameOf(url: string, secret: string): string | undefined {
  const found = /^\/([0-9a-f]{32})\/([a-z]*)(?:\?|$)/.exec(url);
  if (found === null) return undefined;
  return timingSafeEqual(Buffer.from(found[1]!), Buffer.from(secret)) ? found[2] : undefined;
}
