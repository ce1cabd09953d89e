"""The peer's side of the GPU bench: transformers and plain PyTorch with flash attention, as a careful user would write it.

One job per process: python3 peer_cuda.py '{"job": "generate", "shape": {...}, "device": "cuda", ...}' prints one line of JSON. Of
the batch sizes that fit the fastest is measured; sequences have one length, so that nothing is padding.
"""

import ctypes
import dataclasses
import gc
import importlib.util
import json
import os
import signal
import statistics
import sys
import tempfile
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


class Attempts:
    """Runs a job at growing batch sizes; running out of memory ends the growth, or shrinks a first size that is too large."""

    def __init__(self, request: dict, most: int | None = None):
        self.request, self.most = request, most
        self.ends = time.perf_counter() + request["seconds"]
        self.tried: dict[int, float | None] = {}

    def attempt(self, make, size: int) -> float | None:
        """Seconds of a second run; None where memory ran out."""
        try:
            run = make(size)
            getattr(run, "warm_up", run)()
            return timed(self.request, run)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Here neither the error nor its frames hold tensors any more.
        gc.collect()
        if self.request["device"] != "cpu":
            torch.cuda.empty_cache()
        return None

    def fastest(self, make) -> dict:
        """The batch size, among a first one, its doubles and halves, of most rows a second, and the median of its runs."""
        size, best, fits = self.request["batch"], None, True
        if self.most is not None:
            size = min(size, self.most)
        while size >= 1 and size not in self.tried:
            begun = time.perf_counter()
            seconds = self.tried[size] = self.attempt(make, size)
            spent = time.perf_counter() - begun
            fits = fits and seconds is not None
            if seconds is None and best is not None:
                break
            is_better = seconds is not None and (best is None or self.rate(size) > 1.03 * self.rate(best))
            if seconds is not None and not is_better:
                break
            if is_better:
                best = size
            is_late = time.perf_counter() + 2.5 * spent > self.ends
            if best is not None and (is_late or not fits or (self.most is not None and size >= self.most)):
                break
            size = size // 2 if seconds is None else size * 2
            if self.most is not None:
                size = min(size, self.most)
        if best is None:
            raise SystemExit("not even a batch of one fits")
        run, runs = make(best), [self.tried[best]]
        while len(runs) < self.request["rounds"] and time.perf_counter() + runs[0] < self.ends:
            runs.append(timed(self.request, run))
        return {"batch": best, "seconds": statistics.median(runs), "runs": runs, "tried": self.tried}

    def rate(self, size: int) -> float:
        # A step of training takes the same pairs whatever its batch.
        return (1 if self.most is not None else size) / self.tried[size]


def is_out_of_memory(error: RuntimeError) -> bool:
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "CUBLAS_STATUS_ALLOC_FAILED" in text


def ids(request: dict, rows: int, length: int) -> torch.Tensor:
    return torch.randint(3, request["shape"]["vocabSize"], (rows, length), device=request["device"])


def generate(request: dict) -> dict:
    model = load(request).eval()
    prompt, response = request["P"], request["T"]

    def make(batch: int):
        prompts = ids(request, batch, prompt)

        def run(tokens: int = response):
            with torch.inference_mode():
                model.generate(
                    prompts,
                    attention_mask=torch.ones_like(prompts),
                    do_sample=True,
                    temperature=1.0,
                    top_k=0,
                    max_new_tokens=tokens,
                    min_new_tokens=tokens,
                    pad_token_id=0,
                )

        # The allocator grows with the cache: only the last steps of a first whole run would be slower.
        run.warm_up = lambda: run(min(response, 16))
        return run

    found = Attempts(request).fastest(make)
    return found | {"value": found["batch"] * response / found["seconds"], "unit": "tok/s"}


def known_to(kind, settings: dict) -> dict:
    """Those of the settings that this release of transformers has."""
    known = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in settings.items() if name in known}


def continuous(request: dict) -> dict:
    """transformers' continuous batching: paged keys and values, siblings that share their prompt's, CUDA graphs."""
    from transformers import ContinuousBatchingConfig, GenerationConfig

    model = load(request).eval()
    response, siblings = request["T"], 5
    on_gpu = request["device"] != "cpu"

    def make(batch: int):
        # Whole groups, as many live as there are responses.
        prompts = ids(request, max(1, batch // siblings), request["P"]).tolist()
        config = GenerationConfig(
            max_new_tokens=response,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            num_return_sequences=siblings,
            eos_token_id=-1,
            pad_token_id=0,
        )
        batching = ContinuousBatchingConfig(
            **known_to(
                ContinuousBatchingConfig,
                {
                    "max_requests_per_batch": siblings * len(prompts),
                    "use_cuda_graph": on_gpu,
                    "seed": 0,
                    **({"max_memory_percent": 0.85} if on_gpu else {"num_blocks": 64, "max_batch_tokens": 64}),
                },
            )
        )

        def run():
            out = model.generate_batch(
                prompts,
                generation_config=config,
                continuous_batching_config=batching,
                progress_bar=False,
                persistent_manager=True,  # set up, and its graphs recorded, by the run before
            )
            made = sum(len(output.generated_tokens) for output in out.values())
            if made != siblings * len(prompts) * response:
                raise SystemExit(f"generate_batch made {made} tokens of {siblings * len(prompts) * response}")

        return run

    class Once(Attempts):
        """One size. Where the time is short the run that also sets up is what is known."""

        def fastest(self, make) -> dict:
            size, run = self.request["batch"], make(self.request["batch"])
            runs = [timed(self.request, run)]
            while time.perf_counter() + 1.2 * runs[-1] < self.ends and len(runs) < 1 + self.request["rounds"]:
                runs.append(timed(self.request, run))
            note = {} if len(runs) > 1 else {"note": "its only run, setting up included"}
            return {"batch": size, "seconds": statistics.median(runs[1:] or runs), "runs": runs, **note}

    found = Once(request).fastest(make)
    made = siblings * max(1, found["batch"] // siblings) * response
    paged = getattr(model.config, "_attn_implementation", request["attention"])
    return found | {"value": made / found["seconds"], "unit": "tok/s", "attention": paged}


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

    found = Attempts(request).fastest(make)
    return found | {"value": found["batch"] * request["T"] / found["seconds"], "unit": "tok/s"}


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

    found = Attempts(request, most=pairs).fastest(make)
    return found | {"value": pairs / found["seconds"], "unit": "pairs/s"}


def tokenizer_of(size: int):
    """Words of one id each: TRL tokenises text, and the number of tokens must be exact."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(size)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", eos_token="w1")


def trl(request: dict) -> dict:
    """TRL's DPOTrainer in bfloat16, its reference log-probs known, the same pairs accumulated to one optimizer step."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import DPOConfig, DPOTrainer

    pairs, vocab = request["pairs"], request["shape"]["vocabSize"]
    tokenizer = tokenizer_of(vocab)
    model = load(request)

    def words(length: int) -> str:
        return " ".join(f"w{i}" for i in torch.randint(3, vocab, (length,)).tolist())

    class Steps(TrainerCallback):
        begins: list[float] = []
        seconds: list[float] = []

        def on_step_begin(self, args, state, control, **_):
            wait(request)
            self.begins.append(time.perf_counter())

        def on_step_end(self, args, state, control, **_):
            wait(request)
            self.seconds.append(time.perf_counter() - self.begins[-1])

    def make(batch: int):
        def run() -> float:
            steps = Steps()
            steps.begins, steps.seconds = [], []
            parts = -(-pairs // batch)
            rows = [
                # w1 ends a response: without it TRL would put one there.
                {"prompt": words(request["P"]), **{side: f" {words(request['T'] - 1)} w1" for side in ("chosen", "rejected")}}
                for _ in range(2 * parts * batch)
            ]
            with tempfile.TemporaryDirectory() as folder:
                args = DPOConfig(
                    output_dir=folder,
                    max_steps=2,
                    per_device_train_batch_size=batch,
                    gradient_accumulation_steps=parts,
                    precompute_ref_log_probs=True,  # before the steps, and not timed
                    max_length=None,
                    bf16=request["device"] != "cpu",
                    use_cpu=request["device"] == "cpu",
                    gradient_checkpointing=True,
                    learning_rate=1e-7,
                    lr_scheduler_type="constant",
                    logging_strategy="no",
                    save_strategy="no",
                    report_to=[],
                    disable_tqdm=True,
                )
                trainer = DPOTrainer(
                    model=model,
                    args=args,
                    train_dataset=Dataset.from_list(rows),
                    processing_class=tokenizer,
                    callbacks=[steps],
                )
                trainer.train()
            # The first step sets up; pairs of a last batch that is not full are work too.
            return steps.seconds[1] * pairs / (parts * batch)

        return run

    class Timed(Attempts):
        def attempt(self, make, size):
            seconds = None
            try:
                seconds = make(size)()
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            model.zero_grad(set_to_none=True)
            gc.collect()
            if request["device"] != "cpu":
                torch.cuda.empty_cache()
            return seconds

    found = Timed(request | {"rounds": 1}, most=pairs).fastest(make)
    return found | {"value": pairs / found["seconds"], "unit": "pairs/s"}


def main() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: the bench may be ended at its time limit
    request = json.loads(sys.argv[1])
    missing = [name for name in ("trl", "datasets") if request["job"] == "trl" and importlib.util.find_spec(name) is None]
    if missing:
        print(json.dumps({"skipped": f"{' and '.join(missing)} cannot be imported; the plain step in peer-train is the peer"}))
        return
    request["attention"] = attention()
    torch.manual_seed(1)
    jobs = {"generate": generate, "continuous": continuous, "score": score, "train": train, "trl": trl}
    result = jobs[request["job"]](request)
    peak = torch.cuda.max_memory_allocated() if request["device"] != "cpu" else None
    names = ("torch", "transformers", *(["trl"] if request["job"] == "trl" else []))
    versions = {name: version(name) for name in names}
    print(json.dumps({"attention": request["attention"]} | result | {"peakBytes": peak, "versions": versions}), flush=True)
    os._exit(0)  # threads of a manager that stays would be waited for


if __name__ == "__main__":
    main()
