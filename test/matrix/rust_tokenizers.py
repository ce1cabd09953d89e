"""Ids and texts of the Rust library. Arguments: tokenizer.json, texts.jsonl, ids.jsonl; writes one JSON line per input."""

import json
import sys

import tokenizers

path, texts, ids = sys.argv[1:]
tokenizer = tokenizers.Tokenizer.from_file(path)
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
