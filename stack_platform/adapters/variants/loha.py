"""LoHa (Hyeon-Woo et al. 2021, FedPara): W + s (A1 B1) * (A2 B2), elementwise.

Tensors of a matrix [O, I] (a convolution's kernel is flattened into I): hada_w1_a, hada_w2_a [O, R], hada_w1_b,
hada_w2_b [R, I]. With `use_effective_conv2d` and a kernel larger than 1: hada_t1, hada_t2 [R, R, k, k or 1],
hada_w1_a, hada_w2_a [R, O], hada_w1_b, hada_w2_b [R, I].
"""

import math

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


def loha_difference(site: Site) -> Tensor:
    """Return s (A1 B1) * (A2 B2) in the shape of W."""
    halves = []
    for n in (1, 2):
        a, b = site.tensors[f"hada_w{n}_a"], site.tensors[f"hada_w{n}_b"]
        core = site.tensors.get(f"hada_t{n}")
        halves.append(a @ b if core is None else torch.einsum("ijkl,jr,ip->prkl", core, b, a))
    return (halves[0] * halves[1] * site.adapter.scaling).reshape(site.shape)


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
