import { type Lock, lockFolder } from '../../lib/run/lock.js';

// A process that locks folders on request, for test/run/lock.test.ts.

interface Request {
  lock?: string;
  release?: true;
}

let held: Lock | undefined;

process.on('message', (message: Request) => void answer(message));

async function answer(message: Request): Promise<void> {
  if (message.release) {
    await held?.release();
    held = undefined;
    process.send!({ released: true });
    return;
  }
  try {
    held = await lockFolder(message.lock!);
    process.send!({ locked: true });
  } catch (error) {
    const { code, message } = error as { code: string; message: string };
    process.send!({ locked: false, code, message });
  }
}

process.send!('ready');
