"""Where adapters go when nobody says: for every architecture of transformers, beside PEFT's table of names.

Each architecture is built on the meta device from its default configuration, two blocks deep where it says how deep it
is, by the first class of transformers that builds it; those that none builds (parts of other models without a class of
their own, models that need another package or files) are counted. Ours finds the layers from the model's structure,
PEFT looks its `model_type` up. What PEFT's table names is checked to be there, and whether ours names the same.

    python benchmarks/adapters_defaults.py [--only llama bert ...]
"""

import argparse
import importlib.util
import os
import re
import sys
import time
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

AUTO_CLASSES = (
    "AutoModel",
    "AutoModelForCausalLM",
    "AutoModelForSeq2SeqLM",
    "AutoModelForPreTraining",
    "AutoModelForImageTextToText",
    "AutoModelForImageClassification",
    "AutoModelForObjectDetection",
    "AutoModelForDepthEstimation",
    "AutoModelForUniversalSegmentation",
    "AutoModelForSpeechSeq2Seq",
    "AutoModelForTextToWaveform",
    "AutoModelForKeypointDetection",
    "AutoBackbone",
)
DEPTHS = (
    "num_hidden_layers",
    "num_layers",
    "n_layer",
    "n_layers",
    "encoder_layers",
    "decoder_layers",
    "num_encoder_layers",
    "num_decoder_layers",
    "vision_layers",
)


def main() -> None:
    """Count the architectures in which each finds targets."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--only", nargs="*")
    only = arguments.parse_args().only
    warnings.simplefilter("ignore")
    import transformers

    transformers.logging.set_verbosity_error()
    table = _pefts_table()
    started = time.process_time()
    kinds: Counter[str] = Counter()
    none, unbuilt, differ, absent = [], [], [], []
    covered = 0
    for name in only or transformers.CONFIG_MAPPING:
        model = build(name)
        if model is None:
            unbuilt.append(name)
            continue
        found, kind = targets(model)
        kinds[kind] += 1
        none += [f"{name} ({found[0]})"] if kind == "none" else []
        if name in table:
            entry = table[name]
            wanted = {entry} if isinstance(entry, str) else set(entry)  # a string is a regular expression
            missing = sorted(
                target for target in wanted if not _matches(model, target, isinstance(entry, str))
            )
            covered += not missing
            absent += [f"{name}: {target}" for target in missing]
            if set(found) != wanted:
                differ.append(f"{name}: {', '.join(found)} for {', '.join(sorted(wanted))}")
    built = sum(kinds.values())
    print(
        f"{'':34s} {'ours':>8s} {'peft':>8s}   of {built} architectures (transformers {transformers.__version__})"
    )
    print(f"{'find targets':34s} {built - kinds['none']:8d} {covered:8d}")
    for kind, count in kinds.most_common():
        print(f"  {kind:32s} {count:8d}")
    print(f"without targets: {'; '.join(none) or 'none'}")
    print(f"PEFT's table names what is not there: {'; '.join(absent) or 'nothing'}")
    print(f"named otherwise than by PEFT: {'; '.join(differ) or 'none'}")
    print(f"built by no class: {len(unbuilt)}; {time.process_time() - started:.0f} s of CPU")


def build(name: str) -> Any:
    """Return a model of an architecture on the meta device, or None."""
    import torch
    import transformers

    try:
        config = transformers.CONFIG_MAPPING[name]()
        _shrink(config)
    except Exception:  # noqa: BLE001 - whatever a configuration of someone else's raises
        return None
    for kind in AUTO_CLASSES:
        try:
            with torch.device("meta"):
                return getattr(transformers, kind).from_config(config)
        except Exception:  # noqa: BLE001
            continue
    return None


def targets(model: Any) -> tuple[tuple[str, ...], str]:
    """Return the default targets of a model and what they are."""
    from stack_platform.adapters import LoraConfig
    from stack_platform.adapters.defaults import TargetError, default_targets
    from stack_platform.adapters.inject import module_names

    names = module_names(model, LoraConfig())
    try:
        found = default_targets(names.adaptable, "LORA", names.narrowing, names.linear, names.ungrouped)
    except TargetError:
        return (f"{len(names.adaptable)} layers LoRA can change, {len(names.linear)} linear",), "none"
    if not any(path.rpartition(".")[2] in found for path in names.linear):
        return found, "convolutions of the blocks"
    inside = {path.rpartition(".")[2] for path in names.linear if any(p.isdigit() for p in path.split("."))}
    return found, "all linear layers of the blocks" if set(found) == inside else "projections of attention"


def _matches(model: Any, target: str, is_regex: bool) -> bool:
    """Return whether a module is called so, or matches the expression."""
    expression = re.compile(target if is_regex else rf"(?:.*\.)?{re.escape(target)}")
    return any(expression.fullmatch(path) for path, _ in model.named_modules())


def _shrink(config: Any, depth: int = 0) -> None:
    """Leave two blocks, also in the configurations of a model's parts."""
    from transformers import PretrainedConfig

    for field in DEPTHS:
        if isinstance(getattr(config, field, None), int):
            with suppress(Exception):  # some say how deep they are by a property
                setattr(config, field, min(2, getattr(config, field)))
    if depth < 2:
        for part in list(vars(config).values()):
            if isinstance(part, PretrainedConfig):
                _shrink(part, depth + 1)


def _pefts_table() -> dict[str, Any]:
    if importlib.util.find_spec("peft") is None:
        print("adapters_defaults: peft is not installed; pip install -e '.[peers]'")
        return {}
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    return dict(TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING)


if __name__ == "__main__":
    main()
