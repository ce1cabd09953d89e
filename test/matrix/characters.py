"""What the Rust library makes of code points. Reads and writes JSON: by step the results, in the order of the code points.

Normalizers give the character's text alone, in front of U+0334 and behind U+0345; pre-tokenizers the pieces of "a", the
character and "1".
"""

import json
import sys

import tokenizers
from tokenizers import Tokenizer, models


def step(kind: str, config: dict):
    """A step of the library from its configuration."""
    tokenizer = json.loads(Tokenizer(models.BPE()).to_str())
    tokenizer[kind] = config
    return getattr(Tokenizer.from_str(json.dumps(tokenizer)), kind)


def results(kind: str, config: dict, code_points: list) -> list:
    made = step(kind, config)
    if kind == "normalizer":
        texts = ([chr(code), chr(code) + "\u0334", "\u0345" + chr(code)] for code in code_points)
        return [[made.normalize_str(text) for text in three] for three in texts]
    return [[piece for piece, _ in made.pre_tokenize_str(f"a{chr(code)}1")] for code in code_points]


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    answers = [results(kind, config, asked["codePoints"]) for kind, config in asked["steps"]]
    json.dump({"version": tokenizers.__version__, "answers": answers}, sys.stdout)
