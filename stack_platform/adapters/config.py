"""Configurations by method: one table from `peft_type` to its class; free of torch."""

import json
from collections.abc import Mapping
from typing import Any

from stack_platform.adapters.configs.fields import (
    ALL_LINEAR,
    CONFIG_NAME,
    LAYOUT_VERSION,
    PeftConfig,
    PeftType,
    TaskType,
)
from stack_platform.adapters.configs.lora import AdaLoraConfig, LoraConfig
from stack_platform.adapters.configs.lycoris import LoHaConfig, LoKrConfig
from stack_platform.adapters.configs.orthogonal import BOFTConfig, OFTConfig
from stack_platform.adapters.configs.prompts import (
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    XLoraConfig,
)
from stack_platform.adapters.configs.vectors import IA3Config, TrainableTokensConfig, VeraConfig
from stack_platform.errors import AdapterError, ConfigError

__all__ = [
    "ALL_LINEAR",
    "CONFIGS",
    "CONFIG_NAME",
    "LAYOUT_VERSION",
    "PEFT_TYPE_TO_CONFIG_MAPPING",
    "LoraConfig",
    "PeftConfig",
    "PeftType",
    "TaskType",
    "get_peft_config",
    "parse_config",
]

CONFIGS: dict[str, type[PeftConfig]] = {
    PeftType.ADALORA: AdaLoraConfig,
    PeftType.BOFT: BOFTConfig,
    PeftType.IA3: IA3Config,
    PeftType.LOHA: LoHaConfig,
    PeftType.LOKR: LoKrConfig,
    PeftType.LORA: LoraConfig,
    PeftType.OFT: OFTConfig,
    PeftType.PREFIX_TUNING: PrefixTuningConfig,
    PeftType.PROMPT_TUNING: PromptTuningConfig,
    PeftType.P_TUNING: PromptEncoderConfig,
    PeftType.TRAINABLE_TOKENS: TrainableTokensConfig,
    PeftType.VERA: VeraConfig,
    PeftType.XLORA: XLoraConfig,
}


PEFT_TYPE_TO_CONFIG_MAPPING = CONFIGS
"""The same, under PEFT's name."""


def get_peft_config(config_dict: Mapping[str, Any]) -> PeftConfig:
    """Build a configuration from a mapping of its fields, among them `peft_type`.

    Raises: ConfigError when the method is not known, or a field has an unusable value.
    """
    kind = config_dict.get("peft_type")
    if kind not in CONFIGS:
        raise ConfigError(f"peft_type={kind!r}; write one of {', '.join(sorted(CONFIGS))}")
    return CONFIGS[kind].from_dict(config_dict)


def parse_config(content: bytes, source: str) -> PeftConfig:
    """Parse the content of an `adapter_config.json`; `source` names it in messages.

    Raises: AdapterError when it is not a JSON object or asks for what this release lacks.
    """
    try:
        values = json.loads(content)
    except ValueError as error:
        raise AdapterError(f"{source} is not JSON ({error}); save the adapter again") from error
    if not isinstance(values, dict):
        raise AdapterError(f"{source} holds a {type(values).__name__}, not an object; save the adapter again")
    kind = values.get("peft_type")
    if kind not in CONFIGS:
        raise AdapterError(f"{source}: peft_type {kind!r} is not known; known: {', '.join(sorted(CONFIGS))}")
    try:
        return CONFIGS[kind].from_dict(values)
    except (ConfigError, TypeError) as error:
        raise AdapterError(f"{source}: {error}") from error
