"""Make a quantized model ready for training adapters, under PEFT's name."""

from typing import Any

import torch
from torch import nn

_HALF = (torch.float16, torch.bfloat16)


def prepare_model_for_kbit_training(
    model: nn.Module,
    use_gradient_checkpointing: bool = True,
    gradient_checkpointing_kwargs: dict[str, Any] | None = None,
    auto_clear_cache: bool = True,
) -> nn.Module:
    """Freeze a model, keep what is not quantized in fp32, and recompute activations in the backward pass.

    Norms and embeddings lose most in half precision; the quantized weights stay as they are. Checkpointing is turned on
    for quantized models only, as in PEFT. `auto_clear_cache` gives a GPU's allocator back what the casts left free.
    """
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    quantized = any(getattr(model, f"is_loaded_in_{bits}bit", False) for bits in (4, 8)) or bool(
        getattr(model, "quantization_method", None)
    )
    if getattr(model, "quantization_method", None) != "torchao":  # its tensors say they are bf16
        for parameter in model.parameters():
            if parameter.dtype in _HALF and type(parameter) is nn.Parameter:
                parameter.data = parameter.data.to(torch.float32)
    if auto_clear_cache and torch.cuda.is_available():
        torch.cuda.empty_cache()
    if quantized and use_gradient_checkpointing:
        settings = gradient_checkpointing_kwargs or {}
        if settings.get("use_reentrant", True):
            model.enable_input_require_grads()  # type: ignore[operator]
        enable = getattr(model, "activation_checkpointing_enable", None)  # its name from transformers 5.23
        if callable(enable):
            enable(activation_checkpointing_kwargs=settings or None)
        else:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=settings or None)  # type: ignore[operator]
    return model
