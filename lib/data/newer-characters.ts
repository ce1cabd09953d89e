// Characters that the Rust library's tables do not have yet, for the inside of a character class. They come from comparing
// tokenizers 0.23.3 with Unicode 17 on every code point (test/matrix/characters.mjs).

/** Its normalisation is that of Unicode 9: what decomposes, composes or is reordered only since then stays as it is. */
export const NOT_NORMALISED =
  '\\u{7fd}\\u{897}-\\u{89f}\\u{8ca}-\\u{8d3}\\u{9fe}\\u{c3c}\\u{d3b}-\\u{d3c}\\u{eba}\\u{1715}' +
  '\\u{1abf}-\\u{1add}\\u{1ae0}-\\u{1aeb}\\u{1df6}-\\u{1dfa}\\u{32ff}\\u{a7f1}-\\u{a7f4}\\u{a82c}' +
  '\\u{ab69}\\u{105c9}\\u{105d2}\\u{105da}\\u{105e4}\\u{10781}-\\u{10785}\\u{10787}-\\u{107b0}' +
  '\\u{107b2}-\\u{107ba}\\u{10d24}-\\u{10d27}\\u{10d69}-\\u{10d6d}\\u{10eab}-\\u{10eac}' +
  '\\u{10efa}-\\u{10efb}\\u{10efd}-\\u{10eff}\\u{10f46}-\\u{10f50}\\u{10f82}-\\u{10f85}\\u{11070}' +
  '\\u{1133b}\\u{11382}-\\u{11385}\\u{1138b}\\u{1138e}\\u{11390}-\\u{11391}\\u{113b8}\\u{113bb}' +
  '\\u{113c2}\\u{113c5}\\u{113c7}-\\u{113c9}\\u{113ce}-\\u{113d0}\\u{1145e}\\u{11839}-\\u{1183a}' +
  '\\u{11930}\\u{11935}\\u{11938}\\u{1193d}-\\u{1193e}\\u{11943}\\u{119e0}\\u{11a34}\\u{11a47}' +
  '\\u{11a99}\\u{11d42}\\u{11d44}-\\u{11d45}\\u{11d97}\\u{11f41}-\\u{11f42}\\u{1611e}-\\u{16129}' +
  '\\u{1612f}\\u{16d63}\\u{16d67}-\\u{16d6a}\\u{16ff0}-\\u{16ff1}\\u{1ccd6}-\\u{1ccf9}' +
  '\\u{1e030}-\\u{1e06d}\\u{1e08f}\\u{1e130}-\\u{1e136}\\u{1e2ae}\\u{1e2ec}-\\u{1e2ef}' +
  '\\u{1e4ec}-\\u{1e4ef}\\u{1e5ee}-\\u{1e5ef}\\u{1e6e3}\\u{1e6e6}\\u{1e6ee}-\\u{1e6ef}\\u{1e6f5}' +
  '\\u{1f16c}\\u{1fbf0}-\\u{1fbf9}';

/** Its patterns know the categories of Unicode 16: what came later is of none. */
export const WITHOUT_CATEGORY =
  '\\u{88f}\\u{c5c}\\u{cdc}\\u{1acf}-\\u{1add}\\u{1ae0}-\\u{1aeb}\\u{20c1}\\u{2b96}\\u{a7ce}-\\u{a7cf}' +
  '\\u{a7d2}\\u{a7d4}\\u{a7f1}\\u{fbc3}-\\u{fbd2}\\u{fd90}-\\u{fd91}\\u{fdc8}-\\u{fdce}' +
  '\\u{10940}-\\u{10959}\\u{10ec5}-\\u{10ec7}\\u{10ed0}-\\u{10ed8}\\u{10efa}-\\u{10efb}' +
  '\\u{11b60}-\\u{11b67}\\u{11db0}-\\u{11ddb}\\u{11de0}-\\u{11de9}\\u{16ea0}-\\u{16eb8}' +
  '\\u{16ebb}-\\u{16ed3}\\u{16ff2}-\\u{16ff6}\\u{187f8}-\\u{187ff}\\u{18d09}-\\u{18d1e}' +
  '\\u{18d80}-\\u{18df2}\\u{1ccfa}-\\u{1ccfc}\\u{1ceba}-\\u{1ced0}\\u{1cee0}-\\u{1cef0}' +
  '\\u{1e6c0}-\\u{1e6de}\\u{1e6e0}-\\u{1e6f5}\\u{1e6fe}-\\u{1e6ff}\\u{1f6d8}\\u{1f777}-\\u{1f77a}' +
  '\\u{1f8d0}-\\u{1f8d8}\\u{1fa54}-\\u{1fa57}\\u{1fa8a}\\u{1fa8e}\\u{1fac8}\\u{1facd}\\u{1faea}' +
  '\\u{1faef}\\u{1fbfa}\\u{2b73a}-\\u{2b73f}\\u{2cea2}-\\u{2cead}\\u{323b0}-\\u{33479}';

/** Its punctuation is that of Unicode 8: these are none yet, */
export const NO_PUNCTUATION =
  '\\u{61d}\\u{9fd}\\u{a76}\\u{c77}\\u{c84}' +
  '\\u{1b4e}-\\u{1b4f}\\u{1b7d}-\\u{1b7f}' +
  '\\u{2e43}-\\u{2e4f}\\u{2e52}-\\u{2e5d}\\u{10d6e}' +
  '\\u{10ead}\\u{10ed0}\\u{10f55}-\\u{10f59}' +
  '\\u{10f86}-\\u{10f89}\\u{113d4}-\\u{113d5}' +
  '\\u{113d7}-\\u{113d8}\\u{1144b}-\\u{1144f}' +
  '\\u{1145a}-\\u{1145b}\\u{1145d}' +
  '\\u{11660}-\\u{1166c}\\u{116b9}\\u{1183b}' +
  '\\u{11944}-\\u{11946}\\u{119e2}' +
  '\\u{11a3f}-\\u{11a46}\\u{11a9a}-\\u{11a9c}' +
  '\\u{11a9e}-\\u{11aa2}\\u{11b00}-\\u{11b09}' +
  '\\u{11be1}\\u{11c41}-\\u{11c45}' +
  '\\u{11c70}-\\u{11c71}\\u{11ef7}-\\u{11ef8}' +
  '\\u{11f43}-\\u{11f4f}\\u{11fff}' +
  '\\u{12ff1}-\\u{12ff2}\\u{16d6d}-\\u{16d6f}' +
  '\\u{16e97}-\\u{16e9a}\\u{16fe2}\\u{1e5ff}' +
  '\\u{1e95e}-\\u{1e95f}';
/** and these still are. */
export const OLD_PUNCTUATION = '\\u{166d}\\u{111c9}';
