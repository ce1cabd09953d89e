"""Makes harness.json and checkpoints/harness: lm-evaluation-harness's own task files on a tiny model, with examples and cuts.

The model has learned a few worked problems by heart, so that it writes numbers and goes on with a new question. Also its filters of GSM8K on texts, and what Python's random draws, which choose the examples.
"""

import json
import random
import sys
import tempfile
from pathlib import Path

import torch
from lm_eval.api.metrics import exact_match_hf_evaluate
from lm_eval.filters.extraction import RegexFilter
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from tokenizers import Tokenizer, decoders, models, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from options import ARC, OPENBOOKQA, SIQA, ROWS, choices
from store import CHECKPOINTS, FOLDER, write

sys.path.insert(0, str(FOLDER.parent / "matrix"))
from harness import run  # noqa: E402  the development script that runs the harness on local files

MORE_SIQA = [("Flo is late.", "How does Flo feel?", ["calm", "hurried", "blue"], 2), ("Gus ran.", "Why?", ["rain", "sun", "a cat"], 1)]
GSM8K = [
    ("Ada has 3 pens and buys 4 more. How many pens has she?", "She has 3 + 4 = <<3+4=7>>7 pens.\n#### 7"),
    ("A ship carries 1,200 crates and unloads 200. How many are left?", "1,200 - 200 = <<1200-200=1000>>1,000 crates are left.\n#### 1,000"),
    ("A cup costs $2.50. What do 4 cups cost?", "4 * 2.5 = $<<4*2.5=10>>10\n#### 10"),
    ("It is 5 degrees and gets 9 degrees colder. How cold is it?", "5 - 9 = <<5-9=-4>>-4\n#### -4"),
    ("Bo reads 12 pages a day for 3 days. How many pages?", "12 * 3 = <<12*3=36>>36\n#### 36"),
    ("Half of 18 birds fly off. How many stay?", "18 / 2 = <<18/2=9>>9\n#### 9"),
    ("Cy walks 2 km there and back. How far?", "2 * 2 = <<2*2=4>>4 km\n#### 4"),
    ("Eggs come by 6. How many eggs are in 7 boxes?", "6 * 7 = <<6*7=42>>42\n#### 42"),
]
TEXTS = [
    "#### 18", "#### 18.", "#### 18.0", "#### $18", "####18", "#### 1,234", "#### -7", "#### .5", "#### ,", "#### 18 dollars",
    "She has 3 pens.\n#### 7\n\nQ: 2 and 2\n#### 4", "The answer is 18.", "The answer is $18.50.", "It is 18%.", "18", "", "none",
    "1 234", "1/2", "3-4", "- 5", "\u22125", "x=7", "7.", "7..", "$", "$$", "12:30", "a.b", "...", "#### 1.000.000", "The total is 1,200,\nand more",
    "#### 18\n", "#### 1e3", "#### 0018", "\\boxed{18}", "18 apples, 20 pears", "#### 18#### 19", "#### ### 5", "$1,2,3$",
]
REFERENCES = ["x\n#### 18", "x\n#### 1,234", "#### 7", "#### -5", "18", "x #### .5", "#### 1000000", "x\n#### 18.", "no mark 18", "#### $18"]


def make_checkpoint(folder: Path) -> None:
    shown = [f"Question: {q}\nAnswer: {a}\n\n" for q, a in GSM8K]
    texts = shown + [f"Q: {context} {q}\nA: {option}" for context, q, options, _ in SIQA + MORE_SIQA for option in options]
    texts += [f"Question: {q}\nAnswer: {option}" for q, options, _ in ARC + OPENBOOKQA for option in options if len(option) > 2]
    # An option that becomes one token with the question's end has no log-prob: the harness stops there, or counts it as 0.
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    special = ["<unk>", "<s>", "</s>"]
    tokenizer.train_from_iterator(texts * 4, trainers.BpeTrainer(vocab_size=320, special_tokens=special, max_token_length=4))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    tokenizer.decoder = decoders.Fuse()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", clean_up_tokenization_spaces=False
    )
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=160, bos_token_id=1, eos_token_id=2,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).to(torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    order = random.Random(5)
    for _ in range(400):
        batch = [wrapped.encode("".join(order.sample(shown, 3)))[:160] for _ in range(8)]
        ids = torch.tensor([one[: min(map(len, batch))] for one in batch])
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    print(f"harness checkpoint: loss {loss.item():.3f}")
    model.save_pretrained(folder)
    wrapped.save_pretrained(folder)


def siqa_rows(items):
    return [
        {"context": context, "question": q, "answerA": c[0], "answerB": c[1], "answerC": c[2], "label": str(label)}
        for context, q, c, label in items
    ]


def verdicts() -> list:
    """[filter, text, reference, what was read, whether it matches] by the filters and metric of the task's own file."""
    task = load_yaml(TaskManager().task_index["gsm8k"].yaml_path)
    metric = {key: task["metric_list"][0][key] for key in ("ignore_case", "ignore_punctuation", "regexes_to_ignore")}
    found = []
    for wanted in task["filter_list"]:
        settings = {key: value for key, value in wanted["filter"][0].items() if key != "function"}
        read = [answers[0] for answers in RegexFilter(**settings).apply([[text] for text in TEXTS], [])]
        for text, answer in zip(TEXTS, read):
            for reference in REFERENCES:
                same = exact_match_hf_evaluate(predictions=[answer], references=[reference], **metric)["exact_match"]
                found.append([wanted["name"], text, reference, answer, bool(same)])
    return found


def draws() -> list:
    found = []
    for seed in (0, 1, 1234, 2**40 + 7):
        generator = random.Random(seed)
        for length, count in ((1500, 5), (7, 5), (300, 9), (21, 1), (21, 6), (85, 6), (86, 6), (5, 5), (2**31 + 9, 2)):
            found.append({"seed": seed, "length": length, "count": count, "drawn": generator.sample(range(length), count)})
    return found


def make() -> None:
    checkpoint = CHECKPOINTS / "harness"
    make_checkpoint(checkpoint)
    arc = [{"id": f"more-{i}", "question": q, "choices": choices(c), "answerKey": a} for i, (q, c, a) in enumerate(reversed(ARC))]
    obqa = [{"id": f"more-{i}", "question_stem": q, "choices": choices(c), "answerKey": a} for i, (q, c, a) in enumerate(OPENBOOKQA * 2)]
    gsm8k = [{"question": q, "answer": a} for q, a in GSM8K]
    rows = {
        "arc_easy": (ROWS["arc_easy"], arc),
        "openbookqa": (ROWS["openbookqa"], obqa),
        "social_iqa": (siqa_rows(SIQA), siqa_rows(SIQA + MORE_SIQA)),
        "gsm8k": (gsm8k[:4], gsm8k[2:]),
    }
    settings = [
        {"task": "arc_easy"}, {"task": "arc_easy", "shots": 2}, {"task": "arc_easy", "shots": 5, "seed": 3},
        {"task": "arc_easy", "shots": 3, "sampler": "first_n"}, {"task": "openbookqa", "shots": 1}, {"task": "social_iqa"},
        {"task": "social_iqa", "shots": 3}, {"task": "social_iqa", "shots": 2, "sampler": "first_n"},
        {"task": "gsm8k", "shots": 0, "maxNewTokens": 80}, {"task": "gsm8k", "maxNewTokens": 80},
        {"task": "gsm8k", "shots": 1, "seed": 9, "maxNewTokens": 100},
        {"task": "gsm8k", "shots": 2, "sampler": "first_n", "maxNewTokens": 60},
    ]
    with tempfile.TemporaryDirectory() as temporary:
        files = {}
        for name, (test, train) in rows.items():
            for kind, content in (("test", test), ("train", train)):
                path = Path(temporary) / f"{name}.{kind}.jsonl"
                path.write_text("".join(json.dumps(row) + "\n" for row in content))
                files[name, kind] = str(path)
        tasks = [
            one | {"name": f"local_{i}", "test": files[one["task"], "test"], "train": files[one["task"], "train"]}
            for i, one in enumerate(settings)
        ]
        model = HFLM(pretrained=str(checkpoint), dtype="float32", device="cpu", batch_size=1)
        found = run(model, tasks)
    write(
        "harness",
        ["lm-eval", "torch", "transformers"],
        {
            "rows": {name: {"test": test, "train": train} for name, (test, train) in rows.items()},
            "runs": [one | found[task["name"]] for one, task in zip(settings, tasks)],
            "verdicts": verdicts(),
            "draws": draws(),
        },
    )
