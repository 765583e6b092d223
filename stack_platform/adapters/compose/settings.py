"""The configuration of a combined adapter, and which adapters have one."""

from collections.abc import Mapping
from dataclasses import replace

from stack_platform.adapters.compose.low_rank import LowRank
from stack_platform.adapters.configs.fields import PeftConfig, PeftType
from stack_platform.adapters.configs.lora import LoraConfig
from stack_platform.errors import AdapterError

_TARGETING = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern")
_UNCOMBINED = (
    "use_dora",
    "modules_to_save",
    "target_parameters",
    "trainable_token_indices",
    "layer_replication",
)
_SHARED = ("bias", "task_type", "base_model_name_or_path")


def check_combinable(configs: Mapping[str, PeftConfig]) -> None:
    """Check that these adapters, name to configuration, are products B A and nothing else.

    Raises: AdapterError naming the adapter and what stands in the way.
    """
    for name, config in configs.items():
        if not isinstance(config, LoraConfig) or config.peft_type is not PeftType.LORA:
            raise AdapterError(f"adapter {name!r} is {config.peft_type}; only LoRA adapters are combined")
        for field in _UNCOMBINED:
            if value := getattr(config, field):
                raise AdapterError(
                    f"adapter {name!r} has {field}={value!r}, which no combination of A and B carries on; merge "
                    "it into the model with merge_and_unload first"
                )


def combined_config(configs: Mapping[str, LoraConfig], layers: Mapping[str, LowRank]) -> LoraConfig:
    """Return the configuration of what `combine_adapters` made of adapters with these.

    Scaling is 1: alpha is the rank. Where the adapters have the same targets, they stay as written; otherwise they are
    the paths themselves.
    """
    check_combinable(configs)
    first, *others = configs.values()
    rank = next((part.rank for part in layers.values()), first.r)
    same = all(getattr(first, name) == getattr(other, name) for other in others for name in _TARGETING)
    for name in _SHARED:
        values = sorted({repr(getattr(config, name)) for config in configs.values()})
        if len(values) > 1:
            given = ", ".join(values)
            raise AdapterError(f"{name} differs ({given}); combine adapters of one model and one task")
    targets = {} if same else dict.fromkeys(_TARGETING[1:]) | {"target_modules": tuple(layers)}
    return replace(
        first,
        **targets,  # type: ignore[arg-type]
        r=rank,
        lora_alpha=rank,
        rank_pattern={},
        alpha_pattern={},
        use_rslora=False,
        lora_bias=any(part.bias is not None for part in layers.values()),
        init_lora_weights=True,
        eva_config=None,
        loftq_config={},
    )
