"""Loads what save_all.mjs saved with transformers and compares logits with the originals.

    npm run build && node test/golden/save_all.mjs DIRECTORY
    .cache/golden/bin/python test/golden/check_saved.py DIRECTORY
"""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from checkpoints import NAMES, SIZES, load


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
            print(f"{folder.name}: equal logits")


if __name__ == "__main__":
    main()
