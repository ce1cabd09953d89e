"""Makes turns.json: prompts, completions and whole conversations as TRL's tokenize_fn makes them of chat templates.

    python test/golden/turns.py

The tokenizer is that of test/golden/checkpoints/options. A cell that the template refuses holds its message.
"""

import json
from pathlib import Path

import jinja2
import transformers
import trl
from transformers import AutoTokenizer
from trl.data_utils import _tokenize, common_prefix_length
from turns_data import CONVERSATIONS, TEMPLATES

HERE = Path(__file__).resolve().parent


def cell(tokenizer, template, prompt, completion, beside):
    """As tokenize_fn of the SFT and DPO trainers for a conversation, and of the reward trainer."""
    kwargs = {"chat_template": template, "tools": beside.get("tools"), **beside.get("chat_template_kwargs", {})}
    if "documents" in beside:
        kwargs["documents"] = beside["documents"]
    try:
        prompt_ids = _tokenize(tokenizer, prompt, add_generation_prompt=True, **kwargs)["input_ids"]
        whole = _tokenize(tokenizer, prompt + completion, **kwargs)["input_ids"]
    except (jinja2.exceptions.TemplateError, TypeError, ValueError, AttributeError) as error:
        return {"error": str(error)}
    found = {"prompt": prompt_ids, "whole": whole, "start": common_prefix_length(prompt_ids, whole)}
    if "{% generation %}" in template:
        found["marked"] = _tokenize(tokenizer, prompt + completion, return_assistant_tokens_mask=True, **kwargs)["assistant_masks"]
    return found


def main():
    tokenizer = AutoTokenizer.from_pretrained(HERE / "checkpoints/options")
    rows = {name: {"prompt": p, "completion": c, **beside} for name, (p, c, beside) in CONVERSATIONS.items()}
    golden = {
        "versions": {"transformers": transformers.__version__, "trl": trl.__version__, "jinja2": jinja2.__version__},
        "templates": TEMPLATES,
        "rows": rows,
        "cells": {
            template: {name: cell(tokenizer, source, *row) for name, row in CONVERSATIONS.items()}
            for template, source in TEMPLATES.items()
        },
    }
    (HERE / "turns.json").write_text(json.dumps(golden, ensure_ascii=True, separators=(",", ":")) + "\n")
    cells = [c for by in golden["cells"].values() for c in by.values()]
    print(len(cells), "cells,", sum("error" in c for c in cells), "refused")


if __name__ == "__main__":
    main()
