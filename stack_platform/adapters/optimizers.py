"""LoRA+ (Hayou et al. 2024): B learns faster than A, under PEFT's name."""

from typing import Any

from torch import nn
from torch.optim import Optimizer

from stack_platform.adapters.layer import AdaptedLayer
from stack_platform.errors import AdapterError


def create_loraplus_optimizer(
    model: nn.Module,
    optimizer_cls: type[Optimizer],
    *,
    lr: float,
    loraplus_lr_ratio: float,
    loraplus_lr_embedding: float = 1e-6,
    loraplus_weight_decay: float = 0.0,
    **kwargs: Any,
) -> Optimizer:
    """Return an optimizer whose learning rate is `lr` for A, `lr * loraplus_lr_ratio` for B and for vectors.

    Adapted embeddings learn at `loraplus_lr_embedding`. Vectors are not decayed. The groups are PEFT's four, in its
    order, also where one is empty: A, embeddings, B, vectors.
    Raises: AdapterError when no B trains, because then nothing would be LoRA+ about it.
    """
    embedded = {
        id(tensor)
        for layer in model.modules()
        if isinstance(layer, AdaptedLayer) and layer.kind.name == "embedding"
        for name in layer.adapters
        for tensor in layer.tensors(name).values()
    }
    groups: dict[str, list[nn.Parameter]] = {"A": [], "embedding": [], "B": [], "vectors": []}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if id(parameter) in embedded:
            groups["embedding"].append(parameter)
        elif parameter.dim() == 1:
            groups["vectors"].append(parameter)
        else:
            groups["B" if ".lora_B." in name else "A"].append(parameter)
    if not groups["B"] and not groups["embedding"]:
        raise AdapterError(
            "LoRA+ gives B a learning rate of its own, but no B trains; activate a LoRA adapter"
        )
    fast = lr * loraplus_lr_ratio
    rates = {"A": lr, "embedding": loraplus_lr_embedding, "B": fast, "vectors": fast}
    decays = {name: 0.0 if name == "vectors" else loraplus_weight_decay for name in groups}
    return optimizer_cls(
        [{"params": groups[name], "lr": rates[name], "weight_decay": decays[name]} for name in groups],
        lr=lr,
        **kwargs,
    )  # type: ignore[call-arg]
