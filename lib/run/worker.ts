import { execute } from './execute.js';
import { type ToHost, type ToWorker, toPlainError } from './messages.js';
import { dieWithParent, tuneMalloc } from '../native/model.js';

// The engine process: one run, started and watched by lib/run/host.ts.

const controller = new AbortController();

const send = (message: ToHost) =>
  new Promise<void>((resolve) => {
    if (process.send === undefined) resolve();
    else process.send(message, undefined, {}, () => resolve()); // a host that is gone shows itself by 'disconnect'
  });

// Ctrl-C in a terminal reaches this process too; it is the host's to decide.
process.on('SIGINT', () => undefined);
for (const name of ['SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGXCPU'] as const)
  process.on(name, () => controller.abort());

// Nobody waits for the result any more. Ends at once, also in the middle of native work; nothing is half-committed.
const onDisconnect = () => process.kill(process.pid, 'SIGKILL');
process.on('disconnect', onDisconnect);

process.on('message', (message: ToWorker) => {
  if (message.type === 'abort') {
    controller.abort();
    return;
  }
  const { config, resume, origins } = message;
  execute(config, {
    resume,
    origins,
    signal: controller.signal,
    emit: (event) => void send({ type: 'event', event }),
  })
    .then(
      (summary) => send({ type: 'result', summary }),
      (error: unknown) => send({ type: 'error', error: toPlainError(error) }),
    )
    .finally(() => {
      process.off('disconnect', onDisconnect);
      process.disconnect();
      process.exit(0);
    });
});

dieWithParent();
tuneMalloc();
