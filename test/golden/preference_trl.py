"""TRL's own DPOTrainer on a tiny policy and another reference: its losses, metrics and gradients.

TRL has one label smoothing per trainer; of the losses that take it, "aot" on a batch of one pair is exactly
conservative DPO (sorting one value changes nothing).
"""

import tempfile
import warnings

import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer

import models
import reference
from checkpoints import SIZES, load
from store import array, write

POLICY, REFERENCE = "llama", "llama-sharded"
BETA = 0.5
METRICS = [f"rewards/{key}" for key in ("chosen", "rejected", "margins", "accuracies")] + ["logps/chosen", "logps/rejected"]


def tokenizer() -> PreTrainedTokenizerFast:
    """Only needed to construct the trainer; all batches are token ids."""
    vocabulary = {f"t{i}": i for i in range(SIZES["vocab_size"])}
    words = Tokenizer(WordLevel(vocabulary, unk_token="t0"))
    words.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="t0", eos_token="t2", unk_token="t0")


def trainer(loss: str, smoothing: float) -> DPOTrainer:
    folder = tempfile.mkdtemp()
    config = DPOConfig(
        output_dir=folder,
        loss_type=[loss],
        label_smoothing=smoothing,
        beta=BETA,
        max_length=None,
        gradient_checkpointing=False,
        bf16=False,
        report_to=[],
        use_cpu=True,
        per_device_train_batch_size=4,
    )
    rows = Dataset.from_list([{"prompt": "t5", "chosen": " t6", "rejected": " t7"}] * 4)
    return DPOTrainer(load(POLICY), load(REFERENCE), config, train_dataset=rows, processing_class=tokenizer())


def case(content: list[dict], trl_loss: str, smoothing: float, ours: str) -> dict:
    dpo = trainer(trl_loss, smoothing)
    inputs = dpo.data_collator(
        [{"prompt_ids": p["promptIds"], "chosen_ids": p["chosenIds"], "rejected_ids": p["rejectedIds"]} for p in content]
    )
    dpo.model.train()
    loss = dpo.compute_loss(dpo.model, inputs)
    gradients = reference.gradients(dpo.model, loss)
    metrics = {key: dpo._metrics["train"][key][-1] for key in METRICS}
    return {
        "trlLoss": trl_loss,
        "labelSmoothing": smoothing,
        "loss": ours,
        "beta": BETA,
        "pairs": [pair | {"consistency": 1 - smoothing} for pair in content],
        "value": loss.item(),
        "metrics": metrics,
        "gradients": {
            "norms": {name: gradient.double().norm().item() for name, gradient in gradients.items()},
            "arrays": {name: array(g) for name, g in gradients.items() if g.dim() == 1 or "layers.1.self_attn.v" in name},
        },
    }


def make() -> None:
    warnings.simplefilter("ignore")
    generator = torch.Generator().manual_seed(4000)
    base = load(REFERENCE)
    content = []
    with torch.no_grad():
        for pair in models.pairs(base, generator):
            for side in ("chosen", "rejected"):
                logprob = reference.token_logprobs(base, pair["promptIds"], pair[f"{side}Ids"]).sum().item()
                pair[f"reference{side.capitalize()}"] = logprob
            content.append(pair)
    cases = [
        case(content, trl, 0.0, ours)
        for trl, ours in (("sigmoid", "sigmoid"), ("hinge", "hinge"), ("ipo", "ipo"), ("sigmoid_norm", "sigmoid-norm"))
    ]
    # Smoothings far from sigma(-u): next to it the gradient vanishes, and what is left is rounding.
    cases += [case(content[:1], "aot", 0.3, "sigmoid"), case(content[1:2], "aot", 0.3, "sigmoid")]
    write("preference-trl", ["torch", "transformers", "trl"], {"policy": POLICY, "cases": cases})
