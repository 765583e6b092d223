"""Fill in what a prompt's configuration leaves to the model: sizes of embeddings, of keys and values, layers.

Keys and values have the shape that the model itself keeps: a forward pass of one token is made and its cache looked at,
which is right for shared heads, heads of another size, and layers that keep none. PEFT 0.21.2 derives the shape from
names in the model's configuration, and is wrong where a head's size is not `hidden_size / num_attention_heads` (T5-3B).
"""

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from stack_platform.adapters.configs.fields import TaskType
from stack_platform.adapters.configs.prompts import PrefixTuningConfig, PromptLearningConfig
from stack_platform.errors import AdapterError

KeptShapes = list[tuple[int, int] | None]
"""Heads and size of a head of each layer's keys; None where a layer keeps none."""


def complete(config: PromptLearningConfig, model: nn.Module) -> PromptLearningConfig:
    """Return the configuration with every size in it.

    Raises: AdapterError when the model has no embeddings, or keeps no keys and values for a prefix.
    """
    text: Any = model.config.get_text_config()  # type: ignore[operator,union-attr]
    filled = replace(
        config,
        num_transformer_submodules=config.num_transformer_submodules or (2 if _is_seq2seq(config) else 1),
        num_layers=config.num_layers or _number(text, "num_hidden_layers"),
        num_attention_heads=config.num_attention_heads or _number(text, "num_attention_heads"),
        token_dim=config.token_dim or embeddings_of(model).embedding_dim,
    )
    if isinstance(config, PrefixTuningConfig) and config.token_dim is None:
        filled = _fill_prefix(filled, model, layers_given=config.num_layers is not None)
    if hasattr(filled, "encoder_hidden_size") and filled.encoder_hidden_size is None:
        filled = replace(filled, encoder_hidden_size=filled.token_dim)  # type: ignore[call-arg]
    return filled


def embeddings_of(model: nn.Module) -> Any:
    """Return the module that turns token numbers into embeddings.

    Raises: AdapterError when there is none.
    """
    try:
        module = model.get_input_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):
        module = None
    if not isinstance(module, nn.Embedding):
        raise AdapterError(
            f"a {type(model).__name__} has no embeddings of tokens; prompts need a model of text"
        )
    return module


def kept_shapes(model: nn.Module) -> KeptShapes:
    """Return the shape of the keys that each layer keeps, found by a forward pass of one token; [] if it keeps none."""
    parameter = next(model.parameters())
    ids = torch.zeros(1, 1, dtype=torch.long, device=parameter.device)
    decoder = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}  # type: ignore[union-attr]
    devices = [parameter.device] if parameter.device.type == "cuda" else []
    training = [module for module in model.modules() if module.training]
    model.eval()  # in training, checkpointed layers keep nothing
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            outputs = model(input_ids=ids, use_cache=True, **decoder)
    finally:
        for module in training:
            module.training = True
    cache = getattr(outputs, "past_key_values", None)
    cache = getattr(cache, "self_attention_cache", cache)
    keys = [getattr(layer, "keys", None) for layer in getattr(cache, "layers", ())]
    shapes: KeptShapes = [None if k is None or k.dim() != 4 else (k.shape[1], k.shape[3]) for k in keys]
    return shapes if any(shapes) else []


def _fill_prefix(
    filled: PromptLearningConfig, model: nn.Module, *, layers_given: bool
) -> PromptLearningConfig:
    """Fill in heads and size of keys and values, the widest where layers differ; and the decoder's layers."""
    config: Any = model.config
    shapes = kept_shapes(model)
    widest = max((shape for shape in shapes if shape), key=lambda shape: (shape[1], shape[0]), default=None)
    if widest is None:  # an encoder: every head has keys
        return replace(filled, token_dim=_number(config.get_text_config(), "hidden_size"))
    heads, size = widest
    layers = len(shapes) if config.is_encoder_decoder and not layers_given else filled.num_layers
    return replace(filled, num_attention_heads=heads, token_dim=heads * size, num_layers=layers)


def _is_seq2seq(config: PromptLearningConfig) -> bool:
    return config.task_type is TaskType.SEQ_2_SEQ_LM


def _number(text: Any, name: str) -> int:
    value = getattr(text, name, None)
    if not isinstance(value, int):
        raise AdapterError(f"the model's configuration does not say {name}; write it into the adapter's")
    return value
