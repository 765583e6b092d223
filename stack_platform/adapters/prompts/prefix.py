"""Keys and values in front of those of every attention, in the cache that transformers' models read them from.

A prefix is one matrix [V, 2 L H K], which is [V, L, 2, H, K]: keys and values of layer 0, of layer 1, and so on. In
models with encoder and decoder, PEFT 0.21.2 gives decoder layer i the keys and values numbered 2 i modulo L: with an
even number of layers, half of the prefix is never used and the other half twice. Its files mean that, so it is the same
here.

Under gradient checkpointing transformers takes the cache away from every layer, since the second run of a layer would
add its keys again, and trains without the prefix; PEFT refuses. Here the cache of a training step adds nothing to
itself, so that the layers may keep it.

V virtual tokens, L layers, H heads, K size of a head.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache
from transformers.cache_utils import DynamicLayer
from transformers.modeling_layers import GradientCheckpointingLayer

from stack_platform.adapters.configs.prompts import PromptLearningConfig
from stack_platform.adapters.prompts.sizes import KeptShapes
from stack_platform.errors import AdapterError

_KEEP = "_can_checkpoint_with_cache"


class FixedLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer, to which the layer's own are joined but not added."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Return the prefix's and the layer's own; keep the prefix alone."""
        assert self.keys is not None
        assert self.values is not None
        return torch.cat([self.keys, key_states], dim=-2), torch.cat([self.values, value_states], dim=-2)


def prefix_cache(
    prefix: Tensor, config: PromptLearningConfig, model: nn.Module, rows: int, shapes: KeptShapes
) -> Any:
    """Return a cache for `rows` rows that holds a prefix and nothing else.

    `shapes` is what each layer keeps, as `kept_shapes` found it. A layer with narrower heads takes their first part;
    one that keeps no keys, or wider ones, goes without, as in PEFT.
    """
    layers, heads = config.num_layers, config.num_attention_heads
    assert layers is not None
    assert heads is not None
    wide = prefix.to(model.dtype)  # type: ignore[arg-type]
    pairs = wide.reshape(len(wide), layers, 2, heads, -1).permute(1, 2, 3, 0, 4)
    twice = config.num_transformer_submodules == 2
    decoder = model.get_decoder().config if model.config.is_encoder_decoder else None  # type: ignore[operator,union-attr]
    text = decoder or model.config.get_text_config()  # type: ignore[operator,union-attr]
    cache = DynamicCache(config=text) if shapes else DynamicCache()
    for layer in range(layers):
        keys, values = pairs[2 * layer % layers if twice else layer]
        if shapes:
            kept = shapes[layer] if layer < len(shapes) else None
            if kept is None or kept[0] > keys.shape[0] or kept[1] > keys.shape[2]:
                continue
            keys, values = keys[: kept[0], :, : kept[1]], values[: kept[0], :, : kept[1]]
        cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), layer)
    return cache if decoder is None else EncoderDecoderCache(cache, DynamicCache(config=decoder))


@contextmanager
def checkpointed(model: nn.Module, cache: Any) -> Iterator[None]:
    """Let the layers of a checkpointed training step keep the cache, which then adds nothing to itself.

    Raises: AdapterError for reentrant checkpointing, and for caches that hold more than keys and values.
    """
    asked = [m for m in model.modules() if getattr(m, "gradient_checkpointing", False) and m.training]
    if not asked:
        yield
        return
    blocks = [module for module in asked if isinstance(module, GradientCheckpointingLayer)]
    layers = getattr(cache, "self_attention_cache", cache).layers
    fixed = not isinstance(cache, EncoderDecoderCache) and all(
        type(layer) is DynamicLayer for layer in layers
    )
    if not blocks or not fixed or any(_reentrant(block) for block in blocks):
        raise AdapterError(
            "under gradient checkpointing this model gives its layers no prefix; train without it, or, for a causal "
            "model without sliding windows, with gradient_checkpointing_kwargs={'use_reentrant': False}"
        )
    for layer in layers:
        layer.__class__ = FixedLayer
    before = [vars(block).get(_KEEP) for block in blocks]
    for block in blocks:
        setattr(block, _KEEP, True)
    try:
        yield
    finally:
        for block, value in zip(blocks, before, strict=True):
            if value is None:
                delattr(block, _KEEP)
            else:
                setattr(block, _KEEP, value)


def _reentrant(block: Any) -> bool:
    function = getattr(block, "_gradient_checkpointing_func", None)
    return bool(getattr(function, "keywords", {}).get("use_reentrant", True))
