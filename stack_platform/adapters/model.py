"""A model with adapters, under PEFT's names.

The layout of modules is PEFT's too: `PeftModel.base_model` holds the adapters' index and its `.model` is the
base model, so parameters are named `base_model.model.<path>.lora_A.<adapter>.weight`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from stack_platform.adapters.configs.fields import PeftConfig
from stack_platform.adapters.inject import Placement
from stack_platform.adapters.layer import AdaptedLayer
from stack_platform.adapters.lifecycle import AdaptedModel
from stack_platform.adapters.mixing.active import Choice
from stack_platform.adapters.mixing.routing import Rows
from stack_platform.adapters.prepare import Prepared, prepare
from stack_platform.adapters.prompts.encoders import (
    PROMPT_KEY,
    SoftPrompt,
    build_encoder,
    computed,
    head_key,
)
from stack_platform.adapters.prompts.forward import forward_with_prompt
from stack_platform.adapters.prompts.generation import generate_with_prompt
from stack_platform.adapters.replication import replicate_layers
from stack_platform.adapters.saving.card import CARD_NAME, model_card, updated_card
from stack_platform.adapters.saving.contents import saved_contents
from stack_platform.adapters.saving.export import servable
from stack_platform.adapters.saving.files import read_config, write_adapter
from stack_platform.adapters.saving.hub import push_folder
from stack_platform.adapters.saving.state import gathered
from stack_platform.adapters.saving.whole_state import WholeState
from stack_platform.adapters.status import Reports
from stack_platform.errors import AdapterError

DEFAULT_ADAPTER = "default"


class PeftModel(Reports, WholeState):
    """A base model and its named adapters; attributes of the base model are reached through this one."""

    base_model: AdaptedModel

    def __init__(
        self,
        model: nn.Module,
        peft_config: PeftConfig,
        adapter_name: str = DEFAULT_ADAPTER,
        autocast_adapter_dtype: bool = True,
        low_cpu_mem_usage: bool = False,
        *,
        folder: str | Path | None = None,
        hub: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        modules = list(model.modules())
        if any(isinstance(module, AdaptedLayer) for module in modules):
            raise AdapterError("the model carries adapters already; use add_adapter, or call unload first")
        replication = getattr(peft_config, "layer_replication", None)
        undo = replicate_layers(model, replication) if replication else None
        try:
            new = prepare(model, adapter_name, peft_config, folder, hub)  # whatever does not fit raises here
        except BaseException:
            if undo is not None:
                undo()
            raise
        self.base_model = AdaptedModel(model)
        self.prompt_encoder = nn.ModuleDict()
        self._add(adapter_name, new, Placement(autocast_adapter_dtype, low_cpu_mem_usage))
        self.set_adapter(adapter_name, inference_mode=new.config.inference_mode)
        if any(vars(module).get("gradient_checkpointing") for module in modules):
            self._let_inputs_require_grad()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the base model with its adapters; `adapter_names` gives each row of the batch its own."""
        with self._routed(kwargs):
            if (prompt := self._prompt()) is not None:
                return forward_with_prompt(*prompt, self.get_base_model(), args, kwargs, self.base_model)
            return self.base_model(*args, **kwargs)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Generate with the base model and its adapters; `adapter_names` gives each row of the batch its own."""
        with self._routed(kwargs):
            if (prompt := self._prompt()) is not None:
                return generate_with_prompt(*prompt, self.get_base_model(), args, kwargs)
            return self.base_model.generate(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_model":  # not initialized yet; looking further would never end
                raise
            return getattr(self.base_model, name)

    # What trainers ask for ----------------------------------------------------------------------------------

    _hf_peft_config_loaded = True  # how transformers asks whether a quantized model has something to train

    # Adapters ---------------------------------------------------------------------------------------------

    @property
    def peft_config(self) -> dict[str, PeftConfig]:
        """Name to configuration of each adapter."""
        return self.base_model.peft_config

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
    def active_peft_config(self) -> PeftConfig:
        """Configuration of the active adapter."""
        return self.peft_config[self.active_adapter]

    def add_adapter(
        self,
        adapter_name: str,
        peft_config: PeftConfig,
        low_cpu_mem_usage: bool = False,
        autocast_adapter_dtype: bool = True,
    ) -> None:
        """Add a new adapter; `set_adapter` makes it the active one.

        With `low_cpu_mem_usage` its tensors are on the meta device, without values, until a state dict brings them.
        """
        new = prepare(self.get_base_model(), adapter_name, peft_config, None, None)
        self._add(adapter_name, new, Placement(autocast_adapter_dtype, low_cpu_mem_usage))

    def load_adapter(
        self,
        model_id: str | Path,
        adapter_name: str,
        is_trainable: bool = False,
        torch_device: object = None,
        autocast_adapter_dtype: bool = True,
        ephemeral_gpu_offload: bool = False,
        low_cpu_mem_usage: bool = False,
        **hub: Any,
    ) -> None:
        """Add the adapter saved in a folder or a hub repository; `set_adapter` makes it the active one.

        Unless `is_trainable` the model is in evaluation mode afterwards. Tensors go where their layer is, whatever
        `torch_device` and PEFT's other keywords of that kind say.
        Raises: AdapterError when the folder does not hold exactly the tensors its configuration asks for.
        """
        del torch_device, ephemeral_gpu_offload, low_cpu_mem_usage
        config = replace(read_config(model_id, **hub), inference_mode=not is_trainable)
        new = prepare(self.get_base_model(), adapter_name, config, model_id, hub)
        self._add(adapter_name, new, Placement(autocast_adapter_dtype))
        if not is_trainable:
            self.eval()

    def set_adapter(self, adapter_name: Choice, inference_mode: bool = False) -> None:
        """Make one adapter, or several, the active ones, and the only trainable ones unless `inference_mode`.

        A mapping gives each a weight, {"c": 0.7, "cpp": 0.3}, for forward and merge, until it is named here again.
        Raises: AdapterError for an unknown adapter, or another weight than 1 of what is not plain LoRA.
        """
        names = [adapter_name] if isinstance(adapter_name, str) else list(adapter_name)
        for name in names:
            self._known(name)
        prompts = [name for name in names if name in self.prompt_encoder]
        if len(prompts) > 1:
            raise AdapterError(f"adapters {', '.join(prompts)} each bring a prompt; activate one of them")
        self.base_model.set_adapter(adapter_name, inference_mode=inference_mode)
        for name, encoder in self.prompt_encoder.items():
            encoder.requires_grad_(name in names and not inference_mode)

    def delete_adapter(self, adapter_name: str) -> None:
        """Delete an adapter; when it was the active one, the first that is left becomes active.

        Raises: AdapterError when there is no such adapter or it is merged.
        """
        self._known(adapter_name)
        was_active = adapter_name in self.active_adapters
        self.base_model.delete_adapter(adapter_name)
        if adapter_name in self.prompt_encoder:
            del self.prompt_encoder[adapter_name]
        if was_active and self.peft_config and not self.active_adapters:
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
        ephemeral_gpu_offload: bool = False,
        low_cpu_mem_usage: bool = False,
        **hub: Any,
    ) -> "PeftModel":
        """Put the adapter saved in a folder or a hub repository on a model.

        Unless `is_trainable` it is frozen and the model in evaluation mode. Tensors go where their layer is,
        whatever `torch_device`, `device_map` and PEFT's other keywords of that kind say.
        Raises: AdapterError when the folder does not hold exactly the tensors its configuration asks for.
        """
        from stack_platform.adapters.tasks import class_for

        del ephemeral_gpu_offload
        loaded = replace(config or read_config(model_id, **hub), inference_mode=not is_trainable)
        kind = class_for(loaded) if cls is PeftModel else cls
        made = kind(
            model, loaded, adapter_name, autocast_adapter_dtype, low_cpu_mem_usage, folder=model_id, hub=hub
        )
        return made if is_trainable else made.eval()

    def save_pretrained(
        self,
        save_directory: str | Path,
        safe_serialization: bool = True,
        selected_adapters: list[str] | None = None,
        save_embedding_layers: str | bool = "auto",
        is_main_process: bool = True,
        path_initial_model_for_weight_conversion: str | Path | None = None,
        state_dict: Mapping[str, Tensor] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        """Write each adapter in PEFT's layout: "default" into the folder, others into folders of their name.

        Atomic and byte-reproducible, see `files`. Only the main process writes. `state_dict` gives the values where
        they are gathered from several processes; `provenance` adds a side file with it and with checksums. The folder
        of an adapter before training makes one of PiSSA or OLoRA one for the original base (see `conversion`).
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
            config, tensors = saved_contents(
                self, name, state_dict, save_embedding_layers, path_initial_model_for_weight_conversion
            )
            write_adapter(folder, config, tensors, provenance)

    def save_for_vllm(self, save_directory: str | Path, adapter_name: str = DEFAULT_ADAPTER) -> None:
        """Write a LoRA adapter as vLLM serves it: one rank, scaling 1 (see `export`, also for saved adapters).

        Raises: AdapterError when it is more than LoRA, naming what stands in the way; nothing is written then.
        """
        tensors = self.adapter_tensors(adapter_name)  # says so when there is no such adapter
        write_adapter(save_directory, *servable(self.peft_config[adapter_name], tensors))

    def push_to_hub(
        self,
        repo_id: str,
        selected_adapters: list[str] | None = None,
        provenance: Mapping[str, Any] | None = None,
        **hub: Any,
    ) -> Any:
        """Upload the adapters as `save_pretrained` writes them; keywords are those of `hub.push_folder`."""
        save = partial(self.save_pretrained, selected_adapters=selected_adapters, provenance=provenance)
        return push_folder(save, repo_id, **hub)

    def create_or_update_model_card(self, output_dir: str | Path) -> None:
        """Write a folder's model card, or bring the front matter of the one that is there up to date."""
        path = Path(output_dir) / CARD_NAME
        config = next(iter(self.peft_config.values()))
        old = path.read_text(encoding="utf-8") if path.exists() else None
        card = model_card(config) if old is None else updated_card(old, config)
        path.write_text(card, encoding="utf-8")

    def adapter_tensors(
        self, adapter_name: str, state_dict: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Return the tensors of an adapter by their key in the file, with the values of `state_dict` where given.

        Raises: AdapterError when `state_dict`, which has the names of `state_dict()`, lacks one of them.
        """
        self._known(adapter_name)
        value = gathered(self, state_dict)
        tensors = {key: value(t) for key, t in self.base_model.adapter_tensors(adapter_name).items()}
        if adapter_name not in self.prompt_encoder:
            return tensors
        encoder: Any = self.prompt_encoder[adapter_name]
        prompt = computed(encoder, {name: value(p) for name, p in encoder.named_parameters()})
        return {PROMPT_KEY: prompt, **{head_key(key): tensor for key, tensor in tensors.items()}}

    # Training ---------------------------------------------------------------------------------------------

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

    # Inside -----------------------------------------------------------------------------------------------

    def _let_inputs_require_grad(self) -> None:
        base = self.get_base_model()
        enable = getattr(base, "enable_input_require_grads", None)
        if callable(enable) and not getattr(base, "_require_grads_hooks", None):  # a second call adds hooks
            enable()

    def _add(self, name: str, new: Prepared, placement: Placement) -> None:
        if name in self.peft_config:
            raise AdapterError(
                f"adapter {name!r} is there already; delete_adapter it, or choose another name"
            )
        self.base_model.add_adapter(name, new.plan, new.tensors, new.rest, placement)
        if new.prompt is not None:
            words = self.get_base_model().get_input_embeddings()  # type: ignore[operator]
            encoder = build_encoder(new.prompt, words, (new.rest or {}).get(PROMPT_KEY))
            self.prompt_encoder[name] = encoder.to(next(words.parameters()).device).requires_grad_(False)

    def _prompt(self) -> tuple[Any, SoftPrompt] | None:
        if not self.base_model.switch.enabled:
            return None
        for name in self.active_adapters:
            if name in self.prompt_encoder:
                return self.peft_config[name], self.prompt_encoder[name]  # type: ignore[return-value]
        return None

    @contextmanager
    def _routed(self, kwargs: dict[str, Any]) -> Iterator[None]:
        names = kwargs.pop("adapter_names", None)
        if names is None:
            yield
            return
        if self.base_model.merged_adapters:
            raise AdapterError("adapter_names needs unmerged weights; call unmerge_adapter first")
        if moved := self.base_model.moved_base():
            raise AdapterError(
                f"adapter_names: {moved[0]!r} took a part of the base weights, which are there once for all rows; save "
                "it with path_initial_model_for_weight_conversion and load that"
            )
        rows = Rows.of(names, next(self.get_base_model().parameters()).device)
        for name in rows.where:
            self._known(name)
        self.base_model.switch.rows = rows
        try:
            yield
        finally:
            self.base_model.switch.rows = None

    def _known(self, name: str) -> None:
        if name not in self.peft_config:
            there = ", ".join(self.peft_config) or "none"
            raise AdapterError(f"no adapter {name!r}; there are: {there}")
