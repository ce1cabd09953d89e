"""The peer's side of the bench: transformers and plain PyTorch, as a careful user would write it.

Driven over JSON lines (bench/worker.mjs), one job per process. What a user may choose (batch size, which head) is
tried out beforehand in a process of its own ("tune") and the fastest is measured.
"""

import json
import sys
import time

import torch
import torch.nn.functional as F
import transformers
from peft import PeftModel
from transformers import AutoModelForCausalLM

transformers.utils.logging.disable_progress_bar()


def load(request: dict, dtype: torch.dtype):
    return AutoModelForCausalLM.from_pretrained(request["model"], dtype=dtype, attn_implementation="sdpa")


def token_logprobs(model, ids: torch.Tensor, num_targets: int) -> torch.Tensor:
    """log p of the last num_targets tokens of each row, softmax in float32, logits of those positions only."""
    logits = model(ids, logits_to_keep=num_targets + 1, use_cache=False).logits[:, :-1]
    targets = ids[:, -num_targets:]
    # Row by row, as TRL's selective_log_softmax does: less memory, and faster.
    rows = []
    for row, target in zip(logits, targets, strict=True):
        row = row.float()
        rows.append(row.gather(-1, target[:, None])[:, 0] - row.logsumexp(-1))
    return torch.stack(rows)


def fused_token_logprobs(model, ids: torch.Tensor, num_targets: int) -> torch.Tensor:
    """The same through TRL's chunked head, which its DPOTrainer uses."""
    if not hasattr(model, "_has_fused_head"):
        from trl.trainer.utils import add_fused_lm_head

        add_fused_lm_head(model)
        model._has_fused_head = True
    labels = ids.clone()
    labels[:, :-num_targets] = -100
    return model(ids, labels=labels, fused_lm_head=True).log_probs[:, -num_targets:]


HEADS = {"logits_to_keep": token_logprobs, "trl_fused_head": fused_token_logprobs}


def prepare_generate(request: dict):
    work = request["workload"]["generate"]
    model = load(request, getattr(torch, request["dtype"])).eval()
    model.generation_config.eos_token_id = None
    ids = torch.tensor(work["prompts"])
    torch.manual_seed(work["seed"])

    def run() -> dict:
        with torch.inference_mode():
            output = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=work["temperature"],
                top_p=work["topP"],
                top_k=0,
                num_return_sequences=work["n"],
                max_new_tokens=work["maxNewTokens"],
                pad_token_id=0,
            )
        return {"tokens": (output.shape[1] - ids.shape[1]) * output.shape[0]}

    return run


def prepare_score(request: dict):
    work = request["workload"]["score"]
    variant = request["variant"]
    model = load(request, getattr(torch, request["dtype"])).eval()
    logprobs_of = HEADS[variant["head"]]
    rows = torch.tensor([group["promptIds"] + ids for group in work["groups"] for ids in group["responses"]])
    num_targets = len(work["groups"][0]["responses"][0])
    samples = len(work["groups"][0]["responses"])

    def run() -> dict:
        with torch.inference_mode():
            sums = [
                logprobs_of(model, batch, num_targets).double().sum(-1) for batch in rows.split(variant["batchSize"])
            ]
        return {"logprobs": torch.cat(sums).view(-1, samples).tolist()}

    return run


def prepare_preference(request: dict):
    lora = request["job"] == "lora"
    work = request["workload"][request["job"]]
    variant = request["variant"]
    # bf16=True of the Trainer: float32 weights and optimizer, autocast forward. Pure bfloat16 is for information.
    pure = variant.get("weights") == "bfloat16"
    # Frozen weights are kept in the working type, adapters in float32, as PEFT does.
    frozen_bfloat16 = lora and request["dtype"] == "bfloat16"
    model = load(request, torch.bfloat16 if pure or frozen_bfloat16 else torch.float32)
    if lora:
        model = PeftModel.from_pretrained(model, request["model"] + "/adapter", is_trainable=True)
    model = model.train()
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=request["dtype"] == "bfloat16" and not pure)
    logprobs_of = HEADS[variant["head"]]
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=work["learningRate"], weight_decay=work["weightDecay"], fused=True
    )
    pairs = work["pairs"]
    # Chosen and rejected in one batch, as TRL does.
    ids = torch.tensor([p["promptIds"] + p[side] for side in ("chosenIds", "rejectedIds") for p in pairs])
    num_targets = len(pairs[0]["chosenIds"])
    consistency = torch.tensor([p["consistency"] for p in pairs])
    with torch.no_grad(), autocast:
        reference = logprobs_of(model, ids, num_targets).sum(-1)

    def run() -> dict:
        with autocast:
            ratio = logprobs_of(model, ids, num_targets).sum(-1) - reference
        chosen, rejected = ratio.chunk(2)
        u = work["beta"] * (chosen - rejected)
        loss = (consistency * F.softplus(-u) + (1 - consistency) * F.softplus(u)).mean()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), work["maxGradNorm"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return {"loss": loss.item(), "gradNorm": norm.item()}

    return run


PREPARE = {
    "generate": prepare_generate,
    "score": prepare_score,
    "preference": prepare_preference,
    "lora": prepare_preference,
}


def variants(job: str) -> list[dict]:
    if job == "generate":
        return [{}]
    if job == "score":
        return [{"head": head, "batchSize": size} for head in HEADS for size in (20, 10, 5)]
    if job == "lora":
        return [{"head": "logits_to_keep"}]  # TRL's fused head replaces the forward of an unwrapped model
    return [{"head": head} for head in HEADS]


def timed(run) -> tuple[float, dict]:
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def tune(request: dict) -> dict:
    """Tries every variant after a warm-up; returns the fastest and all times. A hopeless one is left early."""
    choices = variants(request["job"])
    if len(choices) == 1:
        return {"best": choices[0], "tried": []}
    tried = []
    for variant in choices:
        run = PREPARE[request["job"]](request | {"variant": variant})
        seconds = timed(run)[0]
        if not tried or seconds < 2 * min(entry["seconds"] for entry in tried):
            seconds = min(timed(run)[0], timed(run)[0])
        tried.append(variant | {"seconds": seconds})
    best = min(tried, key=lambda entry: entry["seconds"])
    return {"best": {key: value for key, value in best.items() if key != "seconds"}, "tried": tried}


def main() -> None:
    run = None
    for line in sys.stdin:
        request = json.loads(line)
        if request.get("versions"):
            from importlib.metadata import version

            answer = {name: version(name) for name in ("torch", "transformers", "trl", "peft")}
        elif request.get("tune"):
            torch.set_num_threads(request["threads"])
            # Without tuning: the variant that has won so far.
            answer = tune(request) if request["tune"] == "all" else {"best": variants(request["job"])[0], "tried": []}
        else:
            if run is None:
                torch.set_num_threads(request["threads"])
                run = PREPARE[request["job"]](request)
            seconds, result = timed(run)
            answer = {"seconds": seconds, "result": result}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
