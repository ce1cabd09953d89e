// Texts for tokenizers: the same ones for the same seed, of everything that people, programs and data sets write.

/** Numbers in [0, 1) from a seed (mulberry32). */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const words =
  'the of and to in is that it for was on are as with his they at be this from have or by one had not but what all were when we there can an your which their said if do will each about how up out them then she many some so these would other into has more her two like him see time could no make than first been its who now people my made over did down only way find use may water long little very after words called just where most know'.split(
    ' ',
  );
const chars = (text) => [...text];
const range = (from, to) => Array.from({ length: to - from }, (_, i) => String.fromCodePoint(from + i));

/** Each gives one piece of text. */
const KINDS = [
  (pick) => ` ${pick(words)}`,
  (pick) => pick(words),
  (pick) => ` ${pick(words).toUpperCase()}`,
  (pick) => pick(words)[0].toUpperCase() + pick(words),
  (pick) => pick(chars('.,;:!?"()[]{}<>/\\|@#$%^&*-_=+~`')),
  (pick) => pick(["'s", "'T", "'re", "'VE", "'m", "'ll", "'d", '’s', "'ſ", "''", "'sé"]),
  (pick) =>
    pick(chars(' \t\n\r\v\f\u00a0\u0085\u2028\u2029\u3000\u200b\u200d\ufeff\u180e\u1680')).repeat(
      1 + pick.below(4),
    ),
  (pick) => pick([' ', '  ', '   ', '\n\n', '\r\n', ' \n', '\n ', '\t\t', '\n\n\n', '    ', '        ']),
  (pick) => Array.from({ length: 1 + pick.below(9) }, () => pick.below(10)).join(''),
  (pick) => `${pick.below(1e6) / 100}`,
  (pick) => pick(['٣', '๔', '½', 'Ⅷ', '²', '①', '൪', '１２', '〇', '𝟘𝟙']),
  (pick) => pick(chars('àéîõüçñßøåœæžłđþđğıİſƒ')) + pick(words),
  (pick) => pick(words) + pick(chars('\u0301\u0308\u0327\u20d7\u0338\u0489')),
  (pick) => pick(range(0x4e00, 0x9fa5)) + pick(range(0x4e00, 0x9fa5)),
  (pick) => pick(range(0x3041, 0x30ff)),
  (pick) => pick(range(0xac00, 0xd7a3)) + pick(range(0x1100, 0x11ff)),
  (pick) => pick(range(0x0410, 0x0451)) + pick(range(0x0410, 0x0451)),
  (pick) => pick(range(0x0591, 0x05f4)) + pick(range(0x0620, 0x06ff)),
  (pick) => pick(range(0x0905, 0x0977)) + pick(range(0x0e01, 0x0e5b)),
  (pick) => pick(range(0x1f300, 0x1f6ff)),
  (pick) => pick(['👩‍👩‍👧', '🏳️‍🌈', '👍🏽', '🇩🇪', '1️⃣', '☺️', '©', '™']),
  (pick) => pick(range(0x20, 0x2fff)),
  (pick) =>
    pick([
      ...range(0, 32),
      '\u007f',
      '\u0080',
      '\u009f',
      '\u00ad',
      '\u061c',
      '\ue000',
      '\ufffd',
      '\u{10ffff}',
      '\u{e0041}',
    ]),
  (pick) => pick(['▁', '▁the', '<0x0A>', '<unk>', 'Ġ', 'Ċ', '<|x|>', '</', '<s', '##', '@@', '\\n', '%20']),
  (pick) =>
    pick([
      'def f(x):\n    return x ** 2\n',
      'for (let i = 0; i < n; i++) {',
      '#include <a.h>\n',
      '\\frac{1}{2}',
      '$x^2$',
      'https://a.org/b?c=1&d',
      'a_b.c->d',
      '<div class="x">',
      'SELECT * FROM t;',
      '```js\n',
    ]),
  (pick) => pick(['ﬁ', 'ℌ', 'ﷺ', 'Å', 'Å', 'e\u0301', 'ｱ', 'ǆ', 'ẛ̣', '㍿', '가', 'ᄀ\u1161']),
];

/** `count` texts; `extra` are pieces of the tokenizer itself, such as its added tokens. */
export function makeTexts(seed, count, extra = []) {
  const next = random(seed);
  const below = (limit) => Math.floor(next() * limit);
  const pick = Object.assign((list) => list[below(list.length)], { below });
  const kinds = extra.length === 0 ? KINDS : [...KINDS, () => pick(extra)];
  return Array.from({ length: count }, (_, index) => {
    // A third is of one kind alone, where rules meet themselves.
    const own = index % 3 === 0 ? [pick(kinds)] : kinds;
    const length = 1 + below(index % 50 === 0 ? 120 : 14);
    return Array.from({ length }, () => pick(own)(pick)).join('');
  });
}

/** `count` rows of ids below `limit`. */
export function makeIds(seed, count, limit) {
  const next = random(seed);
  return Array.from({ length: count }, () =>
    Array.from({ length: 1 + Math.floor(next() * 12) }, () => {
      // Small ids are bytes and special tokens.
      const top = next() < 0.3 ? Math.min(limit, 300) : limit;
      return Math.floor(next() * top);
    }),
  );
}
