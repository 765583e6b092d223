"""What an adapter is, in PEFT's field names and defaults; free of torch.

`adapter_config.json` is the sorted JSON of these fields, so its key set is PEFT's (release 0.21.2). Fields of
methods this release lacks are in `ReservedFields`: they may be written and read, but only with a value that
changes nothing; any other value is refused by name, because ignoring it would compute something else than
what the file says. Collections are stored sorted, so one configuration has one byte sequence; PEFT keeps
`target_modules` in a set, whose order in the file depends on the hash seed.
"""

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, ClassVar, Self

from stack_platform.errors import AdapterError, ConfigError

CONFIG_NAME = "adapter_config.json"
ALL_LINEAR = "all-linear"
LAYOUT_VERSION = "0.21.2"  # the PEFT release whose layout the files follow


class TaskType(StrEnum):
    """What the model is trained to do; PEFT's names."""

    SEQ_CLS = "SEQ_CLS"
    SEQ_2_SEQ_LM = "SEQ_2_SEQ_LM"
    CAUSAL_LM = "CAUSAL_LM"
    TOKEN_CLS = "TOKEN_CLS"  # noqa: S105
    QUESTION_ANS = "QUESTION_ANS"
    FEATURE_EXTRACTION = "FEATURE_EXTRACTION"


# These tasks also train a new head in full, which needs modules_to_save.
_TASKS_WITH_A_HEAD = frozenset({TaskType.SEQ_CLS, TaskType.TOKEN_CLS, TaskType.QUESTION_ANS})


@dataclass(frozen=True, slots=True, kw_only=True)
class PeftConfig:
    """The fields every adapter method shares."""

    peft_type: str = "LORA"
    """Adapter method; key of `CONFIGS`."""
    task_type: TaskType | None = None
    """What the model is trained to do; a string is accepted."""
    auto_mapping: dict[str, str] | None = None
    """Class and module of the base model, written when `task_type` is absent; changes nothing."""
    peft_version: str | None = LAYOUT_VERSION
    """PEFT release whose layout the file follows; changes nothing."""
    base_model_name_or_path: str | None = None
    """Name of the base model; filled in from the model by `get_peft_model`."""
    revision: str | None = None
    """Revision of the base model; changes nothing here."""
    inference_mode: bool = False
    """True in every saved file: a loaded adapter is frozen unless `is_trainable` is asked for."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as PEFT writes them: enums as their text, tuples as lists."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: _plain(value) for name, value in values.items()}

    def to_json(self) -> bytes:
        """Return the content of `adapter_config.json`: keys sorted, two spaces, no final newline."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True).encode()

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write `adapter_config.json` into a folder, which is made when absent."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_NAME).write_bytes(self.to_json())

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "PeftConfig":
        """Read `adapter_config.json` from a folder; the class follows `peft_type`.

        Raises: AdapterError when the file is absent, is not JSON, or asks for what this release lacks.
        """
        path = Path(folder) / CONFIG_NAME
        try:
            content = path.read_bytes()
        except OSError as error:
            raise AdapterError(
                f"no {CONFIG_NAME} in {str(folder)!r} ({error.strerror}); "
                "give the folder that save_pretrained wrote"
            ) from error
        return parse_config(content, str(path))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservedFields(PeftConfig):
    """PEFT's LoRA fields for what this release lacks; only a value that changes nothing is accepted."""

    alora_invocation_tokens: None = None
    arrow_config: None = None
    bias: str = "none"
    corda_config: None = None
    ensure_weight_tying: bool = False
    eva_config: None = None
    kasa_config: None = None
    layer_replication: None = None
    loftq_config: dict[str, Any] = field(default_factory=dict)
    lora_bias: bool = False
    lora_ga_config: None = None
    megatron_config: None = None
    modules_to_save: None = None
    monteclora_config: None = None
    target_parameters: None = None
    trainable_token_indices: None = None
    use_bdlora: None = None
    use_dora: bool = False
    use_qalora: bool = False
    velora_config: None = None
    # Parameters of the methods above: without the method any value changes nothing.
    megatron_core: str = "megatron.core"
    qalora_group_size: int = 16


_INERT = frozenset({"megatron_core", "qalora_group_size", "runtime_config"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraConfig(ReservedFields):
    """Low-rank adaptation (Hu et al. 2021): the weight update is `scaling * B @ A` with rank `r`."""

    r: int = 8
    """Rank of the update; PEFT's default."""
    lora_alpha: float = 8
    """Numerator of the scaling: alpha / r, or alpha / sqrt(r) with `use_rslora`."""
    lora_dropout: float = 0.0
    """Probability that an input of A is zeroed in training; 0 is none."""
    target_modules: str | tuple[str, ...] | None = None
    """Suffixes of module paths, a regular expression for whole paths, "all-linear", or None: the query and
    value projections found in the model."""
    exclude_modules: str | tuple[str, ...] | None = None
    """Suffixes, or a regular expression for whole paths, of modules to leave alone."""
    layers_to_transform: int | tuple[int, ...] | None = None
    """Indices of the blocks to adapt, from 0; None is all. Only with a list of targets or "all-linear"."""
    layers_pattern: str | tuple[str, ...] | None = None
    """Name of the list of blocks (`layers`, `h`); None takes the first number in the path."""
    rank_pattern: dict[str, int] = field(default_factory=dict)
    """Rank by path suffix (regular expression) for modules that differ from `r`."""
    alpha_pattern: dict[str, float] = field(default_factory=dict)
    """Alpha by path suffix (regular expression) for modules that differ from `lora_alpha`."""
    fan_in_fan_out: bool = False
    """True where weights are stored [in, out]. Found from the layer; kept for PEFT's readers."""
    use_rslora: bool = False
    """Scale by alpha / sqrt(r) (Kalajdzievski 2023): keeps the update's size as the rank grows."""
    init_lora_weights: bool | str = True
    """Key of `initial.INITIALS`: True, False or "gaussian"."""

    prefix: ClassVar[str] = "lora_"

    def __post_init__(self) -> None:
        _check_reserved(self)
        _normalize(self)
        _check_numbers(self)
        _check_targets(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a configuration from PEFT's JSON object.

        Raises: ConfigError naming each field that is unknown and set, or that has an unusable value.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(name for name in values.keys() - known if values[name] and name not in _INERT)
        if unknown:
            given = ", ".join(f"{name}={values[name]!r}" for name in unknown)
            raise ConfigError(f"fields unknown to this release are set: {given}; load it with PEFT itself")
        return cls(**{name: value for name, value in values.items() if name in known})


CONFIGS: dict[str, type[LoraConfig]] = {"LORA": LoraConfig}


def parse_config(content: bytes, source: str) -> PeftConfig:
    """Parse the content of an `adapter_config.json`; `source` names it in messages.

    Raises: AdapterError when it is not a JSON object or asks for what this release lacks.
    """
    try:
        values = json.loads(content)
    except ValueError as error:
        raise AdapterError(f"{source} is not JSON ({error}); save the adapter again") from error
    if not isinstance(values, dict):
        raise AdapterError(f"{source} holds a {type(values).__name__}, not an object; save the adapter again")
    kind = values.get("peft_type")
    if kind not in CONFIGS:
        raise AdapterError(f"{source}: peft_type {kind!r} is not known; known: {', '.join(sorted(CONFIGS))}")
    try:
        return CONFIGS[kind].from_dict(values)
    except ConfigError as error:
        raise AdapterError(f"{source}: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return list(value) if isinstance(value, tuple) else value


def _check_reserved(config: ReservedFields) -> None:
    refused = [
        f"{f.name}={value!r}"
        for f in dataclasses.fields(ReservedFields)
        if f.name not in _INERT
        and f.name not in {g.name for g in dataclasses.fields(PeftConfig)}
        and (value := getattr(config, f.name))
        and value != f.default
    ]
    if refused:
        raise ConfigError(f"not in this release: {', '.join(refused)}; leave these out, or use PEFT itself")
    if config.peft_type != "LORA":
        raise ConfigError(f"peft_type={config.peft_type!r} in a LoraConfig; it is always 'LORA'")


def _normalize(config: LoraConfig) -> None:
    """Give equal configurations equal fields: sorted tuples, own copies of mappings, an enum for the task."""
    for name in ("target_modules", "exclude_modules", "layers_pattern", "layers_to_transform"):
        value = getattr(config, name)
        if value is None or isinstance(value, str | int):
            continue
        if not isinstance(value, Iterable) or not (items := tuple(sorted(set(value)))):
            raise ConfigError(f"{name}={value!r}; write a list with at least one entry, or leave it out")
        object.__setattr__(config, name, items)
    for name in ("rank_pattern", "alpha_pattern"):
        object.__setattr__(config, name, dict(sorted((getattr(config, name) or {}).items())))
    if config.task_type is None:
        return
    try:
        task = TaskType(config.task_type)
    except ValueError:
        known = ", ".join(t.value for t in TaskType)
        raise ConfigError(f"task_type={config.task_type!r}; write one of {known}") from None
    if task in _TASKS_WITH_A_HEAD:
        raise ConfigError(
            f"task_type={task.value!r} also trains a new head, which this release cannot; use CAUSAL_LM, "
            "SEQ_2_SEQ_LM or FEATURE_EXTRACTION, or leave it out to train the adapter alone"
        )
    object.__setattr__(config, "task_type", task)


def _check_numbers(config: LoraConfig) -> None:
    ranks = {"r": config.r, **{f"rank_pattern[{k!r}]": v for k, v in config.rank_pattern.items()}}
    for name, rank in ranks.items():
        if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
            raise ConfigError(f"{name}={rank!r}; a rank is a whole number from 1")
    alphas = {"lora_alpha": config.lora_alpha}
    alphas |= {f"alpha_pattern[{k!r}]": v for k, v in config.alpha_pattern.items()}
    for name, alpha in alphas.items():
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < math.inf:
            raise ConfigError(f"{name}={alpha!r}; alpha is a number above 0")
    dropout = config.lora_dropout
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ConfigError(f"lora_dropout={dropout!r}; it is a probability from 0 to below 1")


def _check_targets(config: LoraConfig) -> None:
    patterns = [("rank_pattern", key) for key in config.rank_pattern]
    patterns += [("alpha_pattern", key) for key in config.alpha_pattern]
    for name in ("target_modules", "exclude_modules"):
        value = getattr(config, name)
        patterns += [(name, value)] if isinstance(value, str) else []
    for name, pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigError(f"{name}: {pattern!r} is not a regular expression ({error})") from error
    is_regex = isinstance(config.target_modules, str) and config.target_modules.lower() != ALL_LINEAR
    if is_regex and config.layers_to_transform is not None:
        raise ConfigError(
            f"layers_to_transform={config.layers_to_transform!r} needs a list of target_modules; "
            f"write the indices into the regular expression {config.target_modules!r} instead"
        )
    if config.layers_pattern is not None and config.layers_to_transform is None:
        raise ConfigError(
            f"layers_pattern={config.layers_pattern!r} without layers_to_transform selects nothing; "
            "give layers_to_transform, or leave layers_pattern out"
        )
