"""The inputs of a model when virtual tokens stand in front of them: masks, labels, positions, token types.

N rows, T tokens, V virtual tokens. Every function returns new tensors.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from stack_platform.errors import AdapterError

IGNORED = -100  # the label that carries no loss


def rows_of(input_ids: Tensor | None, inputs_embeds: Tensor | None) -> int:
    """Return N.

    Raises: AdapterError when there is neither, or both.
    """
    if (input_ids is None) == (inputs_embeds is None):
        raise AdapterError("give either input_ids or inputs_embeds")
    given = input_ids if input_ids is not None else inputs_embeds
    assert given is not None
    return int(given.shape[0])


def longer_mask(mask: Any, tokens: int) -> Tensor | None:
    """Return a mask [N, V + T] that also attends to the virtual tokens; None stays None, which is all.

    Raises: AdapterError for a mask that is not [N, T].
    """
    if mask is None:
        return None
    if not isinstance(mask, Tensor) or mask.dim() != 2:
        shape = list(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise AdapterError(f"attention_mask is {shape}; beside a prompt it must be [rows, tokens]")
    return torch.cat([mask.new_ones(mask.shape[0], tokens), mask], dim=1)


def longer_labels(labels: Tensor, tokens: int) -> Tensor:
    """Return labels [N, V + T] without loss on the virtual tokens."""
    return torch.cat([labels.new_full((labels.shape[0], tokens), IGNORED), labels], dim=1)


def moved_positions(positions: Tensor, tokens: int, *, whole: bool) -> Tensor:
    """Return positions after the virtual tokens; `whole` puts those of the virtual tokens in front.

    PEFT 0.21.2 ignores positions in front of which embeddings are put, with a warning.
    """
    moved = positions + tokens
    if not whole:
        return moved
    first = torch.arange(tokens, device=positions.device, dtype=positions.dtype)
    return torch.cat([first.expand(*positions.shape[:-1], tokens), moved], dim=-1)


def moved(kwargs: Mapping[str, Any], tokens: int, *, whole: bool) -> dict[str, Any]:
    """Return arguments whose positions and token types fit the virtual tokens; `whole` where these are inputs."""
    changed = dict(kwargs)
    if (positions := kwargs.get("position_ids")) is not None:
        changed["position_ids"] = moved_positions(positions, tokens, whole=whole)
    if whole and (types := kwargs.get("token_type_ids")) is not None:
        changed["token_type_ids"] = torch.cat([types.new_zeros(types.shape[0], tokens), types], dim=1)
    return changed


def check_padding(model: Any, mask: Tensor | None) -> None:
    """Check that a classifier which looks at the last token finds one: embeddings do not show where padding is.

    PEFT 0.21.2 classifies the padding.
    Raises: AdapterError for rows padded on the right.
    """
    if hasattr(model, "score") and mask is not None and not bool(mask[:, -1].all()):
        raise AdapterError(
            f"{type(model).__name__} classifies the last token, and some rows end in padding; pad on the left "
            "(tokenizer.padding_side = 'left')"
        )
