"""Forms of config.json that transformers loads, and what it computes with each: token log-probs of one sequence.

Every variant changes keys of a tiny checkpoint's config.json (None removes nothing: it writes null) and leaves the
weights alone. What transformers writes back after loading a variant is a variant of its own. Also the names of the
keys that its classes read, found by watching the configuration while a model is loaded, scores, trains and generates.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.configuration_utils import PreTrainedConfig

import reference
from store import CHECKPOINTS, array, write

LENGTH = 60
PROMPT = [1, 5, 9]
TYPES = ("llama", "mistral", "qwen2", "qwen3")
REMOVE = "<remove>"
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}

# Of every family.
COMMON: dict[str, dict] = {
    "as it is": {},
    "training history": {
        "neftune_noise_alpha": 5.0,
        "unsloth_fixed": True,
        "unsloth_version": "2025.1.1",
        "is_llama_config": True,
        "use_cache": False,
        "gradient_checkpointing": True,
        "_name_or_path": "somewhere/else",
        "transformers.js_config": {"dtype": {"auto": "fp16"}, "kv_cache_dtype": {"q4f16": "float16"}},
        "model_max_length": 4096,
        "some_key_of_a_trainer": {"nested": [1, 2.5, "x"]},
    },
    "nulls": {
        "quantization_config": None,
        "rope_scaling": None,
        "pruned_heads": {},
        "something_null": None,
        "task_specific_params": None,
    },
    "settings of generation": {
        "temperature": 0.6,
        "top_p": 0.9,
        "top_k": 20,
        "repetition_penalty": 1.3,
        "no_repeat_ngram_size": 3,
        "max_length": 20,
        "num_beams": 4,
        "do_sample": True,
    },
    "remote code": {"auto_map": {"AutoModelForCausalLM": "modeling_x.XForCausalLM"}},
    "dropouts of other classes": {"embd_pdrop": 0.1, "resid_pdrop": 0.1, "hidden_dropout": 0.2},
    "implementations": {
        "_attn_implementation_autoset": True,
        "attn_implementation": "eager",
        "_flash_attn_2_enabled": True,
        "use_flash_attn": True,
        "chunk_size_feed_forward": 0,
        "experts_implementation": "eager",
    },
    "labels": {"id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": {"a": 0, "b": 1, "c": 2}},
    "two names of the dtype": {"torch_dtype": "float16", "dtype": "float32"},
    "no architectures": {"architectures": REMOVE},
    "activation by its other name": {"hidden_act": "swish"},
    "theta of transformers 4": {"rope_parameters": REMOVE, "rope_theta": 5000.0},
    "whole theta": {"rope_parameters": REMOVE, "rope_theta": 5000},
    "no theta": {"rope_parameters": REMOVE, "rope_theta": REMOVE},
    "theta of transformers 5": {"rope_theta": REMOVE, "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}},
    "linear of transformers 4": {
        "rope_parameters": REMOVE,
        "rope_theta": 5000.0,
        "rope_scaling": {"type": "linear", "factor": 2.0},
    },
    "linear by both names": {
        "rope_parameters": REMOVE,
        "rope_scaling": {"type": "linear", "rope_type": "linear", "factor": 2.5},
    },
    "linear of transformers 5": {
        "rope_theta": REMOVE,
        "rope_scaling": REMOVE,
        "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5000.0},
    },
    "theta beside rope_parameters": {
        "rope_scaling": REMOVE,
        "rope_theta": 5000.0,
        "rope_parameters": {"rope_type": "linear", "factor": 2.0},
    },
    "llama3 of transformers 4": {
        "rope_parameters": REMOVE,
        "rope_theta": 5000.0,
        "rope_scaling": {"rope_type": "llama3", **LLAMA3},
    },
    "llama3 of transformers 5": {
        "rope_theta": REMOVE,
        "rope_scaling": REMOVE,
        "rope_parameters": {"rope_type": "llama3", "rope_theta": 5000.0, **LLAMA3},
    },
    "llama3 without the original length": {
        "rope_theta": REMOVE,
        "rope_scaling": REMOVE,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 5000.0,
            **{key: value for key, value in LLAMA3.items() if not key.startswith("original")},
        },
    },
    "both forms": {
        "rope_theta": 5000.0,
        "rope_scaling": {"type": "linear", "factor": 2.0},
        "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5000.0},
    },
    "an empty scaling": {"rope_parameters": REMOVE, "rope_theta": 5000.0, "rope_scaling": {}},
    "default with keys that it does not read": {
        "rope_theta": REMOVE,
        "rope_scaling": REMOVE,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 5000.0,
            "mrope_section": [2, 3, 3],
            "original_max_position_embeddings": 32,
        },
    },
    "linear with the original length": {
        "rope_parameters": REMOVE,
        "rope_theta": 5000.0,
        "rope_scaling": {"type": "linear", "factor": 2.0, "original_max_position_embeddings": 32, "finetuned": True},
    },
    "the whole head rotated": {"partial_rotary_factor": 1.0},
    "mechanisms that are off": {
        "attn_logit_softcapping": None,
        "final_logit_softcapping": 0,
        "num_local_experts": 1,
        "embedding_multiplier": 1.0,
        "use_qk_norm": False,
        "use_parallel_residual": False,
        "no_rope_layers": [],
        "rope_interleaved": False,
        "is_decoder": False,
        "add_cross_attention": False,
        "use_mrope": False,
        "is_causal": True,
    },
    "types of layers": {"layer_types": ["full_attention", "full_attention"]},
}
OWN: dict[str, dict[str, dict]] = {
    "llama": {
        "sliced matrices": {"pretraining_tp": 2},
        "a window as long as the positions": {"sliding_window": 128},
        "no window": {"layer_types": ["full_attention", "full_attention"], "sliding_window": None},
        "a window beside types": {"layer_types": ["full_attention", "full_attention"], "sliding_window": 8},
        "head_dim null": {"head_dim": None, "_weights": "llama-linear-rope", "rope_parameters": REMOVE, "rope_scaling": None},
    },
    "mistral": {
        "no window": {"sliding_window": None},
        "another window": {"sliding_window": 5},
        "the default window": {"sliding_window": REMOVE},
        # AutoModelForCausalLM makes a ministral of it, whose layers have windows by their types.
        "types of layers, windowed": {"layer_types": ["sliding_attention", "sliding_attention"]},
        "types of layers, mixed": {"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 5},
    },
    "qwen2": {
        "a window that is not used": {"use_sliding_window": False, "sliding_window": 4, "max_window_layers": 0},
        "a window that is not used and not valid": {"use_sliding_window": False, "sliding_window": 0},
        "a window": {"layer_types": REMOVE, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
        "types of layers, mixed": {
            "use_sliding_window": True,
            "sliding_window": 4,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        "the older name of a type": {"layer_types": ["attention", "attention"]},
        "a bias that is always there": {"attention_bias": False},
        "dual chunks": {"dual_chunk_attention_config": {"chunk_size": 262144, "local_size": 8192}},
    },
    "qwen3": {
        "a window": {"layer_types": REMOVE, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0},
        "types of layers, mixed": {
            "use_sliding_window": True,
            "sliding_window": 4,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        "a norm that is always there": {"use_qk_norm": True},
    },
}


def changed(config: dict, changes: dict) -> dict:
    result = {key: value for key, value in config.items() if changes.get(key) != REMOVE}
    return result | {key: value for key, value in changes.items() if value != REMOVE}


def logprobs_of(folder: Path, config: dict, ids: list[int]):
    with tempfile.TemporaryDirectory() as name:
        for file in folder.glob("*.safetensors"):
            shutil.copy(file, name)
        (Path(name) / "config.json").write_text(json.dumps(config))
        model, info = AutoModelForCausalLM.from_pretrained(
            name, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
        )
        problems = {key: value for key, value in info.items() if value}
        assert not problems, problems
        with torch.no_grad():
            values = reference.token_logprobs(model.eval(), PROMPT, ids)
        model.config.save_pretrained(name)
        return values, json.loads((Path(name) / "config.json").read_text())


def difference(original: dict, config: dict) -> dict:
    """The keys that stand otherwise in config, and those that it lacks."""
    return {
        "set": {key: value for key, value in config.items() if key not in original or original[key] != value},
        "remove": [key for key in original if key not in config],
    }


def variants(ids: list[int]) -> dict:
    """Each with the number of its result: most forms say the same."""
    results: list[dict] = []
    result = []

    def add(name: str, weights: str, original: dict, config: dict, values: torch.Tensor) -> None:
        if array(values) not in results:
            results.append(array(values))
        place = results.index(array(values))
        result.append({"name": name, "checkpoint": weights, "config": difference(original, config), "result": place})

    for family in TYPES:
        for name, changes in (COMMON | OWN[family]).items():
            weights = changes.get("_weights", family)
            changes = {key: value for key, value in changes.items() if key != "_weights"}
            original = json.loads((CHECKPOINTS / weights / "config.json").read_text())
            config = changed(original, changes)
            values, saved = logprobs_of(CHECKPOINTS / weights, config, ids)
            again, _ = logprobs_of(CHECKPOINTS / weights, saved, ids)
            assert torch.equal(again, values), (family, name)
            add(f"{family}: {name}", weights, original, config, values)
            if saved != config and saved["model_type"] == family:
                add(f"{family}: {name}, saved again", weights, original, saved, values)
    return {"results": results, "variants": result}


def keys_read() -> dict[str, list[str]]:
    """Attributes of a configuration that anything in transformers but its own class asks for, by family."""
    seen: set[str] = set()
    is_watching = False
    original = PreTrainedConfig.__getattribute__

    def watch(self, key):
        if is_watching and not sys._getframe(1).f_code.co_filename.endswith("configuration_utils.py"):
            seen.add(key)
        return original(self, key)

    ids = torch.arange(12).view(2, 6)
    mask = torch.ones_like(ids)
    mask[0, :2] = 0
    result = {}
    PreTrainedConfig.__getattribute__ = watch
    try:
        for family in TYPES:
            seen.clear()
            for changes in COMMON.values():
                if "architectures" in changes:
                    continue
                config = changed(json.loads((CHECKPOINTS / family / "config.json").read_text()), changes)
                with tempfile.TemporaryDirectory() as name:
                    (Path(name) / "config.json").write_text(json.dumps(config))
                    shutil.copy(CHECKPOINTS / family / "model.safetensors", name)
                    is_watching = True
                    model = AutoModelForCausalLM.from_pretrained(name)
                    model(ids, labels=ids).loss.backward()
                    model.generate(ids, attention_mask=mask, max_new_tokens=3, do_sample=False)
                    is_watching = False
            declared = set(AutoConfig.for_model(family).to_dict())
            own = {key for key in seen if not key.startswith("__") and not callable(getattr(PreTrainedConfig, key, None))}
            result[family] = sorted(own | declared)
    finally:
        PreTrainedConfig.__getattribute__ = original
    return result


def make() -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    generator = torch.Generator().manual_seed(31)
    ids = torch.randint(3, 131, (LENGTH,), generator=generator).tolist()
    write(
        "configs",
        ["torch", "transformers"],
        {"promptIds": PROMPT, "responseIds": ids, "keysRead": keys_read()} | variants(ids),
    )


if __name__ == "__main__":
    make()
