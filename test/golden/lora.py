"""LoRA adapters of PEFT over tiny checkpoints: log-probs, gradients, merged weights, AdamW steps. float32."""

import shutil

import torch
from peft import LoraConfig, PeftModel, get_peft_model

import models
import reference
from checkpoints import load
from store import FOLDER, array, write

STEPS = 5
LEARNING_RATE = 1e-2
BETA = 0.5
CASES = {
    "all": {"checkpoint": "qwen3", "r": 4, "lora_alpha": 8, "target_modules": "all-linear"},
    # a rank-stabilised adapter on some members of the merged matrices
    "some": {
        "checkpoint": "llama-tied",
        "r": 3,
        "lora_alpha": 2.5,
        "use_rslora": True,
        "target_modules": ["q_proj", "v_proj", "up_proj", "down_proj"],
    },
}


def trained(model) -> dict[str, torch.nn.Parameter]:
    """Under the names of the saved file."""
    return {
        name.replace(".default.weight", ".weight"): parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def gradients_of(model, loss: torch.Tensor) -> dict:
    model.zero_grad(set_to_none=True)
    loss.backward()
    grads = {name: parameter.grad for name, parameter in trained(model).items()}
    return {
        "norms": {name: grad.norm().item() for name, grad in grads.items()},
        "arrays": {name: array(grad) for name, grad in grads.items() if ".layers.0." in name},
    }


def make_case(name: str, checkpoint: str, **options) -> dict:
    base = load(checkpoint)
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **options))
    generator = torch.Generator().manual_seed(77)
    for parameter in trained(model).values():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    folder = FOLDER / "adapters" / name
    shutil.rmtree(folder, ignore_errors=True)
    config = model.peft_config["default"]
    config.base_model_name_or_path = f"checkpoints/{checkpoint}"
    config.target_modules = sorted(config.target_modules)
    model.save_pretrained(folder)
    (folder / "README.md").unlink()

    examples = models.examples(generator)
    with torch.no_grad():
        pairs = [pair | {"consistency": c} for pair, c in zip(models.pairs(base, generator), (0.9, 0.4, 1.0))]
        logprobs = [
            array(reference.token_logprobs(model, example["promptIds"], example["responseIds"])) for example in examples
        ]
    sft = reference.sft_loss(model, examples)
    result = {
        "checkpoint": checkpoint,
        "examples": examples,
        "tokenLogprobs": logprobs,
        "sft": {"loss": sft.item(), "gradients": gradients_of(model, sft)},
        "pairs": pairs,
    }
    loss = reference.preference_loss(model, pairs, "sigmoid", BETA)
    result["preference"] = {"beta": BETA, "loss": loss.item(), "gradients": gradients_of(model, loss)}

    optimizer = torch.optim.AdamW(trained(model).values(), lr=LEARNING_RATE, weight_decay=0.1)
    losses, norms = [], []
    for _ in range(STEPS):
        loss = reference.preference_loss(model, pairs, "sigmoid", BETA)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(trained(model).values(), 1.0).item())
        optimizer.step()
        losses.append(loss.item())
    result["steps"] = {
        "learningRate": LEARNING_RATE,
        "losses": losses,
        "gradNorms": norms,
        "final": {key: array(value) for key, value in trained(model).items()},
    }
    merged = PeftModel.from_pretrained(load(checkpoint), folder).merge_and_unload()
    result["merged"] = {
        key: array(value)
        for key, value in merged.named_parameters()
        if ".layers.1." in key and key.endswith("proj.weight")
    }
    return result


def make() -> None:
    torch.manual_seed(0)
    cases = {name: make_case(name, **options) for name, options in CASES.items()}
    write("lora", ["torch", "transformers", "peft"], {"cases": cases})
