"""Adapters on one model: add, activate, disable, delete, merge, take away.

Which adapters act is one switch that all adapted layers share, so activating or disabling visits no module. Only the
`requires_grad` flags of adapters that change are set, through an index of the adapted layers, not the module tree.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from stack_platform.adapters.allocation import RankAllocator, kept_rows, with_penalty
from stack_platform.adapters.compose.weighted import chosen_configs, combination_of, weighted_adapter
from stack_platform.adapters.configs.lora import AdaLoraConfig, moves_base
from stack_platform.adapters.fusing.fused import Compute
from stack_platform.adapters.fusing.shared_inputs import SharedInputs
from stack_platform.adapters.inject import AdapterTensors, Placement, restore
from stack_platform.adapters.layer import AdaptedLayer, Switch
from stack_platform.adapters.layer_verbs import Switched
from stack_platform.adapters.merge import merge_into_base, merge_layers, restore_base, unmerge_layers
from stack_platform.adapters.mixing.active import Choice, active_set, check_weights
from stack_platform.adapters.placing import bias_of, carry_out, put_at
from stack_platform.adapters.plan import PREFIX, Plan, bias_key, doubled
from stack_platform.adapters.prepare import check_name
from stack_platform.adapters.variants.table import variant_of
from stack_platform.errors import AdapterError

if TYPE_CHECKING:
    from stack_platform.adapters.configs.fields import PeftConfig
    from stack_platform.adapters.saved import SavedModule


class AdaptedModel(Switched):
    """A base model, changed in place, and the index of what adapters put on it.

    Attributes of the base model are reached through this one.
    """

    model: nn.Module

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.peft_config: dict[str, PeftConfig] = {}
        self.switch = Switch()
        self.layers: dict[str, AdaptedLayer] = {}
        self.saved: dict[str, SavedModule] = {}
        self.plans: dict[str, Plan] = {}
        self.allocators: dict[str, RankAllocator] = {}
        self._trained: set[str] = set()  # adapters whose tensors require gradients
        for parameter in model.parameters():
            parameter.requires_grad_(False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the base model."""
        return with_penalty(self, self.model(*args, **kwargs))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "model":  # not initialized yet; looking further would never end
                raise
            return getattr(self.model, name)

    @property
    def prefix(self) -> str:
        """What the names of the first adapter's parameters have in common, `lora_` for LoRA."""
        return str(next(iter(self.peft_config.values())).prefix)

    # Adapters ---------------------------------------------------------------------------------------------

    def add_adapter(
        self,
        name: str,
        found: Plan,
        tensors: AdapterTensors | None = None,
        rest: Mapping[str, Tensor] | None = None,
        placement: Placement = Placement(),
    ) -> None:
        """Carry out a plan; the adapter is neither active nor trainable yet.

        `tensors` and `rest` are the tensors of a file, by slot and by key; without them the adapter starts anew.
        """
        self._check_beside_others(found)
        if moves_base(found.config):  # it takes its part of what the others left
            if tensors is not None and (others := self.moved_base()):
                raise AdapterError(
                    f"adapter {name!r} was saved beside what it left of the base weights, of which {others[0]!r} "
                    "took a part too; load it into a model of its own, or save both with "
                    "path_initial_model_for_weight_conversion"
                )
            for layer in self.layers.values():
                layer.use_original(False)
        added = carry_out(self, name, found, tensors, rest or {}, placement)
        self.layers.update(added)
        for number, layer in enumerate(self.layers.values()):
            layer.number = number
        self.plans[name] = found
        self.peft_config[name] = found.config
        for path in found.biases:
            bias_of(self.model, path).requires_grad_(False)
        self._settle_base()

    def add_weighted_adapter(
        self,
        adapters: Sequence[str],
        weights: Sequence[float],
        adapter_name: str,
        combination_type: str = "svd",
        *,
        generator: torch.Generator | None = None,
        **settings: Any,
    ) -> None:
        """Add the weighted combination of adapters, frozen and not active; `settings` are those of `Combination`.

        What `dare_*` keeps is drawn from `generator`, or from torch's default one as in PEFT.
        Raises: AdapterError when they cannot be combined so, or the name is taken; nothing is changed then.
        """
        check_name(adapter_name)
        if adapter_name in self.peft_config:
            raise AdapterError(
                f"adapter {adapter_name!r} is there already; delete_adapter it, or choose another name"
            )
        combination = combination_of(combination_type, settings)
        configs = chosen_configs(adapters, self.peft_config)
        draw = torch.default_generator if generator is None else generator
        found, tensors = weighted_adapter(self.model, self.layers, configs, weights, combination, draw)
        self.add_adapter(adapter_name, found, tensors)

    def set_adapter(self, adapter_name: Choice, inference_mode: bool = False) -> None:
        """Make these adapters the active ones, and the only trainable ones unless `inference_mode`.

        Raises: AdapterError when there is no such adapter, or several replace the same module or rows.
        """
        weights = dict(active_set(adapter_name, "set_adapter"))
        names = self._known(list(weights))
        check_weights(weights, self.peft_config, self.switch.weights, self.merged_adapters)
        self._check_together(names)
        self._check_moved(names, merging=False)
        self._together()
        left = (self._trained | set(self.switch.active)) - (set() if inference_mode else set(names))
        self._train([name for name in self.plans if name in left], trainable=False)
        if not inference_mode:
            self._train(names, trainable=True)
        self.switch.active = tuple(names)
        self.switch.weights |= weights
        self._settle_base()

    def set_requires_grad(self, adapter_names: str | Sequence[str], requires_grad: bool = True) -> None:
        """Let adapters train or not, whether they are active or not."""
        names = (adapter_names,) if isinstance(adapter_names, str) else adapter_names
        self._train(self._known(names), trainable=requires_grad)

    def delete_adapter(self, adapter_name: str) -> None:
        """Take an adapter out of every layer; layers left without adapters become base layers again.

        Raises: AdapterError while it is merged.
        """
        if adapter_name in self.merged_adapters:
            raise AdapterError(f"adapter {adapter_name!r} is merged; call unmerge_adapter first")
        found = self.plans.pop(adapter_name)
        empty = {}
        for path, layer in self.layers.items():
            if adapter_name in layer.adapters:
                layer.remove(adapter_name)
            if not layer.adapters:
                empty[path] = layer
        restore(self.model, empty)
        self.layers = {path: layer for path, layer in self.layers.items() if path not in empty}
        for path in found.saved:
            module = self.saved[path]
            del module.modules_to_save[adapter_name]
            if not len(module.modules_to_save):
                put_at(self.model, path, module.original_module)
                del self.saved[path]
        for name in found.shared:
            delattr(self.get_submodule(name), adapter_name)
        del self.peft_config[adapter_name]
        self.allocators.pop(adapter_name, None)
        self._trained.discard(adapter_name)
        self.switch.weights.pop(adapter_name, None)
        self.switch.active = tuple(name for name in self.switch.active if name != adapter_name)

    def adapter_tensors(self, name: str) -> dict[str, Tensor]:
        """Return an adapter's tensors by their key in the file."""
        found = self.plans[name]
        flat: dict[str, Tensor] = {}
        for slot in (*found.slots, *found.tokens, *doubled(found)):
            variant = variant_of(slot.adapter)
            tensors: Mapping[str, Tensor] = self.layers[slot.key].tensors(name)
            if isinstance(found.config, AdaLoraConfig):
                tensors = kept_rows(found.config, slot.key, tensors)
            flat |= {f"{PREFIX}{slot.key}.{variant.key(key)}": tensor for key, tensor in tensors.items()}
        for path in found.saved:
            state = self.saved[path].modules_to_save[name].state_dict(keep_vars=True)
            flat |= {f"{PREFIX}{path}.{key}": tensor for key, tensor in state.items()}
        if getattr(found.config, "save_projection", True):
            flat |= {f"base_model.{key}": self.get_submodule(key).get_buffer(name) for key in found.shared}
        flat |= {bias_key(path, found): bias_of(self.model, path) for path in found.biases}
        flat |= {f"{PREFIX}{p}.base_layer.weight": self.layers[p].base_layer.weight for p in found.embeddings}  # type: ignore[misc]
        return flat

    def adapter_parameters(self, name: str) -> list[nn.Parameter]:
        """Return the parameters that train with an adapter."""
        found = self.plans[name]
        keys = [slot.key for slot in (*found.slots, *found.tokens)]
        chosen = [t for key in keys for t in self.layers[key].tensors(name).values()]
        for path in found.saved:
            chosen += self.saved[path].modules_to_save[name].parameters()
        return [*chosen, *(bias_of(self.model, path) for path in found.biases)]  # type: ignore[list-item]

    def reconfigure(self, name: str, config: "PeftConfig") -> None:
        """Give an adapter a configuration that says better what it is, as after its ranks were pruned."""
        self.plans[name] = replace(self.plans[name], config=config)
        self.peft_config[name] = config

    def update_and_allocate(self, global_step: int) -> None:
        """Let the active AdaLoRA adapters prune their ranks; call it between `backward` and `zero_grad`."""
        for name in self.switch.active:
            if isinstance(self.peft_config[name], AdaLoraConfig):
                self.allocators.setdefault(name, RankAllocator(self, name)).step(global_step)

    def use_fused(self, compute: Compute | None) -> None:
        """Compute LoRA on dense linear layers as one operation, in a format of choice (see `fused`).

        None computes as PEFT does, bit by bit, which is how a model starts.
        """
        self.switch.fused = None if compute is None else SharedInputs(compute)

    def rescale(self, name: str, factor: float) -> None:
        """Multiply an adapter's scaling."""
        for layer in self.layers.values():
            if (own := layer.adapters.get(name)) is not None:
                layer.adapters[name] = replace(own, scaling=own.scaling * factor)

    # Merging ----------------------------------------------------------------------------------------------

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
        was = self.switch.enabled
        merged = {path: layer.merged_adapters for path, layer in self.layers.items()}
        self.disable_adapter_layers()
        try:
            yield
        finally:
            self._enable(enabled=was)
            for path, names in merged.items():
                if (layer := self.layers.get(path)) is not None:
                    layer.merge(adapter_names=names)

    def merge_adapter(self, adapter_names: Sequence[str] | None = None, safe_merge: bool = True) -> None:
        """Put adapters, by default the active ones, into the base weights, beside those that are there already.

        The originals are kept.
        Raises: AdapterError when, with `safe_merge`, a merged weight is not finite; nothing is changed then.
        """
        merge_layers(self.layers, self._chosen(adapter_names), check=safe_merge)

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
        names = self._chosen(adapter_names)
        model = merge_into_base(self.model, self.layers, names, check=safe_merge)
        self._take_saved(names)
        return model

    def unload(self) -> nn.Module:
        """Return the base model without adapters, its weights as they were."""
        model = restore_base(self.model, self.layers)
        self._take_saved(())
        return model

    # Inside -----------------------------------------------------------------------------------------------

    def _take_saved(self, names: Sequence[str]) -> None:
        for path, module in self.saved.items():
            kept = [name for name in names if name in module.modules_to_save]
            put_at(self.model, path, module.modules_to_save[kept[-1]] if kept else module.original_module)
        self.saved.clear()
        self.layers.clear()

    def _check_beside_others(self, found: Plan) -> None:
        for other in self.peft_config.values():
            if getattr(found.config, "layer_replication", None) != getattr(other, "layer_replication", None):
                raise AdapterError("layer_replication changes the model for all adapters; give each the same")
        if found.biases and (owner := next((n for n, p in self.plans.items() if p.biases), None)) is not None:
            raise AdapterError(
                f"adapter {owner!r} trains biases of the base model already, which are there once; write bias='none'"
            )

    def _train(self, names: Sequence[str], *, trainable: bool) -> None:
        for name in names:
            for parameter in self.adapter_parameters(name):
                if parameter.requires_grad is not trainable:
                    parameter.requires_grad_(trainable)
            (self._trained.add if trainable else self._trained.discard)(name)

    def _enable(self, *, enabled: bool) -> None:
        self.switch.enabled = enabled
        for layer in self.layers.values():
            layer.switch.enabled = enabled
        self._settle_base()

    def _together(self) -> None:
        """Let all layers look at one switch again, after some were told something for themselves."""
        if self.switch.apart:
            self._train(list(self.plans), trainable=False)
            for layer in self.layers.values():
                layer.switch = self.switch
            self.switch.apart = False

    def _chosen(self, adapter_names: Sequence[str] | None) -> list[str]:
        """Return the names of what to merge."""
        if adapter_names is None and self.switch.apart:
            raise AdapterError(
                "some layers have active adapters of their own; name the adapters to merge, or call set_adapter first"
            )
        wanted = [adapter_names] if isinstance(adapter_names, str) else adapter_names
        names = self._known(self.active_adapters if wanted is None else wanted)
        self._check_together([*self.merged_adapters, *names])
        self._check_moved([*self.merged_adapters, *names], merging=True)
        return names

    def moved_base(self) -> list[str]:
        """Return the adapters whose start took a part of the base weights, which compute only beside what is left."""
        return [name for name, config in self.peft_config.items() if moves_base(config)]

    def _settle_base(self) -> None:
        """Compute with the original weights unless the adapters that took a part of them are active."""
        if moved := self.moved_base():
            original = not self.switch.enabled or not set(moved) & set(self.switch.active)
            for layer in self.layers.values():
                layer.use_original(original)

    def _check_moved(self, names: Sequence[str], *, merging: bool) -> None:
        """Check that adapters that took a part of the base weights act together, and are merged while they act."""
        moved = self.moved_base()
        chosen = [name for name in names if name in moved]
        if chosen and len(chosen) < len(moved):
            raise AdapterError(
                f"adapters {', '.join(moved)} each took a part of the base weights at their start; activate all or none"
            )
        active = [name for name in self.switch.active if name in moved]
        if (merging or self.merged_adapters) and bool(chosen) != bool(active):
            raise AdapterError(
                f"adapter {moved[0]!r} took a part of the base weights at its start; call unmerge_adapter, and "
                "activate with set_adapter what is to be merged"
            )

    def _check_together(self, names: Sequence[str]) -> None:
        """Check that no two adapters replace the same module or the same rows of an embedding."""
        for module in self.saved.values():
            module.chosen(dict.fromkeys(names))
        owners: dict[tuple[str, int], str] = {}
        for name in names:
            found = self.plans[name]
            for slot in found.tokens or found.slots[:1]:
                rows = slot.adapter.config.token_indices if slot.adapter.variant == "tokens" else ()
                for row in rows:
                    if (other := owners.setdefault((slot.key, row), name)) != name:
                        raise AdapterError(
                            f"adapters {other}, {name} each replace row {row} of the same embedding; take one of them"
                        )

    def _known(self, names: Sequence[str]) -> list[str]:
        if unknown := [name for name in names if name not in self.plans]:
            raise AdapterError(f"no adapter {unknown[0]!r}; there are: {', '.join(self.plans) or 'none'}")
        return list(names)
