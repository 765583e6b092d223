"""Active sets: which adapters act together, and how much of each.

An adapter of weight w adds w s B A to the layer. Only plain LoRA is linear in its update, so only it can have another
weight than 1.
"""

import math
from collections.abc import Collection, Mapping, Sequence

from stack_platform.adapters.configs.fields import PeftConfig, PeftType
from stack_platform.adapters.configs.lora import moves_base
from stack_platform.errors import AdapterError

BASE = "__base__"

Choice = str | Sequence[str] | Mapping[str, float]
"""An adapter, several, or several with weights; for a row of a batch also `__base__`."""
ActiveSet = tuple[tuple[str, float], ...]
"""Adapters and their weights, in the order in which they wrap the layer."""

_WHOLE = ("use_dora", "modules_to_save", "trainable_token_indices")  # what is not scaled by a weight


def active_set(choice: Choice, argument: str) -> ActiveSet:
    """Return the adapters of a choice; `argument` is what the caller calls it.

    Raises: AdapterError for a choice that is none, or a weight that is not finite.
    """
    if isinstance(choice, str):
        choice = [choice]
    if not isinstance(choice, Mapping | Sequence):
        raise AdapterError(
            f"{argument} has {choice!r}; write a name, several, several with weights, or {BASE!r}"
        )
    weights = choice if isinstance(choice, Mapping) else dict.fromkeys(choice, 1.0)
    for name, weight in weights.items():
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not isinstance(name, str) or not number or not math.isfinite(weight):
            raise AdapterError(
                f"{argument} has {name!r}: {weight!r}; write names, or names with finite weights"
            )
    return tuple((name, float(weight)) for name, weight in weights.items())


def check_weights(
    weights: Mapping[str, float],
    configs: Mapping[str, PeftConfig],
    before: Mapping[str, float],
    merged: Collection[str],
) -> None:
    """Check that adapters can have these weights; `before` are those that they have now.

    Raises: AdapterError for another weight than 1 where there is more than plain LoRA, and for a new weight of an
    adapter that is merged.
    """
    for name, weight in weights.items():
        config = configs[name]
        if weight != 1:
            more = [field for field in _WHOLE if getattr(config, field, None)]
            more += ["init_lora_weights"] if moves_base(config) else []
            if config.peft_type != PeftType.LORA or more:
                what = more[0] if more else str(config.peft_type)
                raise AdapterError(
                    f"adapter {name!r} ({what}) has the weight {weight}, which only plain LoRA can have; "
                    "leave the weight out"
                )
        if name in merged and weight != before.get(name, 1.0):
            raise AdapterError(
                f"adapter {name!r} is merged with the weight {before.get(name, 1.0)}; call unmerge_adapter before "
                "it gets another"
            )
