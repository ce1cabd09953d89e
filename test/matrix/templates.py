"""Prompts and whole conversations of chat templates as TRL's tokenize_fn makes them, for templates.mjs.

    python templates.py TOKENIZER_FOLDER OUT.json     the templates of TRL's package, and those of turns_data.py
    python templates.py TOKENIZER_FOLDER OUT.json own the folder's own template
"""

import json
import sys
from pathlib import Path

import transformers
import trl
from transformers import PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "golden"))
from turns import cell  # noqa: E402
from turns_data import CONVERSATIONS, TEMPLATES  # noqa: E402


def load(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    tokens = {}
    for name in ["bos_token", "eos_token", "unk_token", "pad_token"]:
        token = config.get(name)
        if token is not None:
            tokens[name] = token["content"] if isinstance(token, dict) else token
    return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **tokens), config


def main():
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    tokenizer, config = load(folder)
    if sys.argv[3:] == ["own"]:
        own = config.get("chat_template")
        templates = {folder.name: own} if isinstance(own, str) else {}
    else:
        package = Path(trl.__file__).parent / "chat_templates"
        templates = {path.stem: path.read_text() for path in sorted(package.glob("*.jinja"))}
        templates |= {f"tests: {name}": source for name, source in TEMPLATES.items()}
    result = {
        "versions": {"transformers": transformers.__version__, "trl": trl.__version__},
        "templates": templates,
        "rows": {name: {"prompt": p, "completion": c, **beside} for name, (p, c, beside) in CONVERSATIONS.items()},
        "cells": {
            template: {name: cell(tokenizer, source, *row) for name, row in CONVERSATIONS.items()}
            for template, source in templates.items()
        },
    }
    out.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
