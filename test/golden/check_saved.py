"""Loads what save_all.mjs saved with transformers and PEFT, and compares logits and texts with the originals.

    npm run build && node test/golden/save_all.mjs DIRECTORY
    .cache/golden/bin/python test/golden/check_saved.py DIRECTORY
"""

import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from checkpoints import NAMES, SIZES, load
from store import CHECKPOINTS, FOLDER

ADAPTERS = {"all": "qwen3", "some": "llama-tied"}


def check_text(folder: Path, original: Path, name: str, *keys: str) -> None:
    """Line by line the same, but for the lines of some keys."""
    lines = [
        [line for line in (place / name).read_text().splitlines() if not any(f'"{key}":' in line for key in keys)]
        for place in (folder, original)
    ]
    if lines[0] != lines[1]:
        sys.exit(f"{folder}: {name} is written in another way")


def main() -> None:
    directory = Path(sys.argv[1])
    ids = torch.randint(3, SIZES["vocab_size"], (2, 24), generator=torch.Generator().manual_seed(5000))
    for name in NAMES:
        for dtype in ("float32", "bfloat16"):
            folder = directory / f"{name}.{dtype}"
            saved, info = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", output_loading_info=True)
            problems = {key: value for key, value in info.items() if value}
            if problems:
                sys.exit(f"{folder}: {problems}")
            if saved.dtype != getattr(torch, dtype):
                sys.exit(f"{folder}: loads as {saved.dtype}")
            original = load(name, getattr(torch, dtype))
            with torch.no_grad():
                equal = torch.equal(saved.eval()(ids).logits, original(ids).logits)
            if not equal:
                sys.exit(f"{folder}: logits differ")
            check_text(folder, CHECKPOINTS / name, "config.json", "dtype", "torch_dtype")
            check_text(folder, CHECKPOINTS / name, "generation_config.json")
            print(f"{folder.name}: equal logits, config.json as it was but for the dtype")
    for name, base in ADAPTERS.items():
        folder, original = directory / f"adapter-{name}", FOLDER / "adapters" / name
        check_text(folder, original, "adapter_config.json", "base_model_name_or_path")
        with torch.no_grad():
            logits = [PeftModel.from_pretrained(load(base), place).eval()(ids).logits for place in (folder, original)]
        if not torch.equal(*logits):
            sys.exit(f"{folder}: logits differ")
        print(f"{folder.name}: equal logits with PEFT, adapter_config.json as it was but for the base")


if __name__ == "__main__":
    main()
