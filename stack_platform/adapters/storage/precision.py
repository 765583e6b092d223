"""Formats of a model's parameters for mixed-precision training, under PEFT's name."""

import torch
from torch import nn


def cast_mixed_precision_params(model: nn.Module, dtype: torch.dtype) -> None:
    """Keep what is frozen in half precision and what trains in fp32; integer and quantized parameters stay."""
    for parameter in model.parameters():
        if parameter.is_floating_point() and type(parameter) is nn.Parameter:
            parameter.data = parameter.data.to(torch.float32 if parameter.requires_grad else dtype)
