"""The peer's side of the GPU bench: transformers and plain PyTorch with flash attention, as a careful user would write it.

One job per process: python3 peer_cuda.py '{"job": "generate", "shape": {...}, "device": "cuda", ...}' prints one line of JSON. The
batch is the largest that fits, found by halving; sequences have one length, so that nothing is padding.
"""

import json
import statistics
import sys
import time
from importlib.metadata import version

import torch
import torch.nn.functional as F
import transformers
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

transformers.utils.logging.disable_progress_bar()


def config_of(shape: dict):
    kind = Qwen2Config if shape["qkvBias"] else LlamaConfig
    return kind(
        vocab_size=shape["vocabSize"],
        hidden_size=shape["hiddenSize"],
        intermediate_size=shape["intermediateSize"],
        num_hidden_layers=shape["numLayers"],
        num_attention_heads=shape["numHeads"],
        num_key_value_heads=shape["numKvHeads"],
        head_dim=shape["headDim"],
        max_position_embeddings=shape["maxPositionEmbeddings"],
        rope_parameters={"rope_type": "default", "rope_theta": shape["ropeTheta"]},
        tie_word_embeddings=shape["tieWordEmbeddings"],
        bos_token_id=1,
        eos_token_id=None,
        pad_token_id=0,
    )


def attention() -> str:
    try:
        import flash_attn  # noqa: F401

        return "flash_attention_2"
    except ImportError:
        return "sdpa"  # without a mask PyTorch takes its own flash kernels


def load(request: dict):
    with torch.device(request["device"]):
        model = AutoModelForCausalLM.from_config(
            config_of(request["shape"]), dtype=torch.bfloat16, attn_implementation=request["attention"]
        )
    return model


def wait(request: dict) -> None:
    if request["device"] != "cpu":
        torch.cuda.synchronize()


def timed(request: dict, run) -> float:
    wait(request)
    start = time.perf_counter()
    run()
    wait(request)
    return time.perf_counter() - start


def largest(request: dict, first: int, make) -> tuple[int, float]:
    """The largest of first, first / 2, ... that runs, and the median seconds of one run of it."""
    size = first
    while size >= 1:
        try:
            run = make(size)
            run()
            return size, statistics.median(timed(request, run) for _ in range(request["rounds"]))
        except torch.OutOfMemoryError:
            run = None
            torch.cuda.empty_cache()
            size //= 2
    raise SystemExit("not even a batch of one fits")


def ids(request: dict, rows: int, length: int) -> torch.Tensor:
    return torch.randint(3, request["shape"]["vocabSize"], (rows, length), device=request["device"])


def generate(request: dict) -> dict:
    model = load(request).eval()
    prompt, response = request["P"], request["T"]

    def make(batch: int):
        prompts = ids(request, batch, prompt)

        def run():
            with torch.inference_mode():
                model.generate(
                    prompts,
                    attention_mask=torch.ones_like(prompts),
                    do_sample=True,
                    temperature=1.0,
                    top_k=0,
                    max_new_tokens=response,
                    min_new_tokens=response,
                    pad_token_id=0,
                )

        return run

    batch, seconds = largest(request, request["batch"], make)
    return {"batch": batch, "seconds": seconds, "value": batch * response / seconds, "unit": "tok/s"}


def token_logprobs(model, rows: torch.Tensor, targets: int) -> torch.Tensor:
    """log p of the last tokens of each row, softmax in float32, logits of those positions only."""
    logits = model(rows, logits_to_keep=targets + 1, use_cache=False).logits[:, :-1]
    wanted = rows[:, -targets:]
    # Row by row, as TRL's selective_log_softmax does: less memory, and faster.
    parts = []
    for row, target in zip(logits, wanted, strict=True):
        parts.append(row.gather(-1, target[:, None])[:, 0].float() - row.float().logsumexp(-1))
    return torch.stack(parts)


def score(request: dict) -> dict:
    model = load(request).eval()

    def make(batch: int):
        rows = ids(request, batch, request["P"] + request["T"])

        def run():
            with torch.inference_mode():
                token_logprobs(model, rows, request["T"]).sum(-1)

        return run

    batch, seconds = largest(request, request["batch"], make)
    return {"batch": batch, "seconds": seconds, "value": batch * request["T"] / seconds, "unit": "tok/s"}


def train(request: dict) -> dict:
    """A DPO step with all weights in bfloat16, its reference log-probs known, gradients accumulated to `pairs`."""
    model = load(request).train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-7, fused=request["device"] != "cpu")
    pairs, beta = request["pairs"], 0.1

    def make(batch: int):
        rows = [ids(request, 2 * min(batch, pairs - at), request["P"] + request["T"]) for at in range(0, pairs, batch)]

        def run():
            for part in rows:
                chosen, rejected = token_logprobs(model, part, request["T"]).sum(-1).chunk(2)
                (F.softplus(-beta * (chosen - rejected)).sum() / pairs).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        return run

    batch, seconds = largest(request, min(request["batch"], pairs), make)
    return {"batch": batch, "seconds": seconds, "value": pairs / seconds, "unit": "pairs/s"}


def main() -> None:
    request = json.loads(sys.argv[1])
    request["attention"] = attention()
    torch.manual_seed(1)
    result = {"generate": generate, "score": score, "train": train}[request["job"]](request)
    peak = torch.cuda.max_memory_allocated() if request["device"] != "cpu" else None
    versions = {name: version(name) for name in ("torch", "transformers")}
    print(json.dumps(result | {"attention": request["attention"], "peakBytes": peak, "versions": versions}))


if __name__ == "__main__":
    main()
