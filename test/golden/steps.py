"""Ten optimizer steps of SFT and of the preference loss with PyTorch's AdamW, in float32."""

import math

import torch

import models
import reference
from checkpoints import load
from store import array, write

CHECKPOINT = "qwen3"  # q/k norms beside the other norms
STEPS = 10
WARMUP = 3
PEAK = 2e-3
OPTIMIZER = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weightDecay": 0.1, "maxGradNorm": 1.0}


def learning_rate(step: int) -> float:
    """Warm-up, then cosine to zero."""
    if step < WARMUP:
        return PEAK * (step + 1) / WARMUP
    return PEAK * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP)))


def run(make_batch, loss_of) -> dict:
    model = load(CHECKPOINT)
    start = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    matrices = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() != 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": OPTIMIZER["weightDecay"]},
            {"params": others, "weight_decay": 0.0},
        ],
        betas=(OPTIMIZER["beta1"], OPTIMIZER["beta2"]),
        eps=OPTIMIZER["epsilon"],
    )
    generator = torch.Generator().manual_seed(2000)
    records = []
    for step in range(STEPS):
        batch = make_batch(model, generator)
        loss = loss_of(model, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIMIZER["maxGradNorm"])
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        optimizer.step()
        records.append(
            {"learningRate": learning_rate(step), "batch": batch, "loss": loss.item(), "gradNorm": norm.item()}
        )
    final = {key: array(parameter) for key, parameter in model.named_parameters()}
    moved = max((parameter.detach() - start[key]).abs().max().item() for key, parameter in model.named_parameters())
    assert all(record["gradNorm"] > OPTIMIZER["maxGradNorm"] for record in records[:2]), "the clip must act"
    return {"steps": records, "largestChange": moved, "final": final}


def preference_batch(model, generator: torch.Generator) -> list[dict]:
    with torch.no_grad():
        content = models.pairs(model, generator)
    return [pair | {"consistency": c} for pair, c in zip(content, (0.9, 0.4, 1.0), strict=True)]


def make() -> None:
    torch.manual_seed(0)
    write(
        "steps",
        ["torch", "transformers"],
        {
            "checkpoint": CHECKPOINT,
            "optimizer": OPTIMIZER,
            "sft": run(lambda model, generator: models.examples(generator), reference.sft_loss),
            "preference": {"loss": "sigmoid", "beta": 0.5}
            | run(
                preference_batch,
                lambda model, batch: reference.preference_loss(model, batch, "sigmoid", 0.5),
            ),
        },
    )
