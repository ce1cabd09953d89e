import { Tokenizer as Library } from '@huggingface/tokenizers';
import t from 'tap';
import { makeExact } from '../../lib/data/tokenizer-steps.js';
import { readGolden } from '../helpers/golden.js';

// Normalizers, pre-tokenizers and the byte-level decoder give what the Rust library's give (test/golden/tokenizer_steps.py).

type Kind = 'normalizer' | 'pre_tokenizer' | 'decoder';
interface Golden {
  codePoints: number[];
  /** By step what it makes of every code point, a line for each text. */
  steps: [Kind, Record<string, unknown>, string[]][];
  decoded: [string[], string][];
}

const golden = readGolden<Golden>('tokenizer-steps');

function library(kind: Kind, config: Record<string, unknown>): Library {
  const json = {
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: null,
    added_tokens: [],
    model: { type: 'BPE', vocab: {}, merges: [] },
    [kind]: config,
  };
  return makeExact(new Library(json, {}), json);
}

for (const [kind, config, expected] of golden.steps) {
  t.test(`${JSON.stringify(config)} is the Rust library's`, async (t) => {
    const { normalizer, pre_tokenizer } = library(kind, config);
    for (const [i, code] of golden.codePoints.entries()) {
      const char = String.fromCodePoint(code);
      const found =
        kind === 'normalizer'
          ? [char, `${char}\u0334`, `\u0345${char}`].map((text) => normalizer?.normalize(text))
          : pre_tokenizer?.pre_tokenize(`a${char}1`, { section_index: 0 });
      t.equal(found?.join('\n'), expected[i], `U+${code.toString(16)}`);
    }
  });
}

t.test('a sequence of steps changes each of them', async (t) => {
  const digits = { type: 'Digits', individual_digits: true };
  const { pre_tokenizer } = library('pre_tokenizer', {
    type: 'Sequence',
    pretokenizers: [
      digits,
      { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    ],
  });
  t.strictSame(pre_tokenizer?.pre_tokenize('Ⅷ½', { section_index: 0 }), ['âħ§', 'Â½']);
  const { normalizer } = library('normalizer', {
    type: 'Sequence',
    normalizers: [{ type: 'NFC' }, { type: 'Lowercase' }],
  });
  t.equal(normalizer?.normalize('Α\u03a3 \u0eb8\u0eba'), 'α\u03c3 \u0eb8\u0eba');
});

t.test('bytes and tokens that are none decode as in the Rust library', async (t) => {
  const { decoder } = library('decoder', { type: 'ByteLevel' });
  for (const [tokens, text] of golden.decoded) t.equal(decoder?.decode([...tokens]), text, tokens.join(' '));
});
