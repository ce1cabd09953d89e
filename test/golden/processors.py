"""Makes processors.json: what transformers generates greedily with penalties and bans, and the distribution of its warpers."""

import torch
from store import CHECKPOINTS, write
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

PROMPTS = [[1, 5, 9, 5, 9], [1, 40, 41, 42, 40, 41], [1, 7]]
CASES = [
    {},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.7},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 3, "repetition_penalty": 1.05},
    {"bad_words_ids": "first"},
    {"bad_words_ids": "pair"},
    {"suppress_tokens": "first"},
    {"begin_suppress_tokens": "first"},
    {"min_new_tokens": 20, "eos": "third"},
    {"eos": "third"},
    {"forced_eos_token_id": 3},
    {"repetition_penalty": 1.2, "no_repeat_ngram_size": 2, "bad_words_ids": "pair", "begin_suppress_tokens": "first"},
]


def greedy(model, prompt, settings):
    # Explicit, so that nothing of the checkpoint's own file counts.
    config = GenerationConfig(
        do_sample=False, max_new_tokens=24, pad_token_id=0, bos_token_id=1, use_cache=True, **settings
    )
    ids = torch.tensor([prompt])
    with torch.no_grad():
        out = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    return out[0, len(prompt):].tolist()


def resolve(case, free):
    """The names of ids that the free generation of the prompt has."""
    case = dict(case)
    if "eos" in case:
        del case["eos"]
        case["eos_token_id"] = [free[2]]
    for key, value in list(case.items()):
        if value == "first":
            case[key] = [[free[0]], [free[1]]] if key == "bad_words_ids" else [free[0], free[1]]
        if value == "pair":
            case[key] = [[free[1], free[2]], [free[0]]]
    return case


def make() -> None:
    rows = []
    for name in ("llama", "qwen3"):
        model = AutoModelForCausalLM.from_pretrained(CHECKPOINTS / name, dtype=torch.float32)
        model.generation_config = GenerationConfig()
        for prompt in PROMPTS:
            free = greedy(model, prompt, {})
            for case in CASES:
                settings = resolve(case, free)
                rows.append({"model": name, "prompt": prompt, "settings": settings, "ids": greedy(model, prompt, settings)})
    torch.manual_seed(5)
    logits = torch.randn(4, 37) * 3
    warped = []
    for temperature, top_k, top_p, min_p in [(1.0, 0, 1.0, 0.1), (0.7, 0, 0.9, 0.05), (1.5, 10, 1.0, 0.2), (0.9, 12, 0.8, 0.3), (1.0, 0, 1.0, 1.0)]:
        warpers = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
        if top_k:
            warpers.append(TopKLogitsWarper(top_k))
        if top_p < 1:
            warpers.append(TopPLogitsWarper(top_p))
        warpers.append(MinPLogitsWarper(min_p))
        probabilities = warpers(None, logits.clone()).softmax(-1)
        warped.append({"temperature": temperature, "topK": top_k, "topP": top_p, "minP": min_p,
                       "probabilities": probabilities.flatten().tolist()})
    write("processors", ["torch", "transformers"], {"greedy": rows, "logits": logits.flatten().tolist(), "vocab": 37, "warped": warped})


if __name__ == "__main__":
    make()
