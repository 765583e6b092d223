"""Check an adapter against its model and, where it is saved, read it; nothing is changed yet."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from stack_platform.adapters.configs.fields import PeftConfig
from stack_platform.adapters.configs.prompts import PromptLearningConfig
from stack_platform.adapters.inject import AdapterTensors
from stack_platform.adapters.plan import PREFIX, Plan, file_shapes, plan, saved_only, sorted_tensors
from stack_platform.adapters.prompts.encoders import PROMPT_KEY, check_trainable, head_key, prompt_shape
from stack_platform.adapters.prompts.sizes import complete
from stack_platform.adapters.saving.embeddings import check_embeddings, embedding_keys
from stack_platform.adapters.saving.files import WEIGHTS_NAME, check_tensors, read_file, read_tensors
from stack_platform.adapters.saving.hub import local_folder
from stack_platform.adapters.variants.table import METHODS
from stack_platform.errors import AdapterError

# A name that these have as an attribute could not name a parameter in them.
_TAKEN = {*dir(nn.ModuleDict), *dir(nn.ParameterDict)}


@dataclass(frozen=True, slots=True)
class Prepared:
    """An adapter that fits its model."""

    plan: Plan
    """What it puts on the model."""
    tensors: AdapterTensors | None = None
    """Tensors of its file by slot and name; None starts anew."""
    rest: Mapping[str, Tensor] | None = None
    """Other tensors of its file by key."""
    prompt: PromptLearningConfig | None = None
    """Its configuration, where it puts virtual tokens before the input."""

    @property
    def config(self) -> PeftConfig:
        """The configuration as it will be saved."""
        return self.plan.config


def check_name(name: str) -> None:
    """Check that a name can name an adapter.

    Raises: AdapterError when it cannot.
    """
    if not re.fullmatch(r"\w[\w-]*", name) or name in _TAKEN:
        raise AdapterError(
            f"adapter name {name!r}; use letters, digits, '_' and '-', and no method of a dictionary, as 'keys': it "
            "names a folder and parameters"
        )


def prepare(
    model: nn.Module, name: str, config: PeftConfig, folder: str | Path | None, hub: Mapping[str, Any] | None
) -> Prepared:
    """Check a name and a configuration against a model, and read the tensors from a folder where one is given.

    Raises: AdapterError when something does not fit; the model is unchanged.
    """
    if not isinstance(config, PeftConfig):
        raise AdapterError(
            f"a {type(config).__name__} of {type(config).__module__} is no configuration of this package; "
            f"import {type(config).__name__} from stack_platform.adapters"
        )
    check_name(name)
    base = config.base_model_name_or_path or getattr(model, "name_or_path", None) or None
    config = replace(config, base_model_name_or_path=base)  # a copy of our own, with its fields checked again
    if isinstance(config, PromptLearningConfig):
        return _prepare_prompt(model, config, folder, hub)
    if str(config.peft_type) not in METHODS:
        raise AdapterError(
            f"peft_type={str(config.peft_type)!r} mixes adapters of a model of its own; make that with get_peft_model"
        )
    found = plan(model, config)
    if folder is None:
        return Prepared(found)
    optional = [f"{PREFIX}{path}.base_layer.weight" for path in found.embeddings]
    place, shapes = local_folder(folder, **(hub or {})), file_shapes(model, found)
    flat = read_file(place)
    if flat.keys() - shapes.keys():
        optional += embedding_keys(model, found.saved)
        check_embeddings(model, found, flat)
    check_tensors(str(place / WEIGHTS_NAME), flat, shapes, optional)
    tensors, rest = sorted_tensors(found, flat)
    return Prepared(found, tensors, rest)


def _prepare_prompt(
    model: nn.Module, config: PromptLearningConfig, folder: str | Path | None, hub: Mapping[str, Any] | None
) -> Prepared:
    if not hasattr(model, "config") or not hasattr(model, "get_input_embeddings"):
        raise AdapterError(
            f"a {type(model).__name__} has no input embeddings; virtual tokens need a transformers model"
        )
    completed = complete(config, model)
    found = saved_only(model, completed)
    if folder is None:
        return Prepared(found, prompt=completed)
    if not config.inference_mode:
        check_trainable(config)
    heads = {head_key(key): (key, shape) for key, shape in file_shapes(model, found).items()}
    shapes = {PROMPT_KEY: prompt_shape(completed)} | {key: shape for key, (_, shape) in heads.items()}
    flat = read_tensors(folder, shapes, **(hub or {}))
    rest = {heads[key][0] if key in heads else key: tensor for key, tensor in flat.items()}
    return Prepared(found, None, rest, completed)
