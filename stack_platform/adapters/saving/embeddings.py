"""The base model's embeddings in an adapter's file: where a vocabulary grew, the adapter is of no use without them.

PEFT's `save_embedding_layers`. Keys are `base_model.model.<path>.weight`, of the input embedding and the output head.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stack_platform.adapters.configs.fields import PeftConfig
from stack_platform.adapters.inject import base_of
from stack_platform.adapters.layer import AdaptedLayer
from stack_platform.adapters.plan import PREFIX, Plan
from stack_platform.errors import AdapterError

_FINDERS = ("get_input_embeddings", "get_output_embeddings")


def embedding_keys(model: nn.Module, saved: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the keys of a model's embeddings to their paths, but for those at paths that are `saved` anyway."""
    wanted = [module for find in _FINDERS if (module := _found(model, find)) is not None]
    paths = [path for path, module in model.named_modules() if any(module is other for other in wanted)]
    return {f"{PREFIX}{path}.weight": path for path in paths if path not in saved}


def _found(model: nn.Module, find: str) -> nn.Module | None:
    try:
        module: nn.Module | None = getattr(model, find)()
    except (AttributeError, NotImplementedError):
        return None
    return module


def check_embeddings(model: nn.Module, found: Plan, tensors: Mapping[str, Tensor]) -> None:
    """Check that embeddings in a file have as many rows as the model's.

    Raises: AdapterError saying how to make room.
    """
    for key, path in embedding_keys(model, found.saved).items():
        if key in tensors and tensors[key].shape != (own := base_of(model.get_submodule(path)).weight.shape):
            raise AdapterError(
                f"the adapter brings {key} of shape {list(tensors[key].shape)}, and the model's is {list(own)}; call "
                f"resize_token_embeddings({tensors[key].shape[0]}) of the model first"
            )


@torch.no_grad()
def load_embeddings(model: nn.Module, found: Plan, tensors: Mapping[str, Tensor]) -> None:
    """Put the embeddings of a file into the base model."""
    if not tensors:
        return
    for key, path in embedding_keys(model, found.saved).items():
        if key in tensors:
            base_of(model.get_submodule(path)).weight.copy_(tensors[key])


def with_embeddings(
    model: nn.Module,
    found: Plan,
    tensors: Mapping[str, Tensor],
    wanted: str | bool,
    value: Callable[[Tensor], Tensor],
) -> dict[str, Tensor]:
    """Return a file's tensors with the embeddings, without any, or ("auto") with those PEFT would save.

    These are the adapted ones, which are in `tensors`, and all where the vocabulary is not the base model's.
    """
    if wanted is False:
        return {key: tensor for key, tensor in tensors.items() if not key.endswith(".base_layer.weight")}
    if found.embeddings and wanted == "auto":
        return dict(tensors)
    if wanted == "auto" and not _grown(model, found.config):
        return dict(tensors)
    added = {}
    for key, path in embedding_keys(model, found.saved).items():
        module = model.get_submodule(path)
        if isinstance(module, AdaptedLayer):
            key = f"{PREFIX}{path}.base_layer.weight"
        added[key] = value(base_of(module).weight)
    return {**tensors, **added}


def _grown(model: Any, config: PeftConfig) -> bool:
    """Return whether a model has another vocabulary than its base, as far as that is on this machine."""
    name, own = config.base_model_name_or_path, getattr(model, "config", None)
    if name is None or not isinstance(getattr(own, "vocab_size", None), int):
        return False
    try:
        base = type(own).from_pretrained(name, local_files_only=True)  # type: ignore[union-attr]
    except (OSError, ValueError):
        return False
    return bool(base.vocab_size != own.vocab_size)  # type: ignore[union-attr]
