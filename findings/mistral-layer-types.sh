#!/bin/sh
# transformers 5.24.0, torch 2.13.0: a config.json of model_type "mistral" with `layer_types` is two models.
# AutoModelForCausalLM.from_pretrained() takes it for a Ministral, whose layers have a window or not by their types;
# MistralForCausalLM.from_pretrained(), the class that `architectures` names, ignores the types and gives every layer the
# window of `sliding_window`. Same folder, same weights, other logits. And where every type is "full_attention" and
# `sliding_window` is null, which says "no window" twice, the first one loads and then fails in its forward pass with
# "Could not find a `sliding_window` argument in the config, or it is not set", while the second one runs.
# Exits 0 while this is so.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.24.0
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, MistralConfig, MistralForCausalLM

torch.manual_seed(0)
folder = Path(sys.argv[1]) / "model"
MistralForCausalLM(MistralConfig(
    vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=2, max_position_embeddings=128, sliding_window=4, initializer_range=0.5,
)).save_pretrained(folder)
ids = torch.randint(0, 64, (1, 20))


def logits(load, **keys):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"layer_types": ["full_attention"] * 2} | keys))
    model = load(folder).eval()
    with torch.no_grad():
        return type(model).__name__, model(ids, use_cache=False).logits


auto, first = logits(AutoModelForCausalLM.from_pretrained)
named, second = logits(MistralForCausalLM.from_pretrained)
print(auto, named, "largest difference of the logits:", (first - second).abs().max().item())
logits(MistralForCausalLM.from_pretrained, sliding_window=None)
try:
    logits(AutoModelForCausalLM.from_pretrained, sliding_window=None)
    message = ""
except ValueError as error:
    message = str(error)
print("without a window:", message)
is_so = auto != named and not torch.allclose(first, second, atol=1e-2) and "sliding_window" in message
raise SystemExit(0 if is_so else 1)
PYTHON
