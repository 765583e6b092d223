"""(IA)3 (Liu et al. 2022): outputs are multiplied by a vector, or the inputs of feed-forward layers are.

Tensor ia3_l: [O, 1] on an output, [1, I] on an input; [1, O or I, 1...] for a convolution.
"""

import re

import torch
from torch import Tensor

from stack_platform.adapters.configs.vectors import IA3Config
from stack_platform.adapters.variants.variant import Adapter, Merged, Shapes, Site, Start, Variant

KINDS = frozenset({"linear", "conv1d", "conv2d", "conv3d"})


def ia3_adapter(config: IA3Config, path: str, _r: int, _alpha: float) -> Adapter:
    """Return the adapter of a configuration: on the input where the path is one of `feedforward_modules`."""
    wanted = config.feedforward_modules or ()
    if isinstance(wanted, str):
        feeds = re.fullmatch(wanted, path) is not None
    else:
        feeds = any(path == name or path.endswith(f".{name}") for name in wanted)
    return Adapter("ia3_inputs" if feeds else "ia3_outputs", config)


def output_shapes(site: Site) -> Shapes:
    """Return the shape of one factor per output."""
    out, *rest = site.shape
    return {"ia3_l": (out, 1) if len(rest) == 1 else (1, out, *(1,) * (len(rest) - 1))}


def input_shapes(site: Site) -> Shapes:
    """Return the shape of one factor per input."""
    _, inputs, *kernel = site.shape
    groups = int(getattr(site.layer, "groups", 1))
    return {"ia3_l": (1, inputs * groups, *(1,) * len(kernel))}


def ia3_initial(site: Site, shapes: Shapes) -> Start:
    """Start at ones, or at normal numbers with `init_ia3_weights=False`."""
    tensors = {name: torch.randn(shape, device="cpu") for name, shape in shapes.items()}
    if site.adapter.config.init_ia3_weights:  # PEFT draws all the same
        tensors["ia3_l"].fill_(1)
    return Start(tensors)


def scaled_inputs(site: Site, x: Tensor) -> Tensor:
    """Return l * x."""
    factor = site.tensors["ia3_l"]
    return (x.to(factor.dtype) * site.kind.spread(factor)).to(x.dtype)


def scaled_outputs(site: Site, _x: Tensor, y: Tensor) -> Tensor:
    """Return l * y, bias included."""
    return y * site.kind.spread(site.tensors["ia3_l"])


def merged_inputs(site: Site, weight: Tensor, bias: Tensor | None) -> Merged:
    """Return W with its columns multiplied."""
    factor = site.tensors["ia3_l"].flatten()
    groups = factor.numel() // weight.shape[1]
    rows = factor.reshape(groups, 1, -1).expand(-1, weight.shape[0] // groups, -1).flatten(0, 1)
    return weight * rows.reshape(*weight.shape[:2], *[1] * (weight.dim() - 2)), bias


def merged_outputs(site: Site, weight: Tensor, bias: Tensor | None) -> Merged:
    """Return W and the bias with their rows multiplied."""
    factor = site.tensors["ia3_l"].flatten()
    rows = weight * factor.reshape(-1, *[1] * (weight.dim() - 1))
    return rows, None if bias is None else bias * factor


IA3_INPUTS = Variant(KINDS, input_shapes, ia3_initial, merged_inputs, inputs=scaled_inputs)
IA3_OUTPUTS = Variant(KINDS, output_shapes, ia3_initial, merged_outputs, outputs=scaled_outputs)
