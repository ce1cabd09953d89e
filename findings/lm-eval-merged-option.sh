#!/bin/bash
# lm-evaluation-harness 0.4.13 (transformers 5.24.0, torch 2.13.0): an option that the tokenizer merges with the last
# character of the question is given the log-prob 0.0, the largest there is, and so is "chosen", whatever the model thinks.
#
# Valid input: a tokenizer with a merge across the border (": 5" is one token, as byte-level and SentencePiece vocabularies
# have for punctuation and what follows), the question "Answer:" and the options " 5" and " a". Question and option
# are tokenised together and what goes beyond the tokens of the question alone is the option: for " 5" nothing is left.
# One would expect an error, or the log-prob of the merged token. An assertion that the option has a token is there, but the
# default logits_cache groups requests with the same context and looks at one of them only: with an option of one token
# beside it, the empty one passes. Without such a neighbour the same option ends the run by that assertion.
#
# Seen: [(0.0, True), (-2.78, False)] for [" 5", " a"]; acc of such a problem is decided by the tokenizer.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet lm-eval[hf]==0.4.13 torch==2.13.0 transformers==5.24.0
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PY'
import sys

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

letters = sorted(set("Answer: 5a"))
vocabulary = {token: i for i, token in enumerate(["<s>", "</s>", *letters, " 5", ": 5", " a"])}
bpe = models.BPE(vocab=vocabulary, merges=[(" ", "5"), (":", " 5"), (" ", "a")])
tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(bpe), bos_token="<s>", eos_token="</s>")
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(
    vocab_size=len(vocabulary), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
    num_attention_heads=2, num_key_value_heads=2, bos_token_id=0, eos_token_id=1,
))
harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1)
options = [" 5", " a"]
requests = [Instance("loglikelihood", {}, ("Answer:", option), i) for i, option in enumerate(options)]
found = harness.loglikelihood(requests, disable_tqdm=True)
print(dict(zip(options, found)))
is_as_seen = found[0][0] == 0.0 and found[1][0] < 0
sys.exit(0 if is_as_seen else 1)
PY
