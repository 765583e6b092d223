"""Trainable tokens: some rows of an embedding, or of the output head, are replaced by trained ones.

Tensor trainable_tokens_delta [tokens, features]: the rows themselves, despite the name, which is PEFT's.
"""

import torch
from torch import Tensor
from torch.nn.functional import embedding, linear

from stack_platform.adapters.configs.vectors import TrainableTokensConfig
from stack_platform.adapters.variants.variant import Adapter, Merged, Shapes, Site, Start, Variant
from stack_platform.errors import AdapterError

ROWS = "trainable_tokens_delta"


def tokens_adapter(config: TrainableTokensConfig, _path: str, _r: int, _alpha: float) -> Adapter:
    """Return the adapter of a configuration."""
    return Adapter("tokens", config)


def tokens_shapes(site: Site) -> Shapes:
    """Return the shape of the rows.

    Raises: AdapterError when a token is beyond the vocabulary.
    """
    features, vocabulary = _sizes(site)
    rows = site.adapter.config.token_indices
    if not rows:
        raise AdapterError("token_indices is empty; name the tokens to train")
    if max(rows) >= vocabulary:
        raise AdapterError(
            f"token_indices: {max(rows)} is beyond the vocabulary of {vocabulary}; resize_token_embeddings first"
        )
    return {ROWS: (len(rows), features)}


def tokens_initial(site: Site, shapes: Shapes) -> Start:
    """Start at the rows as they are, or at normal numbers with `init_weights=False`."""
    if not site.adapter.config.init_weights:
        return Start({ROWS: torch.randn(shapes[ROWS])})
    weight, rows = site.weight(), _rows(site)
    return Start(
        {ROWS: weight[:, rows].T.contiguous() if site.kind.name == "embedding" else weight[rows].clone()}
    )


def tokens_outputs(site: Site, x: Tensor, y: Tensor) -> Tensor:
    """Return y with the trained rows where x asks for them, or with their scores."""
    rows, trained = _rows(site), site.tensors[ROWS]
    if site.kind.name != "embedding":
        scores = linear(x.to(trained.dtype), trained)
        if (bias := site.bias()) is not None:
            scores = scores + bias[rows]
        return y.index_copy(-1, rows, scores.to(y.dtype))
    slots = torch.full((_sizes(site)[1],), -1, device=x.device)
    slots[rows] = torch.arange(len(rows), device=x.device)
    slot = slots[x]
    new = embedding(slot.clamp(min=0), trained.to(y.dtype))
    if (scale := getattr(site.layer, "embed_scale", None)) is not None:
        new = new * torch.as_tensor(scale).to(new)
    return torch.where((slot >= 0).unsqueeze(-1), new, y)


def tokens_merged(site: Site, weight: Tensor, bias: Tensor | None) -> Merged:
    """Return W with the rows in it."""
    trained = site.tensors[ROWS].to(weight.dtype)
    if site.kind.name == "embedding":
        return weight.index_copy(1, _rows(site), trained.T), bias
    return weight.index_copy(0, _rows(site), trained), bias


def _sizes(site: Site) -> tuple[int, int]:
    first, second = site.shape
    return (first, second) if site.kind.name == "embedding" else (second, first)


def _rows(site: Site) -> Tensor:
    return torch.tensor(site.adapter.config.token_indices, device=getattr(site.layer, "weight").device)  # noqa: B009


TOKENS = Variant(
    frozenset({"linear", "embedding"}), tokens_shapes, tokens_initial, tokens_merged, outputs=tokens_outputs
)
