"""Tiny random checkpoints, one per architecture and file layout, as transformers writes them."""

import json
import shutil

import torch
import transformers
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, PretrainedConfig, Qwen2Config, Qwen3Config

from store import CHECKPOINTS

transformers.utils.logging.disable_progress_bar()

SIZES = dict(
    vocab_size=131,
    hidden_size=32,
    intermediate_size=52,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    bos_token_id=1,
    eos_token_id=2,
    tie_word_embeddings=False,
)


def rope(rope_type: str, theta: float, **more) -> dict:
    return {"rope_type": rope_type, "rope_theta": theta, **more}


CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**SIZES, head_dim=16, rms_norm_eps=1e-5),
    "llama-tied": LlamaConfig(**SIZES | dict(tie_word_embeddings=True, num_hidden_layers=3, num_key_value_heads=1)),
    # The rotation of 32 original positions: head_dim 16 then has frequencies in all three bands of the rule.
    "llama3-rope": LlamaConfig(
        **SIZES,
        head_dim=16,
        rope_parameters=rope(
            "llama3",
            5000.0,
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=32,
        ),
    ),
    "llama-linear-rope": LlamaConfig(**SIZES, head_dim=8, rope_parameters=rope("linear", 10000.0, factor=4.0)),
    "llama-bias": LlamaConfig(**SIZES, head_dim=16, attention_bias=True, mlp_bias=True),
    "mistral": MistralConfig(**SIZES, head_dim=20, sliding_window=8),
    "qwen2": Qwen2Config(**SIZES | dict(tie_word_embeddings=True)),
    # The second layer has a window, the first has none.
    "qwen2-window": Qwen2Config(
        **SIZES | dict(hidden_size=48), use_sliding_window=True, sliding_window=8, max_window_layers=1
    ),
    "qwen3": Qwen3Config(**SIZES, head_dim=24, rms_norm_eps=1e-6),
    "llama-sharded": LlamaConfig(**SIZES, head_dim=16),
    "llama-float16": LlamaConfig(**SIZES, head_dim=16),
    "llama-bfloat16": LlamaConfig(**SIZES, head_dim=16),
}
NAMES = list(CONFIGS)

FILE_DTYPES = {"llama-float16": torch.float16, "llama-bfloat16": torch.bfloat16}

# config.json as folders had it before transformers 5: rope_theta and rope_scaling beside each other.
OLD_STYLE = {"llama3-rope", "llama-linear-rope", "qwen2", "llama-bfloat16"}


def fill(model: torch.nn.Module, seed: int) -> None:
    """Random weights under which logits are not flat (standard deviation about 2) and no parameter is idle."""
    generator = torch.Generator().manual_seed(seed)
    tied = model.config.tie_word_embeddings
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("bias"):
            value = 0.3 * noise
        elif "norm" in name:
            value = 1 + 0.3 * noise.clamp(-2, 2)
        elif "embed" in name:
            value = noise * (2 / parameter.shape[1] ** 0.5 if tied else 1)
        elif "lm_head" in name:
            value = 2 * noise / parameter.shape[1] ** 0.5
        else:
            value = 1.2 * noise / parameter.shape[1] ** 0.5
        parameter.data.copy_(value)


def make() -> None:
    shutil.rmtree(CHECKPOINTS, ignore_errors=True)
    for seed, (name, config) in enumerate(CONFIGS.items(), start=1):
        folder = CHECKPOINTS / name
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        fill(model, seed)
        model.to(FILE_DTYPES.get(name, torch.float32))
        model.save_pretrained(folder, max_shard_size="60KB" if name == "llama-sharded" else "1GB")
        if name in OLD_STYLE:
            write_old_style(folder / "config.json")


def write_old_style(path) -> None:
    config = json.loads(path.read_text())
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    kind = parameters.pop("rope_type")
    if kind == "default":
        config["rope_scaling"] = None
    elif kind == "linear":
        config["rope_scaling"] = {"type": kind, **parameters}
    else:
        config["rope_scaling"] = {"rope_type": kind, **parameters}
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def load(name: str, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(CHECKPOINTS / name, dtype=dtype).eval()
