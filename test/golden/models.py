"""One JSON per checkpoint: logits, sequence log-probs, greedy tokens, losses and gradients."""

import torch

import reference
from checkpoints import SIZES, load
from store import array, write

LENGTH = 24  # three windows of the checkpoints that have one
NEW_TOKENS = 20
MIN_MARGIN = 0.01  # greedy tokens are only a golden where no rounding can change them


def random_ids(generator: torch.Generator, length: int) -> list[int]:
    return torch.randint(3, SIZES["vocab_size"], (length,), generator=generator).tolist()


def groups(generator: torch.Generator) -> list[dict]:
    def ids(length):
        return random_ids(generator, length)

    shared = ids(3)
    return [
        # One token; ragged; a common beginning; the same response twice.
        {"promptIds": [1] + ids(6), "responses": [ids(1), shared + ids(4), shared + ids(9), shared, shared]},
        {"promptIds": [1], "responses": [ids(1), ids(9)]},
        {"promptIds": [1] + ids(19), "responses": [ids(11), ids(2), ids(6)]},
        {"promptIds": [1] + ids(2), "responses": [ids(17)]},
    ]


def examples(generator: torch.Generator) -> list[dict]:
    lengths = [(7, 5), (1, 9), (13, 1), (4, 12)]
    return [
        {"promptIds": [1] + random_ids(generator, p - 1), "responseIds": random_ids(generator, r)} for p, r in lengths
    ]


def pairs(model, generator: torch.Generator) -> list[dict]:
    """Reference log-probs are the policy's plus noise, so that no u is zero."""
    result = []
    for p, w, l in [(6, 5, 9), (1, 8, 8), (12, 1, 4)]:
        pair = {"promptIds": [1] + random_ids(generator, p - 1)}
        for side, length in (("chosen", w), ("rejected", l)):
            ids = random_ids(generator, length)
            logprob = reference.token_logprobs(model, pair["promptIds"], ids).sum().item()
            noise = torch.randn((), generator=generator).item()
            pair[f"{side}Ids"] = ids
            pair[f"reference{side.capitalize()}"] = round(logprob + 2 * noise, 4)
        result.append(pair)
    return result


@torch.no_grad()
def scores(model, content: list[dict]) -> list[list[dict]]:
    return [
        [array(reference.token_logprobs(model, group["promptIds"], ids)) for ids in group["responses"]]
        for group in content
    ]


@torch.no_grad()
def greedy(model, generator: torch.Generator) -> dict:
    """transformers' generate with its cache; a prompt on which the runner-up is never close."""
    while True:
        prompt = [1] + random_ids(generator, 9)
        output = model.generate(
            torch.tensor([prompt]),
            do_sample=False,
            max_new_tokens=NEW_TOKENS,
            eos_token_id=None,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )
        logits = torch.cat(output.logits)
        top = logits.topk(2).values
        margin = (top[:, 0] - top[:, 1]).min().item()
        if margin > MIN_MARGIN:
            ids = output.sequences[0, len(prompt) :].tolist()
            logprobs = logits.float().log_softmax(-1).max(-1).values
            return {"promptIds": prompt, "ids": ids, "logprobs": array(logprobs), "margin": margin}


def gradient_record(gradients: dict[str, torch.Tensor], full: bool) -> dict:
    """Norms of all; values of the final norm and, when `full`, of all norms, biases and two matrices."""

    def kept(name: str, gradient: torch.Tensor) -> bool:
        if name == "model.norm.weight":
            return True
        return full and (gradient.dim() == 1 or "layers.0.self_attn.k_proj" in name or "layers.0.mlp.down" in name)

    return {
        "norms": {name: gradient.double().norm().item() for name, gradient in gradients.items()},
        "arrays": {name: array(gradient) for name, gradient in gradients.items() if kept(name, gradient)},
    }


def preference_cases(content: list[dict]) -> list[dict]:
    """The CREAM loss for fixed C and for a C per pair; its relatives."""
    mixed = [0.9, 0.35, 0.6]
    cases = [{"loss": "sigmoid", "beta": 0.5, "sftCoefficient": 0.0, "consistency": [c] * 3} for c in (0, 0.3, 0.5, 1)]
    cases.append({"loss": "sigmoid", "beta": 0.1, "sftCoefficient": 0.3, "consistency": mixed})
    cases += [
        {"loss": loss, "beta": 0.5, "sftCoefficient": 0.0, "consistency": mixed}
        for loss in ("hinge", "ipo", "sigmoid-norm")
    ]
    assert len(content) == len(mixed)
    return cases


def make(name: str) -> None:
    generator = torch.Generator().manual_seed(1000)
    model = load(name)
    ids = [1] + random_ids(generator, LENGTH - 1)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
    content = groups(generator)

    # The same weights rounded to bfloat16: what transformers gives in bfloat16, and in float32 from them.
    half = load(name, torch.bfloat16)
    exact = load(name, torch.bfloat16).float()

    batch = examples(generator)
    sft = reference.sft_loss(model, batch)
    sft_gradients = gradient_record(reference.gradients(model, sft), full=True)

    with torch.no_grad():
        pair_content = pairs(model, generator)
    preference = []
    for case in preference_cases(pair_content):
        weighted = [pair | {"consistency": c} for pair, c in zip(pair_content, case["consistency"], strict=True)]
        loss = reference.preference_loss(model, weighted, case["loss"], case["beta"], case["sftCoefficient"])
        record = gradient_record(reference.gradients(model, loss), full=case["consistency"][0] == 0.3)
        preference.append(case | {"value": loss.item(), "gradients": record})

    write(
        f"model-{name}",
        ["torch", "transformers"],
        {
            "checkpoint": name,
            "numParameters": sum(parameter.numel() for parameter in model.parameters()),
            "logits": {"ids": ids, "values": array(logits)},
            "score": {
                "groups": content,
                "tokenLogprobs": scores(model, content),
                "bfloat16": {"tokenLogprobs": scores(half, content), "exact": scores(exact, content)},
            },
            "greedy": greedy(model, generator),
            "sft": {"batch": batch, "loss": sft.item(), "gradients": sft_gradients},
            "preference": {"pairs": pair_content, "cases": preference},
        },
    )
