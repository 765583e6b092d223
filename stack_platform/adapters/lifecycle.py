"""Adapters on one model: add, activate, disable, merge, take away.

The adapted layers are kept in an index, so that switching an adapter visits these layers and never the module
tree.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import nn

from stack_platform.adapters.config import LoraConfig
from stack_platform.adapters.inject import AdapterTensors, inject, restore
from stack_platform.adapters.merge import merge_into_base, merge_layers, restore_base, unmerge_layers
from stack_platform.adapters.targets import Target
from stack_platform.errors import AdapterError

if TYPE_CHECKING:
    from stack_platform.adapters.layer import AdaptedLayer


class AdaptedModel(nn.Module):
    """A base model, changed in place, and the index of its adapted layers.

    Attributes of the base model are reached through this one.
    """

    model: nn.Module

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.active_adapters: list[str] = []
        self.layers: dict[str, AdaptedLayer] = {}
        for parameter in model.parameters():
            parameter.requires_grad_(False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the base model."""
        return self.model(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "model":  # not initialized yet; looking further would never end
                raise
            return getattr(self.model, name)

    def add_adapter(
        self,
        name: str,
        config: LoraConfig,
        targets: tuple[Target, ...],
        tensors: AdapterTensors | None = None,
        *,
        full_precision: bool = True,
    ) -> None:
        """Inject an adapter; it is neither active nor trainable yet."""
        added = inject(self.model, config, name, targets, tensors, full_precision=full_precision)
        for layer in added.values():
            for tensor in layer.tensors(name).values():
                tensor.requires_grad_(False)
            layer.active = tuple(self.active_adapters)
        self.layers.update(added)

    def set_adapter(self, adapter_name: str | Sequence[str], inference_mode: bool = False) -> None:
        """Make these adapters the active ones, and the only trainable ones unless `inference_mode`."""
        names = (adapter_name,) if isinstance(adapter_name, str) else tuple(adapter_name)
        for layer in self.layers.values():
            for known in layer.adapters:
                for tensor in layer.tensors(known).values():
                    tensor.requires_grad_(known in names and not inference_mode)
            layer.active = names
        self.active_adapters = list(names)

    def delete_adapter(self, adapter_name: str) -> None:
        """Take an adapter out of every layer; layers left without adapters become base layers again.

        Raises: AdapterError while it is merged.
        """
        if adapter_name in self.merged_adapters:
            raise AdapterError(f"adapter {adapter_name!r} is merged; call unmerge_adapter first")
        for path, layer in list(self.layers.items()):
            if adapter_name in layer.adapters:
                layer.remove(adapter_name)
            if not layer.adapters:
                restore(self.model, path, layer)
                del self.layers[path]
        self.active_adapters = [name for name in self.active_adapters if name != adapter_name]

    @property
    def merged_adapters(self) -> list[str]:
        """Names of the adapters in the base weights now."""
        return sorted({name for layer in self.layers.values() for name in layer.merged_adapters})

    def enable_adapter_layers(self) -> None:
        """Let the active adapters change the outputs again."""
        self._enable(enabled=True)

    def disable_adapter_layers(self) -> None:
        """Compute the base model's outputs; merged adapters are taken out of the weights."""
        unmerge_layers(self.layers)
        self._enable(enabled=False)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Compute the base model's outputs inside; afterwards everything is as before, merges included."""
        before = {path: (layer.enabled, layer.merged_adapters) for path, layer in self.layers.items()}
        self.disable_adapter_layers()
        try:
            yield
        finally:
            for path, (enabled, merged) in before.items():
                if (layer := self.layers.get(path)) is not None:
                    layer.enabled = enabled
                    layer.merge(merged)

    def merge_adapter(self, adapter_names: Sequence[str] | None = None, safe_merge: bool = True) -> None:
        """Put adapters, by default the active ones, into the base weights; the originals are kept.

        Raises: AdapterError when adapters are merged already or, with `safe_merge`, when a merged weight is
        not finite; nothing is changed then.
        """
        merge_layers(self.layers, self._known(adapter_names), check=safe_merge)

    def unmerge_adapter(self) -> None:
        """Put the original weights back, bit for bit."""
        unmerge_layers(self.layers)

    def merge_and_unload(
        self, progressbar: bool = False, safe_merge: bool = True, adapter_names: Sequence[str] | None = None
    ) -> nn.Module:
        """Return the base model with adapters, by default the active ones, in its weights and no others.

        `progressbar` is accepted for PEFT's callers; a merge takes milliseconds a layer.
        """
        del progressbar
        names = self._known(adapter_names)
        model = merge_into_base(self.model, self.layers, names, check=safe_merge)
        self.layers.clear()
        return model

    def unload(self) -> nn.Module:
        """Return the base model without adapters, its weights as they were."""
        model = restore_base(self.model, self.layers)
        self.layers.clear()
        return model

    def _enable(self, *, enabled: bool) -> None:
        for layer in self.layers.values():
            layer.enabled = enabled

    def _known(self, adapter_names: Sequence[str] | None) -> list[str]:
        names = self.active_adapters if adapter_names is None else list(adapter_names)
        there = {name for layer in self.layers.values() for name in layer.adapters}
        if unknown := [name for name in names if name not in there]:
            raise AdapterError(f"no adapter {unknown[0]!r}; there are: {', '.join(sorted(there)) or 'none'}")
        return names
