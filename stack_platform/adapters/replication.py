"""Repeat blocks of a model, sharing their weights, so that adapters make the copies differ (`layer_replication`)."""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from stack_platform.errors import AdapterError


def replicate_layers(model: nn.Module, layer_map: Sequence[Sequence[int]]) -> Callable[[], None]:
    """Replace the stack of blocks by the given ranges of it, each [first, end), in this order.

    A block's parameters are shared by its copies; its number in the stack, which caches go by, is its own. Return a
    function that puts the old stack back.
    Raises: AdapterError when the model has not one stack of blocks, or a range is none of it.
    """
    path, blocks = _stack(model)
    for start, end in layer_map:
        if not 0 <= start < end <= len(blocks):
            raise AdapterError(
                f"layer_replication: [{start}, {end}] is no range of the {len(blocks)} blocks of {path!r}; "
                "write first and end, the end excluded"
            )
    new = nn.ModuleList()
    for start, end in layer_map:
        for number in range(start, end):
            block = _sharing(blocks[number])
            for module in block.modules():
                if hasattr(module, "layer_idx"):
                    module.layer_idx = len(new)  # type: ignore[assignment]
            new.append(block)
    parent, _, child = path.rpartition(".")
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    before = {
        name: getattr(text, name)
        for name in ("num_hidden_layers", "layer_types")
        if getattr(text, name, None)
    }

    def put(stack: nn.ModuleList, sizes: Mapping[str, Any]) -> None:
        setattr(model.get_submodule(parent), child, stack)
        for name, value in sizes.items():
            setattr(text, name, value)

    after: dict[str, Any] = {"num_hidden_layers": len(new)}
    if "layer_types" in before:
        after["layer_types"] = [
            before["layer_types"][n] for start, end in layer_map for n in range(start, end)
        ]
    put(new, {name: after[name] for name in before})
    return partial(put, blocks, before)


def _stack(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return the longest list of modules of one class, which must be the only one of its length."""
    lists = [
        (path, module)
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) and len({type(block) for block in module}) == 1
    ]
    longest = max((len(module) for _, module in lists), default=0)
    found = [(path, module) for path, module in lists if len(module) == longest and not _nested(path, lists)]
    if len(found) != 1:
        names = ", ".join(path for path, _ in found) or "none"
        raise AdapterError(f"layer_replication needs a model with one stack of blocks; found: {names}")
    return found[0]


def _nested(path: str, lists: Sequence[tuple[str, nn.ModuleList]]) -> bool:
    return any(path.startswith(f"{other}.") for other, _ in lists)


def _sharing(block: nn.Module) -> nn.Module:
    """Return a copy of a module with the same parameters and buffers."""
    shared = {id(tensor): tensor for tensor in (*block.parameters(), *block.buffers())}
    return copy.deepcopy(block, memo=shared)
