"""Reward models: tiny sequence classifiers of one label, and the logits that transformers gives them."""

import torch
from transformers import (
    AutoModelForSequenceClassification,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from checkpoints import SIZES, fill
from store import CHECKPOINTS, array, write

PAD, END = 0, SIZES["eos_token_id"]
ONE = dict(num_labels=1, hidden_size=16, intermediate_size=28)


CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**SIZES | ONE, head_dim=16, rms_norm_eps=1e-5, pad_token_id=PAD),
    # No padding token: the last token counts, whatever it is.
    "mistral": MistralConfig(**SIZES | ONE, head_dim=20, sliding_window=8, pad_token_id=None),
    # The end of a turn is the padding too, as in many reward models: then the token before it counts.
    "qwen2": Qwen2Config(**SIZES | ONE | dict(tie_word_embeddings=True), pad_token_id=END),
    "qwen3": Qwen3Config(**SIZES | ONE, head_dim=24, rms_norm_eps=1e-6, pad_token_id=PAD),
}


def groups() -> list[dict]:
    generator = torch.Generator().manual_seed(77)

    def ids(length: int) -> list[int]:
        return torch.randint(3, SIZES["vocab_size"], (length,), generator=generator).tolist()

    shared = ids(3)
    return [
        # Ragged; a common beginning; whole turns; one that is nothing but its end; padding behind; the same twice.
        {
            "promptIds": [1] + ids(6),
            "responses": [ids(1), shared + ids(4), shared + ids(9) + [END], [END], ids(2) + [PAD, PAD], shared, shared],
        },
        {"promptIds": [1], "responses": [ids(1) + [END, END], ids(9)]},
        {"promptIds": [1] + ids(19) + [END], "responses": [ids(11), ids(2), [PAD]]},
        {"promptIds": [1] + ids(2), "responses": [ids(17) + [END]]},
    ]


@torch.no_grad()
def logits(model: torch.nn.Module, content: list[dict]) -> list[dict]:
    return [
        array(torch.stack([model(torch.tensor([group["promptIds"] + ids])).logits[0, 0] for ids in group["responses"]]))
        for group in content
    ]


@torch.no_grad()
def check_batch(model: torch.nn.Module, content: list[dict]) -> None:
    """The same numbers with padding on the right, as users of transformers compute them."""
    pad = model.config.pad_token_id
    if pad is None:
        return
    rows = [group["promptIds"] + ids for group in content for ids in group["responses"]]
    width = max(len(row) for row in rows)
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    batched = model(ids, attention_mask=mask).logits[:, 0]
    single = torch.stack([model(torch.tensor([row])).logits[0, 0] for row in rows])
    torch.testing.assert_close(batched, single, rtol=1e-5, atol=1e-5)


def load(name: str, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    return AutoModelForSequenceClassification.from_pretrained(CHECKPOINTS / f"reward-{name}", dtype=dtype).eval()


def make() -> None:
    content = groups()
    models = {}
    for seed, (name, config) in enumerate(CONFIGS.items(), start=41):
        model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
        fill(model, seed)
        model.save_pretrained(CHECKPOINTS / f"reward-{name}")
        exact = load(name)
        check_batch(exact, content)
        half = load(name, torch.bfloat16)
        models[name] = {
            "rewards": logits(exact, content),
            # The same weights rounded to bfloat16: what transformers gives in bfloat16, and in float32 from them.
            "bfloat16": {
                "rewards": logits(half, content),
                "exact": logits(load(name, torch.bfloat16).float(), content),
            },
        }
    write("reward-models", ["torch", "transformers"], {"groups": content, "models": models})
