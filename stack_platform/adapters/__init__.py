"""Adapters under PEFT's names: a PEFT script runs after its import line is changed.

Importing this package imports neither torch nor transformers; the first use of a name does.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stack_platform.adapters.config import LoraConfig, PeftConfig, TaskType
    from stack_platform.adapters.model import PeftModel, PeftModelForCausalLM, get_peft_model

__all__ = [
    "LoraConfig",
    "PeftConfig",
    "PeftModel",
    "PeftModelForCausalLM",
    "TaskType",
    "get_peft_model",
]

_HOMES = {
    "LoraConfig": "config",
    "PeftConfig": "config",
    "PeftModel": "model",
    "PeftModelForCausalLM": "model",
    "TaskType": "config",
    "get_peft_model": "model",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
