// Writes data/: 200 examples of proposals and of answers, 64 requests for proposals, 100 held-out problems. All drawn
// once, so that every machine has the same.

import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { answerTo } from './filter.mjs';

const folder = join(import.meta.dirname, 'data');
let state = 12345;
const below = (limit) => {
  state = (Math.imul(state, 1103515245) + 12345) >>> 0;
  return Math.floor((state / 2 ** 32) * limit);
};
const problem = () => `${below(1000)}+${below(1000)}=`;
const problems = (count) => [...new Set(Array.from({ length: 2 * count }, problem))].slice(0, count);
const request = (example) => `Write one addition of two whole numbers, such as ${example} and nothing else.`;

const heldOut = problems(100);
const others = problems(400).filter((one) => !heldOut.includes(one));
const files = {
  'held-out': heldOut.map((prompt) => ({ prompt, label: answerTo(prompt) })),
  answers: others.slice(0, 200).map((prompt) => ({ prompt, completion: answerTo(prompt) })),
  proposals: others.slice(0, 200).map((completion, i) => ({ prompt: request(others[i + 100]), completion })),
  requests: others.slice(0, 64).map((example, i) => ({ id: `request-${i}`, prompt: request(example) })),
};
await mkdir(folder, { recursive: true });
for (const [name, rows] of Object.entries(files)) {
  await writeFile(join(folder, `${name}.jsonl`), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
}
