// npm run test:matrix -- NAME [options]: compares the product with other software on many inputs. Each NAME.mjs here is one.

import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const HERE = dirname(fileURLToPath(import.meta.url));
const [name = '', ...args] = process.argv.slice(2);
const path = join(HERE, `${name}.mjs`);
if (!/^[\w-]+$/.test(name) || name === 'run' || !existsSync(path)) {
  const names = readdirSync(HERE)
    .filter((file) => file.endsWith('.mjs') && file !== 'run.mjs')
    .map((file) => file.slice(0, -4));
  console.error(`which matrix? ${names.join(', ')}`);
  process.exitCode = 2;
} else {
  const { main } = await import(pathToFileURL(path).href);
  process.exitCode = await main(args);
}
