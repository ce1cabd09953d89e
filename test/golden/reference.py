"""The definitions in plain PyTorch on a transformers model: one sequence at a time, no padding, no cache."""

import torch
import torch.nn.functional as F


def token_logprobs(model, prompt_ids: list[int], response_ids: list[int]) -> torch.Tensor:
    """log p of each response token, softmax in float32. Differentiable."""
    ids = torch.tensor([prompt_ids + response_ids])
    logits = model(ids, use_cache=False).logits[0, len(prompt_ids) - 1 : -1].float()
    return logits.log_softmax(-1).gather(-1, torch.tensor(response_ids)[:, None])[:, 0]


def sft_loss(model, examples: list[dict]) -> torch.Tensor:
    """The loss of transformers itself, with label -100 on prompts and padding."""
    sequences = [torch.tensor(e["promptIds"] + e["responseIds"]) for e in examples]
    labels = [torch.tensor([-100] * len(e["promptIds"]) + e["responseIds"]) for e in examples]
    pad = torch.nn.utils.rnn.pad_sequence
    mask = pad([torch.ones_like(ids) for ids in sequences], batch_first=True)
    return model(
        pad(sequences, batch_first=True),
        attention_mask=mask,
        labels=pad(labels, batch_first=True, padding_value=-100),
        use_cache=False,
    ).loss


def preference_loss(model, pairs: list[dict], loss: str, beta: float, sft_coefficient: float = 0.0) -> torch.Tensor:
    """Mean over pairs of the loss with a weight C per pair."""
    losses = []
    for pair in pairs:
        chosen = token_logprobs(model, pair["promptIds"], pair["chosenIds"])
        rejected = token_logprobs(model, pair["promptIds"], pair["rejectedIds"])
        c = pair["consistency"]
        chosen_ratio = chosen.sum() - pair["referenceChosen"]
        rejected_ratio = rejected.sum() - pair["referenceRejected"]
        if loss in ("ipo", "sigmoid-norm"):
            chosen_ratio = chosen_ratio / len(chosen)
            rejected_ratio = rejected_ratio / len(rejected)
        z = chosen_ratio - rejected_ratio
        u = beta * z
        if loss in ("sigmoid", "sigmoid-norm"):
            value = c * F.softplus(-u) + (1 - c) * F.softplus(u)
        elif loss == "hinge":
            value = c * torch.relu(1 - u) + (1 - c) * torch.relu(1 + u)
        elif loss == "ipo":
            value = c * (z - 1 / (2 * beta)) ** 2 + (1 - c) * (z + 1 / (2 * beta)) ** 2
        else:
            raise ValueError(loss)
        losses.append(value - sft_coefficient * chosen.mean())
    return torch.stack(losses).mean()


def gradients(model, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
