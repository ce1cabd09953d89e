"""Makes the goldens of this folder: known answers from transformers, plain PyTorch, TRL and scipy.

    python -m venv .cache/golden && .cache/golden/bin/pip install -r test/golden/requirements.txt
    .cache/golden/bin/pip install --no-deps rewardbench==0.1.4  # it asks for another transformers; its tables are all that is read
    .cache/golden/bin/python test/golden/make.py

Deterministic: run twice, it writes the same bytes (on one machine). Nothing here is edited by hand.
"""

import sys

import datasets
import torch

import checkpoints
import adapters
import configs
import jinja_templates
import harness_numbers
import lora
import models
import options
import paired_tests
import parquet
import preference_trl
import processors
import ranks
import reward_bench
import reward_models
import steps
import student_t
import tokenizer_steps
from store import FOLDER

LIMIT_BYTES = 5_000_000


def main() -> None:
    datasets.disable_progress_bars()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    checkpoints.make()
    for name in checkpoints.NAMES:
        models.make(name)
    configs.make()
    steps.make()
    lora.make()
    jinja_templates.make()
    adapters.make()
    reward_bench.make()
    reward_models.make()
    preference_trl.make()
    processors.make()
    ranks.make()
    student_t.make()
    tokenizer_steps.make()
    paired_tests.make()
    options.make()
    harness_numbers.make()
    parquet.make()
    size = sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    print(f"{size / 1e6:.2f} MB in test/golden")
    if size > LIMIT_BYTES:
        sys.exit(f"test/golden holds {size} bytes, the limit is {LIMIT_BYTES}")


if __name__ == "__main__":
    main()
