// npm run test:matrix -- characters [--python PYTHON]
//
// Every character (of ideographs, Hangul and private ones every hundredth) through every normalizer and pre-tokenizer that
// tokenizers of language models have: the results must be those of the Rust library (PyPI: tokenizers). A character that
// differs is one that a newer Unicode has changed: see newer-characters.ts.

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Tokenizer as Library } from '@huggingface/tokenizers';

const HERE = dirname(fileURLToPath(import.meta.url));
/** Every step and its configuration. */
const STEPS = JSON.parse(readFileSync(join(HERE, 'steps.json'), 'utf8'));

function codePoints() {
  const isOfMany = /[\p{Script=Han}\p{Script=Hangul}\p{Script=Tangut}\p{Co}\p{Cn}]/u;
  return Array.from({ length: 0x110000 }, (_, code) => code).filter(
    (code) =>
      !(code >= 0xd800 && code < 0xe000) && (code % 100 === 0 || !isOfMany.test(String.fromCodePoint(code))),
  );
}

export async function main(args) {
  const { values } = parseArgs({ args, options: { python: { type: 'string', default: 'python3' } } });
  const points = codePoints();
  const { makeExact } = await import('../../dist/lib/data/tokenizer-steps.js');
  const { status, stdout, stderr } = spawnSync(values.python, [join(HERE, 'characters.py')], {
    input: JSON.stringify({ codePoints: points, steps: STEPS }),
    encoding: 'utf8',
    maxBuffer: 2 ** 30,
  });
  if (status !== 0) throw new Error(stderr);
  const { version, answers } = JSON.parse(stdout);
  let total = 0;
  for (const [i, [kind, config]] of STEPS.entries()) {
    const json = {
      normalizer: null,
      pre_tokenizer: null,
      post_processor: null,
      decoder: null,
      added_tokens: [],
      model: { type: 'BPE', vocab: {}, merges: [] },
      [kind]: config,
    };
    const step = makeExact(new Library(json, {}), json)[kind];
    const different = points.filter((code, at) => {
      const char = String.fromCodePoint(code);
      const found =
        kind === 'normalizer'
          ? [char, `${char}\u0334`, `\u0345${char}`].map((text) => step.normalize(text))
          : step.pre_tokenize(`a${char}1`, { section_index: 0 });
      return JSON.stringify(found) !== JSON.stringify(answers[i][at]);
    });
    total += different.length;
    const which = different.slice(0, 40).map((code) => code.toString(16));
    console.log(`${JSON.stringify(config).slice(0, 100)}: ${different.length} differ ${which.join(' ')}`);
  }
  console.log(
    `tokenizers ${version}, Unicode ${process.versions.unicode} here: ${points.length} characters x ${STEPS.length} steps, ${total} differ`,
  );
  return total === 0 ? 0 : 1;
}
