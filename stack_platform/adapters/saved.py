"""Modules that train in full beside the adapters: copies of a whole module, or some rows of an embedding.

Both stand in the place of the module they replace, and answer for it. Paths of parameters are PEFT's:

    <module>.original_module.weight           <module>.modules_to_save.<adapter>.weight
    <module>.token_adapter.base_layer.weight  <module>.token_adapter.trainable_tokens_delta.<adapter>
"""

import copy
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from stack_platform.adapters.layer import AdaptedLayer, Switch
from stack_platform.errors import AdapterError


class SavedModule(nn.Module):
    """A module and one trained copy of it for each adapter that asks for one."""

    original_module: nn.Module

    def __init__(self, module: nn.Module, switch: Switch) -> None:
        super().__init__()
        if isinstance(
            module, nn.ModuleDict | nn.ModuleList | nn.ParameterDict | nn.ParameterList | AdaptedLayer
        ):
            raise AdapterError(
                f"modules_to_save: a {type(module).__name__} cannot be trained in full; name a module that is called"
            )
        self.original_module = module
        self.modules_to_save = nn.ModuleDict()
        self.switch = switch

    def add(self, name: str) -> None:
        """Copy the module for an adapter."""
        self.modules_to_save[name] = copy.deepcopy(self.original_module)
        self.original_module.requires_grad_(requires_grad=False)

    def acting(self) -> nn.Module:
        """Return the module that computes now."""
        chosen = self.chosen(self.switch.active) if self.switch.enabled else None
        return self.original_module if chosen is None else self.modules_to_save[chosen]

    def chosen(self, names: Iterable[str]) -> str | None:
        """Return which of some adapters has a copy of the module.

        Raises: AdapterError when several have.
        """
        own = [name for name in names if name in self.modules_to_save]
        if len(own) > 1:
            raise AdapterError(
                f"adapters {', '.join(own)} each replace the same module; activate one of them"
            )
        return own[0] if own else None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the active adapter's copy, or the original; with an adapter per row, each row's own."""
        rows = self.switch.rows
        if rows is None or not self.switch.enabled:
            return self.acting()(*args, **kwargs)
        x, *rest = args
        rows = rows.repeated(x.shape[0])
        y: Tensor = self.original_module(*args, **kwargs)
        if not isinstance(y, Tensor):
            raise AdapterError(
                f"adapter_names: a {type(self.original_module).__name__} returns more than one tensor; run the rows of "
                "each adapter that has it in modules_to_save on their own"
            )
        for name, index in rows.where.items():
            if name in self.modules_to_save:
                y = y.index_copy(0, index, self.modules_to_save[name](x[index], *rest, **kwargs).to(y.dtype))
        return y

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name in ("original_module", "modules_to_save", "switch"):
                raise
            return getattr(self.acting(), name)


class TokenAdapter(nn.Module):
    """An embedding of which some rows train; a module of its own because PEFT's parameters are named so."""

    token_adapter: nn.Module

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.token_adapter = layer

    @property
    def original_module(self) -> nn.Module:
        """The embedding without trained rows."""
        layer = self.token_adapter
        return layer.base_layer if isinstance(layer, AdaptedLayer) else layer

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Look the rows up, the trained ones where the active adapters have them."""
        return self.token_adapter(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "token_adapter":
                raise
            return getattr(self.token_adapter, name)


class Shared(nn.Module):
    """Frozen tensors that all layers of an adapter share, as buffers of the adapters' names."""

    def add(self, name: str, tensor: Tensor, *, persistent: bool) -> None:
        """Keep an adapter's tensor; a persistent one is part of the model's state."""
        self.register_buffer(name, tensor, persistent=persistent)
