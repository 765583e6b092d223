"""LoHa (Hyeon-Woo et al. 2021, FedPara): W + s (A1 B1) * (A2 B2), elementwise.

Tensors of a matrix [O, I] (a convolution's kernel is flattened into I): hada_w1_a, hada_w2_a [O, R], hada_w1_b,
hada_w2_b [R, I]. With `use_effective_conv2d` and a kernel larger than 1: hada_t1, hada_t2 [R, R, k, k or 1],
hada_w1_a, hada_w2_a [R, O], hada_w1_b, hada_w2_b [R, I].
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from stack_platform.adapters.configs.lycoris import LycorisConfig
from stack_platform.adapters.variants.variant import (
    Adapter,
    Merged,
    Shapes,
    Site,
    Start,
    Variant,
    rounded,
    to_adapter,
    zeros,
)

LYCORIS_KINDS = frozenset({"linear", "conv1d", "conv2d"})


def loha_adapter(config: LycorisConfig, _path: str, r: int, alpha: float) -> Adapter:
    """Return the adapter of a configuration; s is alpha / r."""
    return Adapter("loha", config, r, alpha, alpha / r)


def loha_shapes(site: Site) -> Shapes:
    """Return the shapes of the factors."""
    (out, inputs, *kernel), r = site.shape, site.adapter.r
    if decomposes_kernel(site):
        core = (r, r, *kernel, *(1,) * (2 - len(kernel)))
        shapes = {
            f"hada_w{n}_{side}": (r, size) for n in (1, 2) for side, size in (("a", out), ("b", inputs))
        }
        return {**shapes, "hada_t1": core, "hada_t2": core}
    flat = inputs * math.prod(kernel)
    return {
        f"hada_w{n}_{side}": (out, r) if side == "a" else (r, flat) for n in (1, 2) for side in ("a", "b")
    }


def loha_initial(site: Site, shapes: Shapes) -> Start:
    """Draw all factors as nn.Linear draws its weight; hada_w2_b is zero unless `init_weights` is False."""
    tensors = zeros(site, shapes)
    for name, tensor in tensors.items():
        if name != "hada_w2_b" or site.adapter.config.init_weights is False:
            rounded(site, nn.init.kaiming_uniform_(tensor, a=math.sqrt(5)))
    return Start(tensors)


class FactorProduct(torch.autograd.Function):
    """(A1 B1) * (A2 B2), of which only the four factors are kept for the backward pass, not the two products."""

    @staticmethod
    def forward(ctx: Any, A1: Tensor, B1: Tensor, A2: Tensor, B2: Tensor) -> Tensor:
        """Return the product."""
        ctx.save_for_backward(A1, B1, A2, B2)
        return (A1 @ B1).mul_(A2 @ B2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        """Return the gradient of each factor."""
        A1, B1, A2, B2 = ctx.saved_tensors
        first, second = gradients[0] * (A2 @ B2), gradients[0] * (A1 @ B1)
        return first @ B1.T, A1.T @ first, second @ B2.T, A2.T @ second


def loha_difference(site: Site) -> Tensor:
    """Return s (A1 B1) * (A2 B2) in the shape of W."""
    factors = [site.tensors[f"hada_w{n}_{side}"] for n in (1, 2) for side in ("a", "b")]
    if "hada_t1" in site.tensors:
        cores = site.tensors["hada_t1"], site.tensors["hada_t2"]
        halves = zip(cores, factors[::2], factors[1::2], strict=True)
        first, second = (torch.einsum("ijkl,jr,ip->prkl", core, b, a) for core, a, b in halves)
        product = first * second
    else:
        product = FactorProduct.apply(*factors)  # type: ignore[no-untyped-call]
    return (product * site.adapter.scaling).reshape(site.shape)


def loha_outputs(site: Site, x: Tensor, y: Tensor) -> Tensor:
    """Return y and the update's output, which `module_dropout` leaves out and `rank_dropout` thins in training."""
    return lycoris_outputs(site, x, y, loha_difference(site), rescale=True)


def lycoris_outputs(site: Site, x: Tensor, y: Tensor, difference: Tensor, *, rescale: bool) -> Tensor:
    """Return y + difference applied to x, with the two dropouts of the family."""
    config = site.adapter.config
    if site.layer.training and config.module_dropout and torch.rand(1) <= config.module_dropout:
        return y
    if site.layer.training and config.rank_dropout:
        kept = (torch.rand(difference.shape[0]) > config.rank_dropout).to(difference)
        kept = kept / kept.mean().clamp(min=1 / len(kept)) if rescale else kept
        difference = difference * kept.reshape(-1, *[1] * (difference.dim() - 1))
    return y + site.apply(to_adapter(x, difference), difference)


def loha_merged(site: Site, weight: Tensor, bias: Tensor | None) -> Merged:
    """Return W + s (A1 B1) * (A2 B2)."""
    return weight + loha_difference(site), bias


def decomposes_kernel(site: Site) -> bool:
    """Return whether the kernel of a convolution gets factors of its own."""
    return bool(site.adapter.config.use_effective_conv2d) and math.prod(site.shape[2:]) > 1


LOHA = Variant(LYCORIS_KINDS, loha_shapes, loha_initial, loha_merged, outputs=loha_outputs)
