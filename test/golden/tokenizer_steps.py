"""What the Rust library's normalizers, pre-tokenizers and byte-level decoder make of characters on which libraries part."""

import json
import sys
from pathlib import Path

import tokenizers
from store import write

FOLDER = Path(__file__).parent.parent / "matrix"
sys.path.insert(0, str(FOLDER))

import characters  # noqa: E402

# White space and what looks so, digits, letters with odd cases, marks, punctuation and symbols old and new.
CHARACTERS = (
    "\t \x85\xa0\u180e\u200b\u2028\u3000\ufeff\u200d▁3٣²½Ⅷ①〇𝟘\U00011de0Σςİßǅaéñ\u0301\u0327\u0345Å\u212bﬁ，、"
    "\u07fd\u0897\u0eba\u1abf\u1ae0\u32ff\ua7f2\U000105c9\U00010781\U00011938\U0001133b\U0001e030\U0001f16c\U0001fbf0"
    "\u20c1\u2b96\ufbc3\U00010940\U0001f6d8\U0001fac8\U000323b0\ufdd0\U0001fffe!-_`~€♥\u061d\u2e43\u2e52\u166d\U000111c9"
    "\U00011660\U0001e95e漢ガかک😀☺\U000e0001\u0378"
)
TOKENS = [["Hello", "Ġworld"], ["⏭", "a"], ["Ã", "©"], ["Ã"], ["ð", "Ł", "ĺ"], ["aĠ⏭b", "Ċ"], ["é", "日"], ["ï", "»", "¿", "x"]]


def make() -> None:
    steps = json.loads((FOLDER / "steps.json").read_text())
    codes = [ord(character) for character in CHARACTERS]
    decoder = tokenizers.decoders.ByteLevel()
    write(
        "tokenizer-steps",
        ["tokenizers"],
        {
            "codePoints": codes,
            "steps": [
                [kind, config, ["\n".join(result) for result in characters.results(kind, config, codes)]]
                for kind, config in steps
            ],
            "decoded": [[tokens, decoder.decode(tokens)] for tokens in TOKENS],
        },
    )
