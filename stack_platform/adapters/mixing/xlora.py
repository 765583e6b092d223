"""X-LoRA (Buehler and Buehler 2024): a classifier weighs frozen LoRA adapters anew for every token.

Each call takes two passes: one without the adapters, whose last hidden states the classifier reads, and one in which
every adapter's update is multiplied by its weight for the token (by `layerwise_scalings` also for the layer). Both see
the whole sequence, so there is no cache of keys and values. PEFT 0.21.2 saves a file without the classifier, because it
takes `layers.0` for a tensor of the adapter "0".

Shapes: hidden states [B, T, H]; weights [B, T, layers or 1, adapters].
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stack_platform.adapters.configs.fields import PeftConfig
from stack_platform.adapters.configs.prompts import XLoraConfig
from stack_platform.adapters.model import DEFAULT_ADAPTER, PeftModel
from stack_platform.adapters.saving.files import read_config, read_tensors, write_adapter
from stack_platform.errors import AdapterError

_KEY = "base_model.internal_xlora_classifier."


class XLoraClassifier(nn.Module):
    """The network from hidden states to weights."""

    def __init__(self, config: XLoraConfig, adapters: int, layers: int) -> None:
        super().__init__()
        self.config = config
        self.outputs = (layers if config.layerwise_scalings else 1, adapters)
        widths = [int(config.hidden_size or 0), *[config.xlora_size] * (config.xlora_depth - 1)]
        modules: list[nn.Module] = []
        for inputs, out in pairwise(widths):
            modules += [nn.Linear(inputs, out), nn.ReLU()]
            modules += [nn.Dropout(config.xlora_dropout_p)] if config.xlora_dropout_p > 0 else []
        self.layers = nn.Sequential(*modules, nn.Linear(widths[-1], self.outputs[0] * self.outputs[1]))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the weights [B, T, layers or 1, adapters]."""
        config = self.config
        weights: Tensor = self.layers(hidden.to(next(self.parameters()).dtype)).unflatten(-1, self.outputs)
        if config.enable_softmax:
            weights = torch.softmax(weights / config.softmax_temperature, dim=-1)
        if config.top_k_lora is not None:
            kept = torch.topk(weights, min(config.top_k_lora, weights.shape[-1]), dim=-1).indices
            weights = weights * torch.zeros_like(weights).scatter(-1, kept, 1.0)
        if config.enable_softmax_topk:
            used = weights != 0
            weights = torch.softmax(weights.masked_fill(~used, -torch.inf), dim=-1).masked_fill(~used, 0.0)
        return weights * config.global_scaling_weight


class PeftModelForXLora(PeftModel):
    """A language model, the adapters that are mixed, and the classifier that mixes them."""

    def __init__(
        self,
        model: nn.Module,
        peft_config: PeftConfig,
        adapter_name: str = DEFAULT_ADAPTER,  # noqa: ARG002 - the adapters have names of their own
        autocast_adapter_dtype: bool = True,
        low_cpu_mem_usage: bool = False,
        *,
        folder: str | Path | None = None,
        hub: Mapping[str, Any] | None = None,
    ) -> None:
        assert isinstance(peft_config, XLoraConfig)
        config = _completed(peft_config, model)
        (first, path), *others = (config.adapters or {}).items()
        trains = config.use_trainable_adapters
        lora = replace(read_config(path), inference_mode=not trains)
        super().__init__(model, lora, first, autocast_adapter_dtype, low_cpu_mem_usage, folder=path)
        for name, place in others:
            self.load_adapter(place, name, is_trainable=trains, autocast_adapter_dtype=autocast_adapter_dtype)
        self.set_adapter(list(config.adapters or {}), inference_mode=not trains)
        self.xlora_config = config
        self.latest_scalings: Tensor | None = None
        self.passing = False
        self.get_base_model().register_forward_pre_hook(self._weigh, with_kwargs=True)
        like = next(model.parameters())
        classifier = XLoraClassifier(config, 1 + len(others), len(self.base_model.layers)).to(
            like.device, like.dtype
        )
        self.base_model.internal_xlora_classifier = classifier.requires_grad_(not config.inference_mode)
        if folder is not None:
            shapes = {f"{_KEY}{name}": tuple(t.shape) for name, t in classifier.state_dict().items()}
            found = read_tensors(folder, shapes, **(hub or {}))
            classifier.load_state_dict({key.removeprefix(_KEY): tensor for key, tensor in found.items()})

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Generate without a cache, every token with weights of its own."""
        return super().generate(*args, **(kwargs | {"use_cache": False}))

    def _weigh(self, base: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Before each call of the base model: make a pass without adapters, and set the weights for the call itself.

        They stay set afterwards, because checkpointing computes layers again in the backward pass.
        """
        switch = self.base_model.switch
        if self.passing or not switch.enabled:
            return None
        inputs = args[0] if args else kwargs.get("input_ids")
        inputs = kwargs.get("inputs_embeds") if inputs is None else inputs
        if inputs is None:
            raise AdapterError(
                "neither input_ids nor inputs_embeds is given; X-LoRA weighs the adapters by the input"
            )
        if kwargs.get("past_key_values") is not None and kwargs["past_key_values"].get_seq_length():
            raise AdapterError("X-LoRA sees the whole sequence in each call; write use_cache=False")
        names = list(self.xlora_config.adapters or {})
        value = self.xlora_config.scaling_pass_value
        constant = torch.full(inputs.shape[:2], value, device=inputs.device, dtype=torch.float32)
        kwargs = kwargs | {"use_cache": False}
        self.passing = True
        try:
            with torch.no_grad():
                switch.gates = dict.fromkeys(names, constant)
                plain = kwargs | {"output_hidden_states": True, "return_dict": True, "labels": None}
                hidden = base(*args, **plain).hidden_states[-1]
        finally:
            self.passing = False
        self.latest_scalings = weights = self.base_model.internal_xlora_classifier(hidden)
        each = weights.expand(-1, -1, len(self.base_model.layers), -1)
        switch.gates = {name: each[..., number] for number, name in enumerate(names)}
        return args, kwargs

    def get_latest_scalings(self) -> Tensor | None:
        """Return the weights of the last call."""
        return self.latest_scalings

    def save_pretrained(self, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:
        """Write the classifier and the configuration; the adapters stay where they are."""
        del args
        if not kwargs.pop("is_main_process", True):
            return
        tensors = self._classifier_tensors(kwargs.get("state_dict"))
        saved = replace(self.xlora_config, inference_mode=True)
        write_adapter(save_directory, saved, tensors, kwargs.get("provenance"))

    def adapter_tensors(
        self, adapter_name: str, state_dict: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Return the tensors of one of the mixed adapters, or under the default name those of the classifier."""
        if adapter_name in self.peft_config or adapter_name != DEFAULT_ADAPTER:
            return super().adapter_tensors(adapter_name, state_dict)
        return self._classifier_tensors(state_dict)

    def _classifier_tensors(self, state_dict: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        state = self.base_model.internal_xlora_classifier.state_dict()
        if state_dict is not None:
            state = {name: state_dict[f"{_KEY}{name}"] for name in state}
        return {f"{_KEY}{name}": tensor for name, tensor in state.items()}


def _completed(config: XLoraConfig, model: nn.Module) -> XLoraConfig:
    if not config.adapters:
        raise AdapterError("adapters is empty; name the folders of the LoRA adapters to mix, {name: folder}")
    size = config.hidden_size or getattr(getattr(model, "config", None), "hidden_size", None)
    if size is None:
        raise AdapterError("the model's configuration does not tell hidden_size; write it into the adapter's")
    name = config.base_model_name_or_path or getattr(model, "name_or_path", None) or None
    return replace(config, hidden_size=size, base_model_name_or_path=name)
