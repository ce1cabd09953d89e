#!/bin/sh
# transformers 5.24.0, torch 2.13.0: a Llama configuration that carries `sliding_window` (as a Mistral checkpoint that was
# renamed to Llama does). The class of a Llama has no window, and a forward pass over the whole sequence attends to all of
# it. The cache that generate() makes by default reads `sliding_window` from the configuration all the same, and drops
# older keys and values: greedy generation with a cache gives other tokens than the same call with use_cache=False as soon
# as the text is longer than the window, and no warning says so. Seen: 12 new tokens after 20 with a window of 8 differ
# from the second one on. With the key removed both calls give the same tokens.
# Exits 0 while this is so.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.24.0
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from transformers import LlamaConfig, LlamaForCausalLM

SIZES = dict(vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
             num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.5)


def agree(**keys):
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES, **keys)).eval()
    ids = torch.randint(0, 64, (1, 20))
    settings = dict(max_new_tokens=12, do_sample=False, pad_token_id=0, eos_token_id=None)
    return torch.equal(model.generate(ids, **settings), model.generate(ids, use_cache=False, **settings))


with_key, without = agree(sliding_window=8), agree()
print("cache and no cache agree, with sliding_window:", with_key, " without:", without)
raise SystemExit(0 if without and not with_key else 1)
PYTHON
