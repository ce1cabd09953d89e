"""Forms of adapter_config.json that PEFT writes, what it computes with each, and what it merges to, bit by bit.

Factors are small fractions of a power of two that a test makes again by the same rule, so that no file of them is kept
and that their products are exact in float32, in whatever order they are summed.
"""

import hashlib
import json
import tempfile
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open

import reference
from checkpoints import load
from store import array, write

PROMPT = [1, 5, 9]
LENGTH = 40

# Over the checkpoint "llama-tied" of three layers unless one is named.
FORMS: dict[str, dict] = {
    "a pattern": {"target_modules": r".*\.self_attn\.(q_proj|v_proj)"},
    "a pattern of layers": {"target_modules": r"model\.layers\.[02]\.(self_attn\.[qk]_proj|mlp\.down_proj)"},
    "a pattern with a named group": {"target_modules": r"model\.layers\.(?P<layer>\d+)\.mlp\..*_proj"},
    "a pattern with a look-ahead": {"target_modules": r"(?!.*\.1\.).*\.o_proj"},
    "a pattern that only Python reads": {"target_modules": r"(?x) .* \. (q|k) _proj"},
    "all linear modules, in capitals": {"target_modules": "All-Linear"},
    "all linear modules but some": {"target_modules": "all-linear", "exclude_modules": ["lm_head", "o_proj", "mlp.up_proj"]},
    "ends of names": {"target_modules": ["self_attn.q_proj", "mlp.down_proj"]},
    "whole names": {"target_modules": ["model.layers.0.self_attn.q_proj", "model.layers.2.mlp.up_proj"]},
    "names that no module has, beside some": {"target_modules": ["q_proj", "c_attn", "query_key_value"]},
    "but a list": {"target_modules": ["q_proj", "v_proj"], "exclude_modules": ["layers.1.self_attn.q_proj"]},
    "but a pattern": {"target_modules": ["q_proj", "v_proj"], "exclude_modules": r".*\.layers\.0\..*"},
    "a layer": {"target_modules": ["q_proj", "down_proj"], "layers_to_transform": 1},
    "layers": {"target_modules": ["q_proj", "down_proj"], "layers_to_transform": [0, 2]},
    "layers of a list": {"target_modules": ["gate_proj"], "layers_to_transform": [1, 2], "layers_pattern": "layers"},
    "layers of lists": {"target_modules": ["gate_proj"], "layers_to_transform": [2], "layers_pattern": ["h", "layers"]},
    "a whole name beside layers": {
        "target_modules": ["model.layers.0.self_attn.q_proj", "o_proj"],
        "layers_to_transform": [2],
    },
    "ranks": {"target_modules": ["q_proj", "k_proj", "v_proj", "up_proj"], "rank_pattern": {"k_proj": 1, "up_proj": 5}},
    "ranks by pattern": {
        "target_modules": ["q_proj", "v_proj", "gate_proj", "up_proj"],
        "rank_pattern": {r"layers\.0\..*": 4, "v_proj": 1, r"^model\.layers\.2\.mlp\.gate_proj": 6},
    },
    "alphas": {"target_modules": ["q_proj", "v_proj", "down_proj"], "alpha_pattern": {"q_proj": 7, "layers.1.mlp.down_proj": 1}},
    "ranks and alphas, rank-stabilised": {
        "target_modules": ["q_proj", "k_proj", "o_proj", "down_proj"],
        "rank_pattern": {"k_proj": 5, r"layers\.2\.self_attn\.o_proj": 4},
        "alpha_pattern": {"down_proj|o_proj": 3, "k_proj": 1},
        "use_rslora": True,
    },
    "fan_in_fan_out, which linear modules ignore": {"target_modules": ["q_proj"], "fan_in_fan_out": True},
    "weights are tied anyway": {"target_modules": ["q_proj"], "ensure_weight_tying": True},
    "no initialisation": {"target_modules": ["v_proj"], "init_lora_weights": False},
    "gaussian": {"target_modules": ["v_proj"], "init_lora_weights": "gaussian"},
    "eva": {"target_modules": ["v_proj"], "init_lora_weights": "eva", "rank_pattern": {"layers.1.self_attn.v_proj": 3}},
    "orthogonal": {"target_modules": ["v_proj"], "init_lora_weights": "orthogonal"},
    "mica": {"target_modules": ["v_proj"], "init_lora_weights": "mica"},
    "loftq's settings without loftq": {"target_modules": ["v_proj"], "loftq_config": {"loftq_bits": 4}},
    "another task": {"target_modules": ["q_proj"], "task_type": None},
}
MERGES = {"llama": torch.float32, "llama-sharded": torch.float32, "llama-bfloat16": torch.bfloat16, "llama-float16": torch.float16}
MERGED = {"r": 3, "lora_alpha": 2.5, "target_modules": "all-linear"}


def fill(model) -> None:
    """By the number of the tensor in the order of names, and of the element."""
    parameters = {name: value for name, value in model.named_parameters() if ".lora_" in name}
    for number, name in enumerate(sorted(parameters)):
        values = parameters[name].data
        index = torch.arange(values.numel())
        values.copy_((((index * 31 + number * 17) % 23 - 11) / 32).view(values.shape))


def save(checkpoint: str, folder: str, dtype: torch.dtype = torch.float32, **options) -> tuple[dict, dict]:
    model = get_peft_model(load(checkpoint, dtype), LoraConfig(**{"task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4} | options))
    fill(model)
    for config in model.peft_config.values():
        config.base_model_name_or_path = f"checkpoints/{checkpoint}"
        for key in ("target_modules", "exclude_modules"):
            value = getattr(config, key)
            if isinstance(value, set):
                setattr(config, key, sorted(value))
    model.save_pretrained(folder)
    with safe_open(Path(folder) / "adapter_model.safetensors", "pt") as file:
        shapes = {key: list(file.get_slice(key).get_shape()) for key in sorted(file.keys())}
    return json.loads((Path(folder) / "adapter_config.json").read_text()), shapes


def form(name: str, ids: list[int], **options) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        config, shapes = save("llama-tied", folder, **options)
        model = PeftModel.from_pretrained(load("llama-tied"), folder).eval()
        with torch.no_grad():
            values = reference.token_logprobs(model, PROMPT, ids)
            base = reference.token_logprobs(load("llama-tied"), PROMPT, ids)
        assert not torch.allclose(values, base, atol=1e-2), name
    defaults = json.loads(json.dumps(LoraConfig(task_type="CAUSAL_LM").to_dict(), default=list))
    differing = {key: value for key, value in config.items() if key not in defaults or defaults[key] != value}
    return {"name": name, "config": differing, "shapes": shapes, "tokenLogprobs": array(values)}


def merged(checkpoint: str, dtype: torch.dtype) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        config, shapes = save(checkpoint, folder, dtype, **MERGED)
        model = PeftModel.from_pretrained(load(checkpoint, dtype), folder).merge_and_unload()
        safe = PeftModel.from_pretrained(load(checkpoint, dtype), folder).merge_and_unload(safe_merge=True)
    digests = {}
    differing = 0
    for (key, value), (_, other) in zip(model.named_parameters(), safe.named_parameters(), strict=True):
        assert value.dtype == dtype
        digests[key] = hashlib.sha256(value.detach().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
        differing += int((value != other).sum())
    return {"checkpoint": checkpoint, "config": config, "shapes": shapes, "sha256": digests, "differsFromSafeMerge": differing}


def make() -> None:
    generator = torch.Generator().manual_seed(32)
    ids = torch.randint(3, 131, (LENGTH,), generator=generator).tolist()
    write(
        "adapters",
        ["torch", "transformers", "peft"],
        {
            "promptIds": PROMPT,
            "responseIds": ids,
            "defaults": json.loads(json.dumps(LoraConfig(task_type="CAUSAL_LM").to_dict(), default=list)),
            "forms": [form(name, ids, **options) for name, options in FORMS.items()],
            "merges": [merged(name, dtype) for name, dtype in MERGES.items()],
        },
    )


if __name__ == "__main__":
    make()
