"""Makes options.json and checkpoints/options: what lm-evaluation-harness says of a tiny model on rows of the public forms.

The tokenizer's merges cross the border between a question and its options, as SentencePiece's do.
"""

import json
import tempfile
from pathlib import Path

import torch
from lm_eval import simple_evaluate
from store import CHECKPOINTS, write
from tokenizers import Tokenizer, decoders, models, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

ARC = [
    ("Which of these is a mammal?", ["trout", "bat", "crow"], "B"),
    ("What melts at 0 °C?", ["ice", "iron", "sand", "gold"], "A"),
    ("A plant makes sugar from light. What is that called?", ["photosynthesis", "erosion", "rust", "sleep"], "A"),
    ("Which planet is nearest to the sun?", ["Mars", "Mercury", "Venus", "Earth"], "B"),
    ("Qu'est-ce qui est plus léger ?", ["l'élan 🫎", "l'abeille", "ça dépend"], "B"),
    ("Which number is even?", ["3", "5", "8", "11"], "C"),
]
OPENBOOKQA = [
    ("A stove that is on is ", ["hot", "cold", "wet", "a kind of animal"], "A"),
    ("Fog is seen near", ["a marsh", "a desert", "the moon", "an oven"], "A"),
    ("To save money one should", ["eat out more often", "eat out less", "buy a yacht", "sleep"], "B"),
]
SIQA = [
    ("Ada lent Bo her bike.", "How does Bo feel?", ["thankful", "angry", "bored"], 1),
    ("Cy forgot the keys.", "What will Cy do next?", ["go to the moon", "ring the bell", "sing"], 2),
    ("Di won.", "Why did Di train?", ["to lose", "to see the rain", "to win"], 3),
]


def choices(texts):
    return {"text": texts, "label": [chr(65 + i) for i in range(len(texts))]}


ROWS = {
    "arc_easy": [
        {"id": f"arc-{i}", "question": q, "choices": choices(c), "answerKey": a} for i, (q, c, a) in enumerate(ARC)
    ],
    "openbookqa": [
        {"id": f"obqa-{i}", "question_stem": q, "choices": choices(c), "answerKey": a}
        for i, (q, c, a) in enumerate(OPENBOOKQA)
    ],
    "social_iqa": [
        {"context": context, "question": q, "answerA": c[0], "answerB": c[1], "answerC": c[2], "label": str(label)}
        for context, q, c, label in SIQA
    ],
}

# The fields of the harness's own task files that decide what is computed.
TASKS = {
    "arc_easy": {
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_target": "{{choices.label.index(answerKey)}}",
        "doc_to_choice": "{{choices.text}}",
    },
    "openbookqa": {
        "doc_to_text": "question_stem",
        "doc_to_target": "{{choices.label.index(answerKey.lstrip())}}",
        "doc_to_choice": "{{choices.text}}",
    },
    "social_iqa": {
        "doc_to_text": "Q: {{context}} {{question}}\nA:",
        "target_delimiter": " ",
        "doc_to_choice": "{{[answerA, answerB, answerC]}}",
        "doc_to_target": "{{ (label|int) - 1 }}",
    },
}


def make_checkpoint(folder: Path) -> None:
    texts = []
    for context, question, options, _ in SIQA:
        texts += [f"Q: {context} {question}\nA: {option}" for option in options]
    for question, options, _ in ARC + OPENBOOKQA:
        texts += [f"Question: {question}\nAnswer: {option}" for option in options]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    alphabet = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=["<unk>", "<s>", "</s>", *alphabet], limit_alphabet=80, max_token_length=4)
    tokenizer.train_from_iterator(texts * 4, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", clean_up_tokenization_spaces=False
    )
    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.6,
        bos_token_id=1, eos_token_id=2, tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).to(torch.float32).save_pretrained(folder)
    wrapped.save_pretrained(folder)


def run(folder: Path) -> dict:
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name, rows in ROWS.items():
            path = Path(temporary) / f"{name}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            task = TASKS[name] | {
                "task": f"{name}_local",
                "dataset_path": "json",
                "dataset_kwargs": {"data_files": {"test": str(path)}},
                "test_split": "test",
                "output_type": "multiple_choice",
                "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
            }
            found = simple_evaluate(
                model="hf",
                model_args={"pretrained": str(folder), "dtype": "float32"},
                tasks=[task], device="cpu", batch_size=1, log_samples=True, bootstrap_iters=0,
            )
            samples = sorted(found["samples"][task["task"]], key=lambda sample: sample["doc_id"])
            results[name] = {
                "rows": rows,
                "acc": found["results"][task["task"]]["acc,none"],
                "acc_norm": found["results"][task["task"]]["acc_norm,none"],
                "loglikelihoods": [[float(r[0][0]) for r in sample["resps"]] for sample in samples],
                "each": [[sample["acc"], sample["acc_norm"]] for sample in samples],
            }
    return results


def make() -> None:
    checkpoint = CHECKPOINTS / "options"
    make_checkpoint(checkpoint)
    write("options", ["lm-eval", "torch", "transformers"], {"tasks": run(checkpoint)})
