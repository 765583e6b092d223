"""AdaLoRA (Zhang et al. 2023): W + s B diag(E) A, whose entries of E are pruned while training (see `allocation`).

Tensors: lora_A [R, I k], lora_E [R, 1], lora_B [O, R]; s is alpha / (R at the start + 1e-5).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from stack_platform.adapters.configs.lora import AdaLoraConfig
from stack_platform.adapters.variants.variant import (
    Adapter,
    Merged,
    Shapes,
    Site,
    Start,
    Variant,
    rounded,
    to_adapter,
)


def adalora_adapter(config: AdaLoraConfig, path: str, _r: int, alpha: float) -> Adapter:
    """Return the adapter of a configuration; its rank is what pruning has left at the path."""
    left = (config.rank_pattern or {}).get(f"{path}.lora_E")
    rank = config.init_r if left is None else sum(left)
    # in fp32, as the sum of a tensor
    ranks = (torch.tensor(float(config.init_r)) + 1e-5).item()
    return Adapter("adalora", config, rank, alpha, alpha / ranks, config.lora_dropout)


def adalora_shapes(site: Site) -> Shapes:
    """Return the shapes of A, E and B."""
    (out, *rest), r = site.shape, site.adapter.r
    return {"lora_A": (r, math.prod(rest)), "lora_E": (r, 1), "lora_B": (out, r)}


def adalora_initial(site: Site, shapes: Shapes) -> Start:
    """Start at E = 0 and small random A and B; with `init_lora_weights=False` all are normal."""
    tensors = {name: torch.randn(shape, device="cpu") for name, shape in shapes.items()}
    torch.randn(1, device="cpu")  # PEFT draws its count of ranks too; the same seed gives the same adapter
    if site.adapter.config.init_lora_weights:
        tensors["lora_E"].zero_()
        for name in ("lora_A", "lora_B"):
            nn.init.normal_(tensors[name], std=0.02)
    return Start({name: rounded(site, tensor) for name, tensor in tensors.items()})


def adalora_outputs(site: Site, x: Tensor, y: Tensor) -> Tensor:
    """Return y + s B (E * A) x."""
    A, B = site.tensors["lora_A"], site.tensors["lora_B"]
    x = dropout(to_adapter(x, A), site.adapter.dropout, site.layer.training)
    if site.kind.name == "linear":
        return y + x @ (A * site.tensors["lora_E"]).T @ B.T * site.adapter.scaling
    return y + site.apply(x, _difference(site))


def adalora_merged(site: Site, weight: Tensor, bias: Tensor | None) -> Merged:
    """Return W + s B diag(E) A."""
    return weight + _difference(site), bias


def _difference(site: Site) -> Tensor:
    tensors = site.tensors
    product = tensors["lora_B"] @ (tensors["lora_A"] * tensors["lora_E"])
    return (product * site.adapter.scaling).reshape(site.shape)


ADALORA = Variant(
    frozenset({"linear", "conv2d"}), adalora_shapes, adalora_initial, adalora_merged, outputs=adalora_outputs
)
