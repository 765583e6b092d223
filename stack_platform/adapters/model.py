"""A model with adapters, under PEFT's names.

The layout of modules is PEFT's too: `PeftModel.base_model` holds the adapters' index and its `.model` is the
base model, so parameters are named `base_model.model.<path>.lora_A.<adapter>.weight`.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from stack_platform.adapters.config import LoraConfig, PeftConfig, TaskType
from stack_platform.adapters.files import read_adapter, read_config, write_adapter
from stack_platform.adapters.inject import AdapterTensors, adapter_shapes, resolve
from stack_platform.adapters.layer import AdaptedLayer
from stack_platform.adapters.lifecycle import AdaptedModel
from stack_platform.adapters.targets import Target
from stack_platform.errors import AdapterError

DEFAULT_ADAPTER = "default"


def get_peft_model(
    model: nn.Module,
    peft_config: PeftConfig,
    adapter_name: str = DEFAULT_ADAPTER,
    autocast_adapter_dtype: bool = True,
) -> "PeftModel":
    """Freeze a model, put a new adapter on it in place, and return it ready to train.

    With `autocast_adapter_dtype` the adapter is kept in fp32 beside a half-precision model.
    Raises: AdapterError when the configuration does not fit the model, which is unchanged then.
    """
    kind = PeftModelForCausalLM if peft_config.task_type is TaskType.CAUSAL_LM else PeftModel
    return kind(model, peft_config, adapter_name, autocast_adapter_dtype)


class PeftModel(nn.Module):
    """A base model and its named adapters; attributes of the base model are reached through this one."""

    base_model: AdaptedModel

    def __init__(
        self,
        model: nn.Module,
        peft_config: PeftConfig,
        adapter_name: str = DEFAULT_ADAPTER,
        autocast_adapter_dtype: bool = True,
        *,
        folder: str | Path | None = None,
    ) -> None:
        super().__init__()
        if any(isinstance(module, AdaptedLayer) for module in model.modules()):
            raise AdapterError("the model carries adapters already; use add_adapter, or call unload first")
        new = _prepare(model, adapter_name, peft_config, folder)  # whatever does not fit raises here
        self.peft_config: dict[str, LoraConfig] = {}
        self.base_model = AdaptedModel(model)
        self._add(adapter_name, new, autocast_adapter_dtype)
        self.set_adapter(adapter_name, inference_mode=new.config.inference_mode)
        if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
            self._let_inputs_require_grad()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the base model with its adapters."""
        return self.base_model(*args, **kwargs)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Generate with the base model and its adapters."""
        return self.get_base_model().generate(*args, **kwargs)  # type: ignore[operator]

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_model":  # not initialized yet; looking further would never end
                raise
            return getattr(self.base_model, name)

    # Adapters ---------------------------------------------------------------------------------------------

    @property
    def active_adapters(self) -> list[str]:
        """Names of the adapters that change the output."""
        return self.base_model.active_adapters

    @property
    def active_adapter(self) -> str:
        """Name of the active adapter.

        Raises: AdapterError when none is active, as after its deletion.
        """
        if not self.active_adapters:
            raise AdapterError("no adapter is active; call set_adapter with a name")
        return self.active_adapters[0]

    @property
    def active_peft_config(self) -> LoraConfig:
        """Configuration of the active adapter."""
        return self.peft_config[self.active_adapter]

    def add_adapter(
        self, adapter_name: str, peft_config: PeftConfig, autocast_adapter_dtype: bool = True
    ) -> None:
        """Add a new adapter; `set_adapter` makes it the active one."""
        new = _prepare(self.get_base_model(), adapter_name, peft_config, None)
        self._add(adapter_name, new, autocast_adapter_dtype)

    def load_adapter(
        self,
        model_id: str | Path,
        adapter_name: str,
        is_trainable: bool = False,
        autocast_adapter_dtype: bool = True,
    ) -> None:
        """Add the adapter saved in a folder; `set_adapter` makes it the active one.

        Raises: AdapterError when the folder does not hold exactly the tensors its configuration asks for.
        """
        config = replace(read_config(model_id), inference_mode=not is_trainable)
        new = _prepare(self.get_base_model(), adapter_name, config, model_id)
        self._add(adapter_name, new, autocast_adapter_dtype)

    def set_adapter(self, adapter_name: str, inference_mode: bool = False) -> None:
        """Make one adapter the active one, and the only trainable one unless `inference_mode`."""
        self._known(adapter_name)
        self.base_model.set_adapter(adapter_name, inference_mode=inference_mode)

    def delete_adapter(self, adapter_name: str) -> None:
        """Delete an adapter; when it was the active one, the first that is left becomes active.

        Raises: AdapterError when there is no such adapter or it is merged.
        """
        self._known(adapter_name)
        was_active = adapter_name in self.active_adapters
        self.base_model.delete_adapter(adapter_name)
        del self.peft_config[adapter_name]
        if was_active and self.peft_config:
            name, config = next(iter(self.peft_config.items()))
            self.set_adapter(name, inference_mode=config.inference_mode)

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Compute the base model's outputs inside the `with` block."""
        with self.base_model.disabled():
            yield

    def get_base_model(self) -> nn.Module:
        """Return the base model, which carries the adapters."""
        return self.base_model.model

    # Files ------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        model: nn.Module,
        model_id: str | Path,
        adapter_name: str = DEFAULT_ADAPTER,
        is_trainable: bool = False,
        config: PeftConfig | None = None,
        autocast_adapter_dtype: bool = True,
    ) -> "PeftModel":
        """Put the adapter saved in a folder on a model, frozen unless `is_trainable`.

        Raises: AdapterError when the folder does not hold exactly the tensors its configuration asks for.
        """
        loaded = replace(config or read_config(model_id), inference_mode=not is_trainable)
        causal = loaded.task_type is TaskType.CAUSAL_LM and cls is PeftModel
        kind = PeftModelForCausalLM if causal else cls
        return kind(model, loaded, adapter_name, autocast_adapter_dtype, folder=model_id)

    def save_pretrained(
        self,
        save_directory: str | Path,
        safe_serialization: bool = True,
        selected_adapters: list[str] | None = None,
        is_main_process: bool = True,
    ) -> None:
        """Write each adapter in PEFT's layout: "default" into the folder, others into folders of their name.

        Atomic and byte-reproducible, see `files`. Only the main process writes.
        Raises: AdapterError for an unknown adapter or `safe_serialization=False` (pickle).
        """
        if not safe_serialization:
            raise AdapterError(
                "safe_serialization=False writes pickle, which runs code on load; leave it out"
            )
        names = list(self.peft_config) if selected_adapters is None else selected_adapters
        for name in names:
            self._known(name)
        for name in names if is_main_process else ():
            folder = Path(save_directory) / ("" if name == DEFAULT_ADAPTER else name)
            write_adapter(folder, self._saved_config(name), self.adapter_tensors(name))

    def adapter_tensors(self, adapter_name: str) -> dict[str, dict[str, Tensor]]:
        """Return the tensors of an adapter: module path to tensor name to parameter."""
        self._known(adapter_name)
        layers = self.base_model.layers
        return {
            p: layer.tensors(adapter_name) for p, layer in layers.items() if adapter_name in layer.adapters
        }

    # Training ---------------------------------------------------------------------------------------------

    def get_nb_trainable_parameters(self) -> tuple[int, int]:
        """Return the number of trainable parameters and of all parameters."""
        sizes = [(p.numel(), p.requires_grad) for p in self.parameters()]
        return sum(size for size, trainable in sizes if trainable), sum(size for size, _ in sizes)

    def print_trainable_parameters(self) -> None:
        """Print both numbers and their ratio, in PEFT's words."""
        trainable, total = self.get_nb_trainable_parameters()
        percent = 100 * trainable / total
        print(f"trainable params: {trainable:,d} || all params: {total:,d} || trainable%: {percent:.4f}")

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: dict[str, Any] | None = None
    ) -> None:
        """Recompute activations in the backward pass, and let the base model's inputs require gradients.

        With every base parameter frozen, reentrant checkpointing would find nothing to differentiate.
        """
        base = self.get_base_model()
        enable = getattr(base, "activation_checkpointing_enable", None)  # its name from transformers 5.23
        if callable(enable):
            enable(activation_checkpointing_kwargs=gradient_checkpointing_kwargs)
        else:
            old_enable = base.gradient_checkpointing_enable
            old_enable(gradient_checkpointing_kwargs=gradient_checkpointing_kwargs)  # type: ignore[operator]
        self._let_inputs_require_grad()

    def _let_inputs_require_grad(self) -> None:
        base = self.get_base_model()
        enable = getattr(base, "enable_input_require_grads", None)
        if callable(enable) and not getattr(base, "_require_grads_hooks", None):  # a second call adds hooks
            enable()

    def _add(self, name: str, new: "_Prepared", full_precision: bool) -> None:
        if name in self.peft_config:
            raise AdapterError(
                f"adapter {name!r} is there already; delete_adapter it, or choose another name"
            )
        self.base_model.add_adapter(name, new.config, new.targets, new.tensors, full_precision=full_precision)
        self.peft_config[name] = new.config

    def _saved_config(self, name: str) -> LoraConfig:
        config = replace(self.peft_config[name], inference_mode=True)
        if config.task_type is not None:
            return config
        base = type(self.get_base_model())
        mapping = {"base_model_class": base.__name__, "parent_library": base.__module__}
        return replace(config, auto_mapping=mapping)

    def _known(self, name: str) -> None:
        if name not in self.peft_config:
            there = ", ".join(self.peft_config) or "none"
            raise AdapterError(f"no adapter {name!r}; there are: {there}")


class PeftModelForCausalLM(PeftModel):
    """A language model with adapters; its `forward` names the inputs, which trainers ask for."""

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call the language model with its adapters."""
        return self.base_model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            labels=labels,
            **kwargs,
        )


@dataclass(frozen=True, slots=True)
class _Prepared:
    """An adapter that was checked against its model and, where saved, read; nothing was changed yet."""

    config: LoraConfig
    targets: tuple[Target, ...]
    tensors: AdapterTensors | None


def _prepare(model: nn.Module, name: str, config: PeftConfig, folder: str | Path | None) -> _Prepared:
    if not isinstance(config, LoraConfig):
        raise AdapterError(
            f"a {type(config).__name__} of {type(config).__module__} is no LoraConfig; "
            "import LoraConfig from stack_platform.adapters"
        )
    if not re.fullmatch(r"\w[\w-]*", name):
        raise AdapterError(f"adapter name {name!r}; use letters, digits, '_' and '-': it names a folder")
    resolved, targets = resolve(model, config)
    if resolved.base_model_name_or_path is None:
        resolved = replace(resolved, base_model_name_or_path=getattr(model, "name_or_path", None) or None)
    tensors = None if folder is None else read_adapter(folder, adapter_shapes(model, resolved, targets))
    return _Prepared(resolved, targets, tensors)
