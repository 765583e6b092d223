"""What a saved adapter consists of: its configuration as others read it, and its tensors."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from stack_platform.adapters.configs.fields import PeftConfig
from stack_platform.adapters.saving.conversion import as_plain_lora
from stack_platform.adapters.saving.embeddings import with_embeddings
from stack_platform.adapters.saving.state import gathered

if TYPE_CHECKING:
    from stack_platform.adapters.model import PeftModel


def saved_contents(
    model: "PeftModel",
    name: str,
    state_dict: Mapping[str, Tensor] | None,
    save_embedding_layers: str | bool,
    initial: str | Path | None,
) -> tuple[PeftConfig, dict[str, Tensor]]:
    """Return configuration and tensors of an adapter's files, as `PeftModel.save_pretrained` is asked for them."""
    tensors = model.adapter_tensors(name, state_dict)
    if name not in model.prompt_encoder:
        found, value = model.base_model.plans[name], gathered(model, state_dict)
        tensors = with_embeddings(model.get_base_model(), found, tensors, save_embedding_layers, value)
    config = replace(model.peft_config[name], inference_mode=True)
    if config.task_type is None:
        base = type(model.get_base_model())
        mapping = {"base_model_class": base.__name__, "parent_library": base.__module__}
        config = replace(config, auto_mapping=mapping)
    return (config, tensors) if initial is None else as_plain_lora(config, tensors, initial)
