"""What adapters a model carries, and in what state: PEFT's two reports."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from stack_platform.adapters.functional import adapters_of, is_bare
from stack_platform.adapters.layer import AdaptedLayer


@dataclass(frozen=True, slots=True)
class TunerLayerStatus:
    """The state of one adapted layer."""

    name: str
    """Path of the layer."""
    module_type: str
    """Variant of its first adapter."""
    enabled: bool
    """Whether adapters act."""
    active_adapters: list[str]
    """Those that act, if enabled."""
    merged_adapters: list[str]
    """Those in the base weight."""
    requires_grad: dict[str, bool]
    """Whether each adapter trains."""
    available_adapters: list[str]
    """All of them."""
    devices: dict[str, list[str]]
    """Where each adapter's tensors are."""


@dataclass(frozen=True, slots=True)
class TunerModelStatus:
    """The state of a model with adapters; "irregular" where layers differ."""

    base_model_type: str
    """Class of the base model."""
    adapter_model_type: str
    """Class of the model with adapters."""
    peft_types: dict[str, str]
    """Method of each adapter."""
    trainable_params: int
    """Numbers that train."""
    total_params: int
    """All numbers."""
    num_adapter_layers: int
    """Layers with adapters."""
    enabled: bool
    """Whether adapters act."""
    active_adapters: list[str]
    """Those that act, if enabled."""
    merged_adapters: list[str] | str
    """Those in the base weights."""
    requires_grad: dict[str, bool | str]
    """Whether each adapter trains."""
    available_adapters: list[str]
    """All of them."""
    devices: dict[str, list[str]]
    """Where each adapter's tensors are."""


def get_layer_status(model: nn.Module) -> list[TunerLayerStatus]:
    """Return the state of each adapted layer, in the model's order."""
    found = []
    for path, layer in model.named_modules():
        if not isinstance(layer, AdaptedLayer):
            continue
        tensors = {name: layer.tensors(name).values() for name in layer.adapters}
        found.append(
            TunerLayerStatus(
                name=path.removeprefix("base_model.model."),
                module_type=next(iter(layer.adapters.values())).variant,
                enabled=layer.switch.enabled,
                active_adapters=[name for name in layer.switch.active if name in layer.adapters],
                merged_adapters=list(layer.merged_adapters),
                requires_grad={name: all(t.requires_grad for t in ts) for name, ts in tensors.items()},
                available_adapters=sorted(layer.adapters),
                devices={name: sorted({t.device.type for t in ts}) for name, ts in tensors.items()},
            )
        )
    return found


def get_model_status(model: Any) -> TunerModelStatus:
    """Return the state of a model with adapters as a whole.

    Raises: AdapterError when it carries none.
    """
    index, layers = adapters_of(model), get_layer_status(model)
    trainable, total = count_parameters(model)
    merged = {tuple(layer.merged_adapters) for layer in layers}
    grads: dict[str, set[bool]] = {}
    devices: dict[str, set[str]] = {}
    for layer in layers:
        for name, trains in layer.requires_grad.items():
            grads.setdefault(name, set()).add(trains)
            devices.setdefault(name, set()).update(layer.devices[name])
    return TunerModelStatus(
        base_model_type=type(index.model).__name__,
        adapter_model_type="None" if is_bare(model) else type(model).__name__,
        peft_types={name: str(config.peft_type) for name, config in index.peft_config.items()},
        trainable_params=trainable,
        total_params=total,
        num_adapter_layers=len(layers),
        enabled=index.switch.enabled,
        active_adapters=index.active_adapters,
        merged_adapters=list(next(iter(merged), ())) if len(merged) <= 1 else "irregular",
        requires_grad={name: "irregular" if len(kinds) > 1 else kinds.pop() for name, kinds in grads.items()},
        available_adapters=sorted(index.peft_config),
        devices={name: sorted(kinds) for name, kinds in devices.items()},
    )


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Return the number of trainable parameters and of all; a number packed in 4 bits counts as one."""
    trainable = total = 0
    for parameter in model.parameters():
        size = parameter.numel()
        if type(parameter).__name__ == "Params4bit" and getattr(parameter, "quant_state", None) is not None:
            size *= 2 * parameter.element_size()
        total += size
        trainable += size if parameter.requires_grad else 0
    return trainable, total


class Reports(nn.Module):
    """The part of a model with adapters that says what it carries."""

    def get_layer_status(self) -> list[TunerLayerStatus]:
        """Return the state of each adapted layer, in the model's order."""
        return get_layer_status(self)

    def get_model_status(self) -> TunerModelStatus:
        """Return the state of the model as a whole."""
        return get_model_status(self)

    def get_nb_trainable_parameters(self) -> tuple[int, int]:
        """Return the number of trainable parameters and of all parameters."""
        return count_parameters(self)

    def print_trainable_parameters(self) -> None:
        """Print both numbers and their ratio, in PEFT's words."""
        trainable, total = self.get_nb_trainable_parameters()
        percent = 100 * trainable / total
        print(f"trainable params: {trainable:,d} || all params: {total:,d} || trainable%: {percent:.4f}")
