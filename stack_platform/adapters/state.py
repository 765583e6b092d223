"""An adapter's tensors as a flat mapping in the layout of its file, under PEFT's names."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stack_platform.adapters.files import check_tensors
from stack_platform.errors import AdapterError

if TYPE_CHECKING:
    from stack_platform.adapters.model import PeftModel


def get_peft_model_state_dict(
    model: "PeftModel", state_dict: Mapping[str, Tensor] | None = None, adapter_name: str = "default"
) -> dict[str, Tensor]:
    """Return an adapter's tensors by key, with the values of `state_dict`, the whole model's, where it is given."""
    inner = getattr(model, "_orig_mod", model)  # what torch.compile wrapped
    return {key: tensor.detach() for key, tensor in inner.adapter_tensors(adapter_name, state_dict).items()}


def set_peft_model_state_dict(
    model: "PeftModel", peft_model_state_dict: Mapping[str, Tensor], adapter_name: str = "default"
) -> None:
    """Give an adapter the values of such a mapping, in place.

    Raises: AdapterError when it does not hold exactly the adapter's tensors, or a prompt's network is trained, whose
    values are not in it; nothing is changed then.
    """
    inner = getattr(model, "_orig_mod", model)
    if adapter_name in inner.prompt_encoder:
        raise AdapterError(
            f"adapter {adapter_name!r} is a prompt; load it with load_adapter, which makes one that has these values"
        )
    own = inner.adapter_tensors(adapter_name)
    shapes = {key: tuple(tensor.shape) for key, tensor in own.items()}
    check_tensors("the state dict", peft_model_state_dict, shapes)
    with torch.no_grad():
        for key, tensor in own.items():
            tensor.copy_(peft_model_state_dict[key])
