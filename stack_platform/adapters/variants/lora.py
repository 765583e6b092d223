"""LoRA (Hu et al. 2021) and rsLoRA (Kalajdzievski 2023): W + s B A.

Tensors: lora_A [R, I], lora_B [O, R], and lora_bias [O] with `lora_bias`. A convolution's A is a convolution into R
channels [R, I, *k] and its B one of kernel 1 [O, R/g, 1...]. An embedding's are lora_embedding_A [R, vocabulary] and
lora_embedding_B [O, R]. Experts have lora_A [X R, I] and lora_B [O, R X], B's columns with the expert fastest.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import dropout

from stack_platform.adapters.configs.lora import LoraConfig
from stack_platform.adapters.initial import check_start, lora_start
from stack_platform.adapters.variants.variant import Adapter, Merged, Shapes, Site, Variant, to_adapter
from stack_platform.errors import AdapterError

LORA_KINDS = frozenset(
    {"linear", "embedding", "conv1d", "conv2d", "conv3d", "attention", "parameter", "experts"}
)
PARAMETERS = {"lora_A": "lora_A.*.weight", "lora_B": "lora_B.*.weight", "lora_bias": "lora_B.*.bias"}


def lora_adapter(config: LoraConfig, _path: str, r: int, alpha: float) -> Adapter:
    """Return the adapter of a configuration: s is alpha / r, or alpha / sqrt(r) with `use_rslora`."""
    scaling = alpha / math.sqrt(r) if config.use_rslora else alpha / r
    return Adapter("dora" if config.use_dora else "lora", config, r, alpha, scaling, config.lora_dropout)


def factors(site: Site) -> tuple[Tensor, Tensor]:
    """Return A and B, whatever they are called."""
    prefix = "lora_embedding_" if site.kind.name == "embedding" else "lora_"
    return site.tensors[f"{prefix}A"], site.tensors[f"{prefix}B"]


def lora_shapes(site: Site) -> Shapes:
    """Return the shapes of A and B.

    Raises: AdapterError where the groups of a convolution do not divide the rank, or the start cannot be computed.
    """
    shapes = _shapes(site)
    check_start(site, shapes)
    return shapes


def _shapes(site: Site) -> Shapes:
    (out, *rest), r, name = site.shape, site.adapter.r, site.kind.name
    config = site.adapter.config
    if name == "embedding":
        if config is not None and config.lora_bias:
            raise AdapterError(
                "lora_bias=True has no place in an embedding; exclude the embedding, or leave it out"
            )
        return {"lora_embedding_A": (r, rest[0]), "lora_embedding_B": (out, r)}
    if name == "experts":
        experts, (out, inputs) = out, rest
        _needs_plain("target_parameters", config)
        return {"lora_A": (r * experts, inputs), "lora_B": (out, r * experts)}
    if name == "parameter":
        _needs_plain("target_parameters", config)
    if name.startswith("conv"):
        groups = int(site.layer.groups)  # type: ignore[arg-type]
        if r % groups:
            raise AdapterError(
                f"rank {r} of a convolution with {groups} groups; write a multiple of {groups}"
            )
        ones = (1,) * (len(rest) - 1)
        shapes: Shapes = {"lora_A": (r, rest[0] * groups, *rest[1:]), "lora_B": (out, r // groups, *ones)}
    else:
        shapes = {"lora_A": (r, rest[0]), "lora_B": (out, r)}
    if config is not None and config.lora_bias:
        shapes["lora_bias"] = (out,)
    return shapes


def update(site: Site, x: Tensor) -> Tensor:
    """Return s B A x, in the order that never forms the [O, I] product."""
    A, B = factors(site)
    hidden = site.kind.mix(site.apply(x, A), B)
    if (bias := site.tensors.get("lora_bias")) is not None:
        hidden = hidden + site.kind.spread(bias)
    return hidden * site.adapter.scaling


def dropped(site: Site, x: Tensor) -> Tensor:
    """Return x as the adapter reads it: in its format, with dropout in training."""
    x = to_adapter(x, factors(site)[0])
    if not x.is_floating_point():  # the rows of an embedding
        return x
    return dropout(x, site.adapter.dropout, site.layer.training)


def lora_outputs(site: Site, x: Tensor, y: Tensor) -> Tensor:
    """Return y + s B A x."""
    return y + update(site, dropped(site, x))


def difference(site: Site) -> Tensor:
    """Return s B A in the shape of W.

    Raises: AdapterError for a convolution with groups: A mixes all of its inputs, which no such weight does.
    """
    A, B = factors(site)
    shape, s = site.shape, site.adapter.scaling
    if site.kind.name == "experts":
        experts = shape[0]
        A_XRI = A.reshape(experts, -1, A.shape[1])
        B_ORX = B.reshape(B.shape[0], -1, experts)
        return torch.einsum("orx,xri->xoi", B_ORX, A_XRI) * s
    if site.kind.name.startswith("conv") and int(site.layer.groups) > 1:  # type: ignore[arg-type]
        raise AdapterError(
            f"LoRA on a convolution with {site.layer.groups} groups cannot be merged; keep the adapter beside it, or "
            "exclude the layer"
        )
    return (B.flatten(1) @ A.flatten(1)).mul_(s).reshape(shape)


def lora_merged(site: Site, weight: Tensor, bias: Tensor | None) -> Merged:
    """Return W + s B A, and the bias + s times B's.

    Raises: AdapterError when there is no bias to add B's to.
    """
    if (extra := site.tensors.get("lora_bias")) is not None:
        if bias is None:
            raise AdapterError(
                "lora_bias=True cannot be merged into a layer without bias; keep the adapter beside it"
            )
        bias = bias + extra * site.adapter.scaling
    return difference(site).add_(weight), bias


def _needs_plain(field: str, config: LoraConfig | None) -> None:
    if config is not None and (config.lora_dropout or config.lora_bias or config.use_dora):
        raise AdapterError(f"{field} works without lora_dropout, lora_bias and use_dora; leave these out")


LORA = Variant(
    kinds=LORA_KINDS,
    shapes=lora_shapes,
    initial=lora_start,
    merged=lora_merged,
    outputs=lora_outputs,
    parameters=PARAMETERS,
)
