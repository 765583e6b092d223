"""An adapter in the form that vLLM serves: LoRA of one rank, at scaling 1, and nothing beside it.

vLLM reads PEFT's layout. Its older releases take one rank and one alpha for all layers and pass over `rank_pattern`
and `alpha_pattern`, which is silently another adapter (0.10.2's loader: an update off by 1.7 times its size), and
refuse the weights that PEFT saves beside an adapted output head; release 0.33 knows them. Here scalings go into B and
smaller ranks are filled up with zeros: both loaders get what merging adds, to 3e-7. PEFT reads the same file.

Shapes: A [R, I] and B [O, R]; experts' A [X R, I] and B [O, R X], B's columns with the expert fastest.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stack_platform.adapters.configs.fields import PeftConfig, PeftType
from stack_platform.adapters.configs.lora import CHANGES_BASE, LoraConfig
from stack_platform.adapters.saving.files import read_config, read_file, write_adapter
from stack_platform.adapters.saving.hub import local_folder
from stack_platform.adapters.targets import by_pattern
from stack_platform.errors import AdapterError

MAX_RANK = 512
"""The largest `max_lora_rank` that vLLM 0.33 can be started with."""
_PREFIX = "base_model.model."
_PAIRS = {
    ".lora_A.weight": ".lora_B.weight",
    ".lora_embedding_A": ".lora_embedding_B",
}
_HEADS = ("classifier", "score")  # modules that vLLM takes in full
_EMBEDDINGS = (".embed_tokens.base_layer.weight", ".lm_head.base_layer.weight")
_REFUSED = ("use_dora", "lora_bias", "layer_replication", "trainable_token_indices")
_INSTEAD = "merge_and_unload it and serve the merged model"


@dataclass(frozen=True, slots=True)
class _Factors:
    """One update in a file."""

    keys: tuple[str, str]
    """Keys of A and B."""
    name: str
    """Path of the module or parameter that the patterns speak of."""
    A: Tensor
    B: Tensor


def export_for_vllm(source: str | Path, folder: str | Path, **hub: Any) -> None:
    """Rewrite a saved adapter, of a folder or a hub repository, into a folder that vLLM serves; no model is needed.

    Raises: AdapterError when it is more than LoRA, naming what stands in the way; nothing is written then.
    """
    place = local_folder(source, **hub)
    config, tensors = servable(read_config(place), read_file(place))
    write_adapter(folder, config, tensors)


def servable(config: PeftConfig, tensors: Mapping[str, Tensor]) -> tuple[LoraConfig, dict[str, Tensor]]:
    """Return configuration and file tensors of the same update at one rank and scaling 1.

    Weights of adapted embeddings that PEFT saves beside them are left out: vLLM has the base model's.
    Raises: AdapterError naming everything that vLLM does not take.
    """
    lora = _check(config)
    found, heads = _sorted(lora, tensors)
    ranks = by_pattern("rank_pattern", lora.rank_pattern or {}, [part.name for part in found])
    alphas = by_pattern("alpha_pattern", lora.alpha_pattern, [part.name for part in found])
    rank = int(max((ranks.get(part.name, lora.r) for part in found), default=lora.r))
    if rank > MAX_RANK:
        raise AdapterError(
            f"rank {rank} is above {MAX_RANK}, vLLM's largest; make a smaller one with "
            f"add_weighted_adapter([name], [1.0], 'small', 'svd', svd_rank={MAX_RANK}), or {_INSTEAD}"
        )
    flat = dict(heads)
    for part in found:
        own = int(ranks.get(part.name, lora.r))
        alpha = alphas.get(part.name, lora.lora_alpha)
        scaling = alpha / (math.sqrt(own) if lora.use_rslora else own)
        flat |= zip(part.keys, _scaled_and_filled(part, scaling, own, rank), strict=True)
    uniform = {"r": rank, "lora_alpha": rank, "rank_pattern": {}, "alpha_pattern": {}, "use_rslora": False}
    start: dict[str, Any] = {"init_lora_weights": True, "eva_config": None, "loftq_config": {}}
    targets = lora.target_modules
    if targets is None and not lora.target_parameters:
        targets = tuple(part.name for part in found)
    return replace(lora, **uniform, **start, target_modules=targets, inference_mode=True), flat  # type: ignore[arg-type]


def _check(config: PeftConfig) -> LoraConfig:
    if not isinstance(config, LoraConfig) or config.peft_type is not PeftType.LORA:
        raise AdapterError(f"vLLM takes LoRA adapters, and this is {config.peft_type}; {_INSTEAD}")
    problems = [f"{name}={value!r}" for name in _REFUSED if (value := getattr(config, name))]
    if config.bias != "none":
        problems.append(f"bias={config.bias!r}")
    if others := [name for name in config.modules_to_save or () if name not in _HEADS]:
        problems.append(f"modules_to_save={others!r}")
    start = config.init_lora_weights
    if isinstance(start, str) and start.partition("_")[0] in CHANGES_BASE:
        problems.append(
            f"init_lora_weights={start!r}, which changes the base model (see path_initial_model_for_weight_conversion)"
        )
    if problems:
        raise AdapterError(f"vLLM does not take {', '.join(problems)}; {_INSTEAD}")
    return config


def _sorted(config: LoraConfig, tensors: Mapping[str, Tensor]) -> tuple[list[_Factors], dict[str, Tensor]]:
    """Return the updates of a file, and what else of it vLLM takes."""
    left = {key: tensor for key, tensor in tensors.items() if not key.endswith(_EMBEDDINGS)}
    found: list[_Factors] = []
    for key in sorted(left):
        for end, other in _PAIRS.items():
            pair = key, key.removesuffix(end) + other
            if key.endswith(end) and pair[1] in left:
                path = key.removesuffix(end).removeprefix(_PREFIX)
                found.append(_Factors(pair, path, left.pop(pair[0]), left.pop(pair[1])))
    if strange := [key for key in left if not _is_head(key)]:
        raise AdapterError(f"vLLM has no place for {len(strange)} tensors ({strange[0]}, ...); {_INSTEAD}")
    if deep := [part for part in found if part.A.dim() != 2 or part.B.dim() != 2]:
        raise AdapterError(f"vLLM adapts no convolution, and {deep[0].name!r} is one; {_INSTEAD}")
    paths = {part.name for part in found}
    return [replace(part, name=_named(part.name, paths, config)) for part in found], left


def _named(path: str, paths: Iterable[str], config: LoraConfig) -> str:
    """Return the path that patterns speak of: for `target_parameters` that of the parameter.

    Of experts PEFT saves gate_up_proj as `experts.base_layer` and down_proj as `experts`, where both are adapted.
    """
    targets = config.target_parameters or ()
    if not targets:
        return path
    module = path.removesuffix(".base_layer")
    names = [target.rpartition(".")[2] for target in targets]
    possible = [name for name in names if any(f".{module}.{name}".endswith(f".{t}") for t in targets)]
    if not possible:
        return path
    if possible == ["weight"]:
        return f"{path}.weight"
    if sorted(possible) != ["down_proj", "gate_up_proj"] or not {module, f"{module}.base_layer"} <= {*paths}:
        raise AdapterError(
            f"vLLM takes gate_up_proj and down_proj of {module!r} together, and the adapter has "
            f"{' and '.join(sorted(set(possible)))}; {_INSTEAD}"
        )
    return f"{module}.{'down_proj' if path == module else 'gate_up_proj'}"


def _is_head(key: str) -> bool:
    *_, module, name = ("", *key.split("."))
    return module in _HEADS and name in ("weight", "bias")


def _scaled_and_filled(part: _Factors, scaling: float, own: int, rank: int) -> tuple[Tensor, Tensor]:
    """Return A with zero rows, and s B with zero columns, up to a rank; experts each have their own."""
    rows, columns = part.A.shape[0], part.B.shape[1]
    if rows % own or columns != rows:
        raise AdapterError(
            f"{part.keys[0]} has {rows} rows and B {columns} columns, which is not rank {own} of its configuration; "
            "export the folder that save_pretrained wrote"
        )
    experts = rows // own
    A = part.A.reshape(experts, own, part.A.shape[1])
    B = part.B.reshape(part.B.shape[0], own, experts)
    wide = torch.promote_types(B.dtype, torch.float32)
    B = (B.to(wide) * scaling).to(B.dtype)
    A = torch.cat([A, A.new_zeros(experts, rank - own, A.shape[2])], dim=1)
    B = torch.cat([B, B.new_zeros(B.shape[0], rank - own, experts)], dim=1)
    return A.flatten(0, 1), B.flatten(1)
