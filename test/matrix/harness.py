"""Runs lm-evaluation-harness on local files and writes what it computed, item by item.

    python harness.py REQUEST.json RESULT.json

REQUEST: {model, tasks: [{name, task, test, train?, shots?, sampler?, seed?, limit?, maxNewTokens?}]}. `task` is the harness's
own name and its own task file is used, with the data set replaced by local JSON lines of the published fields, so that nothing
is downloaded. `test` stands for the split that the task measures on, `train` for its training split.
"""

import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import datasets
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml


def local_task(manager: TaskManager, wanted: dict) -> dict:
    """The harness's own task with local files; of the paper's tasks all but social_iqa measure on `test`."""
    config = load_yaml(manager.task_index[wanted["task"]].yaml_path)
    measured = config.get("test_split") or config["validation_split"]
    files = {measured: wanted["test"]}
    if "train" in wanted:
        files[config["training_split"]] = wanted["train"]
    else:
        # Without few-shot examples no other split is read.
        for key in ("training_split", "fewshot_split"):
            config.pop(key, None)
    if measured != config.get("validation_split"):
        config.pop("validation_split", None)
    if "sampler" in wanted:
        config["fewshot_config"] = {"sampler": wanted["sampler"]}
    for key in ("tag", "dataset_name"):
        config.pop(key, None)
    return config | {"task": wanted["name"], "dataset_path": "json", "dataset_kwargs": {"data_files": files}}


def items_of(task: str, samples: list[dict]) -> list[dict]:
    """One record per problem; a generated answer has one sample per filter."""
    items: dict[int, dict] = {}
    for sample in samples:
        item = items.setdefault(sample["doc_id"], {"context": first_argument(sample)})
        if "acc" in sample:
            item["logprobs"] = [float(response[0][0]) for response in sample["resps"]]
            item |= {key: sample[key] for key in ("acc", "acc_norm") if key in sample}
        else:
            item["text"] = sample["resps"][0][0]
            item[sample["filter"]] = [sample["filtered_resps"][0], float(sample["exact_match"])]
    return [items[i] for i in sorted(items)]


def first_argument(sample: dict) -> str:
    argument = sample["arguments"][0] if isinstance(sample["arguments"], (list, tuple)) else sample["arguments"]["gen_args_0"]
    return argument["arg_0"] if isinstance(argument, dict) else argument[0]


def run(model: HFLM, tasks: list[dict]) -> dict:
    """{name: {scores, items}} of every task."""
    manager = TaskManager()
    found = {}
    for task in tasks:
        config = local_task(manager, task)
        evaluated = simple_evaluate(
            model=model,
            tasks=[config],
            num_fewshot=task.get("shots"),
            limit=task.get("limit"),
            log_samples=True,
            bootstrap_iters=0,
            gen_kwargs={"max_gen_toks": task["maxNewTokens"]} if "maxNewTokens" in task else None,
            **({"fewshot_random_seed": task["seed"]} if "seed" in task else {}),
        )
        scores = evaluated["results"][task["name"]]
        found[task["name"]] = {
            "scores": {key: value for key, value in scores.items() if isinstance(value, float)},
            "items": items_of(task["task"], evaluated["samples"][task["name"]]),
        }
    return found


def main(request: Path, result: Path) -> None:
    datasets.disable_progress_bars()
    wanted = json.loads(request.read_text())
    model = HFLM(pretrained=wanted["model"], dtype="float32", device="cpu", batch_size=1)
    result.write_text(json.dumps(run(model, wanted["tasks"])))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
