"""VeRA (Kopiczko et al. 2024): W + diag(b) B diag(d) A, where all layers share the random A and B.

Tensors: vera_lambda_b [O], vera_lambda_d [R]; shared vera_A [R, largest I] and vera_B [largest O, R], of which a layer
takes the first columns and rows.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import dropout, linear

from stack_platform.adapters.configs.vectors import VeraConfig
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


def vera_adapter(config: VeraConfig, _path: str, _r: int, _alpha: float) -> Adapter:
    """Return the adapter of a configuration."""
    return Adapter("vera", config, config.r, dropout=config.vera_dropout)


def vera_shared(config: VeraConfig, shapes: list[tuple[int, ...]]) -> dict[str, Tensor]:
    """Return A and B, uniform with the variance of Kaiming's initialization, from the configuration's seed."""
    generator = torch.Generator("cpu").manual_seed(config.projection_prng_key)
    largest_out, largest_in = (max(shape[axis] for shape in shapes) for axis in (0, 1))
    drawn = {}
    for name, shape in (("vera_A", (config.r, largest_in)), ("vera_B", (largest_out, config.r))):
        bound = math.sqrt(3) * (math.sqrt(2) / math.sqrt(shape[1]))
        drawn[name] = torch.empty(shape).uniform_(-bound, bound, generator=generator)
    return drawn


def vera_shapes(site: Site) -> Shapes:
    """Return the shapes of b and d."""
    return {"vera_lambda_b": (site.shape[0],), "vera_lambda_d": (site.adapter.r,)}


def vera_initial(site: Site, shapes: Shapes) -> Start:
    """Start at b = 0 and d = `d_initial`; with `init_weights=False` at b = 1 and d normal."""
    b = torch.ones(shapes["vera_lambda_b"], device="cpu")
    d = torch.randn(shapes["vera_lambda_d"], device="cpu")
    if site.adapter.config.init_weights:  # PEFT draws all the same
        b.zero_()
        d.fill_(site.adapter.config.d_initial)
    return Start({"vera_lambda_b": b, "vera_lambda_d": rounded(site, d)})


def vera_outputs(site: Site, x: Tensor, y: Tensor) -> Tensor:
    """Return y + b * B (d * A x)."""
    A, B = _projections(site)
    x = dropout(to_adapter(x, A), site.adapter.dropout, site.layer.training)
    hidden = site.tensors["vera_lambda_d"] * linear(x, A)
    return y + site.tensors["vera_lambda_b"] * linear(hidden, B)


def vera_merged(site: Site, weight: Tensor, bias: Tensor | None) -> Merged:
    """Return W + diag(b) B diag(d) A."""
    A, B = _projections(site)
    b, d = site.tensors["vera_lambda_b"], site.tensors["vera_lambda_d"]
    return weight + (b[:, None] * B) @ (d[:, None] * A), bias


def _projections(site: Site) -> tuple[Tensor, Tensor]:
    (out, inputs), like = site.shape, site.tensors["vera_lambda_d"]
    return site.tensors["vera_A"][:, :inputs].to(like), site.tensors["vera_B"][:out].to(like)


VERA = Variant(
    frozenset({"linear"}), vera_shapes, vera_initial, vera_merged, outputs=vera_outputs, shared=vera_shared
)
