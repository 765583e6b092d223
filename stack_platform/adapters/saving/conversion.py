"""An adapter that started from the base weight, as one for the base model as it was.

PiSSA and OLoRA leave W - s B0 A0 in the base. What they learned is s B A - s B0 A0 to the original W: the product of
[A; A0] and s [B, -B0], plain LoRA of twice the rank, which needs no changed base and can be mixed with others.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stack_platform.adapters.configs.fields import PeftConfig
from stack_platform.adapters.configs.lora import LoraConfig
from stack_platform.adapters.saving.files import WEIGHTS_NAME, check_tensors, read_file
from stack_platform.errors import AdapterError

_CONVERTED = ("pissa", "olora")


def as_plain_lora(
    config: PeftConfig, tensors: Mapping[str, Tensor], initial: str | Path
) -> tuple[LoraConfig, dict[str, Tensor]]:
    """Return configuration and file tensors of the same adapter for the original base.

    `initial` is the folder the adapter was saved to before it was trained.
    Raises: AdapterError when it did not start so, or the folder holds another adapter.
    """
    start = getattr(config, "init_lora_weights", None)
    if (
        not isinstance(config, LoraConfig)
        or str(start).partition("_")[0] not in _CONVERTED
        or config.use_dora
    ):
        raise AdapterError(
            f"path_initial_model_for_weight_conversion: the adapter is {config.peft_type} with "
            f"init_lora_weights={start!r}; only LoRA that started by {' or '.join(_CONVERTED)} is converted"
        )
    before = read_file(initial)
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    check_tensors(str(Path(initial) / WEIGHTS_NAME), before, shapes)
    flat = dict(tensors)
    for key, tensor in tensors.items():
        first = before[key].to(tensor)
        if key.endswith(".lora_A.weight"):
            flat[key] = torch.cat([tensor, first])
        elif key.endswith(".lora_B.weight"):
            flat[key] = torch.cat([tensor, -first], dim=1)
    grow = math.sqrt(2) if config.use_rslora else 2  # of alpha, so that s stays as the rank doubles
    changes: dict[str, Any] = {
        "r": 2 * config.r,
        "lora_alpha": grow * config.lora_alpha,
        "rank_pattern": {key: 2 * rank for key, rank in (config.rank_pattern or {}).items()},
        "alpha_pattern": {key: grow * alpha for key, alpha in config.alpha_pattern.items()},
        "init_lora_weights": True,
    }
    return replace(config, **changes), flat
