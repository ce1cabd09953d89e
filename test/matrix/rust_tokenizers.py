"""Ids and texts of the Rust library. Arguments: tokenizer.json, texts.jsonl, ids.jsonl; writes one JSON line per input.

The tokens that tokenizer_config.json beside it names are special, as transformers makes them.
"""

import json
import sys
from pathlib import Path

import tokenizers

path, texts, ids = sys.argv[1:]
tokenizer = tokenizers.Tokenizer.from_file(path)
config = Path(path).with_name("tokenizer_config.json")
config = json.loads(config.read_text(encoding="utf8")) if config.exists() else {}
named = [config.get(name) for name in ("bos_token", "eos_token", "unk_token", "pad_token")]
named = [token["content"] if isinstance(token, dict) else token for token in named if token is not None]
known = tokenizer.get_vocab()
tokenizer.add_special_tokens(
    [tokenizers.AddedToken(token, special=True, normalized=False) for token in named if token in known]
)
# What users write is text: no special token can be made of it.
tokenizer.encode_special_tokens = True
tokenizer.no_padding()
tokenizer.no_truncation()
print(json.dumps({"version": tokenizers.__version__}))
with open(texts, encoding="utf8") as file:
    for line in file:
        print(json.dumps(tokenizer.encode(json.loads(line), add_special_tokens=False).ids))
with open(ids, encoding="utf8") as file:
    for line in file:
        row = json.loads(line)
        print(json.dumps([tokenizer.decode(row, skip_special_tokens=skip) for skip in (False, True)]))
