"""What every configuration shares: the common fields, their checks, and how they become JSON; free of torch.

A configuration can be changed, as in PEFT; a model keeps a copy of its own, whose fields are checked once more.

`adapter_config.json` is the sorted JSON of the fields, so its key set is PEFT's (release 0.21.2). Collections are
stored sorted, so one configuration has one byte sequence; PEFT keeps `target_modules` in a set, whose order in the
file depends on the hash seed.
"""

import dataclasses
import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from stack_platform.errors import ConfigError

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


class PeftType(StrEnum):
    """The adapter methods this release has; PEFT's names."""

    ADALORA = "ADALORA"
    BOFT = "BOFT"
    IA3 = "IA3"
    LOHA = "LOHA"
    LOKR = "LOKR"
    LORA = "LORA"
    OFT = "OFT"
    PREFIX_TUNING = "PREFIX_TUNING"
    PROMPT_TUNING = "PROMPT_TUNING"
    P_TUNING = "P_TUNING"
    TRAINABLE_TOKENS = "TRAINABLE_TOKENS"
    VERA = "VERA"
    XLORA = "XLORA"


# Parameters of methods and back ends this release lacks; without these any value changes nothing.
INERT = frozenset({"megatron_core", "qalora_group_size", "runtime_config"})

_Member = TypeVar("_Member", bound=StrEnum)

_SORTED = (
    "target_modules",
    "exclude_modules",
    "layers_pattern",
    "layers_to_transform",
    "feedforward_modules",
)
_ORDERED = ("modules_to_save", "target_parameters")
_PATTERNS = ("target_modules", "exclude_modules", "feedforward_modules")
_PROBABILITIES = (
    "lora_dropout",
    "vera_dropout",
    "boft_dropout",
    "rank_dropout",
    "module_dropout",
    "encoder_dropout",
)


@dataclass(slots=True, kw_only=True)
class PeftConfig:
    """The fields every adapter method shares."""

    peft_type: PeftType | None = None
    """Adapter method; set by the class."""
    task_type: TaskType | None = None
    """What the model is trained to do; a string is accepted."""
    auto_mapping: Mapping[str, str] | None = None
    """Class and module of the base model, written when `task_type` is absent; changes nothing."""
    peft_version: str | None = LAYOUT_VERSION
    """PEFT release whose layout the file follows; changes nothing."""
    base_model_name_or_path: str | None = None
    """Name of the base model; filled in from the model by `get_peft_model`."""
    revision: str | None = None
    """Revision of the base model."""
    inference_mode: bool = False
    """True in every saved file: a loaded adapter is frozen unless `is_trainable` is asked for."""

    is_prompt_learning: ClassVar[bool] = False
    prefix: ClassVar[str] = ""
    """What the names of the method's parameters begin with."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as PEFT writes them: enums as their text, tuples as lists."""
        return {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}

    def to_json(self) -> bytes:
        """Return the content of `adapter_config.json`: keys sorted, two spaces, no final newline."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True).encode()

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write `adapter_config.json` into a folder, which is made when absent."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_NAME).write_bytes(self.to_json())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a configuration from PEFT's JSON object.

        Raises: ConfigError naming each field that is unknown and set, or that has an unusable value.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(name for name in values.keys() - known if values[name] and name not in INERT)
        if unknown:
            given = ", ".join(f"{name}={values[name]!r}" for name in unknown)
            raise ConfigError(f"fields unknown to this release are set: {given}; load it with PEFT itself")
        return cls(**{name: value for name, value in values.items() if name in known})

    @classmethod
    def from_pretrained(cls, folder: str | Path, **hub: Any) -> "PeftConfig":
        """Read `adapter_config.json` from a folder or a hub repository; the class follows `peft_type`.

        Raises: AdapterError when the file is absent, is not JSON, or asks for what this release lacks.
        """
        from stack_platform.adapters.saving.files import read_config

        return read_config(folder, **hub)


@dataclass(slots=True, kw_only=True)
class TargetedConfig(PeftConfig):
    """The fields of the methods that change layers of one's choice."""

    target_modules: str | tuple[str, ...] | None = None
    """Suffixes of module paths, a regular expression for whole paths, "all-linear", or None: the query and
    value projections found in the model."""
    exclude_modules: str | tuple[str, ...] | None = None
    """Suffixes, or a regular expression for whole paths, of modules to leave alone."""
    layers_to_transform: int | tuple[int, ...] | None = None
    """Indices of the blocks to adapt, from 0; None is all. Only with a list of targets or "all-linear"."""
    layers_pattern: str | tuple[str, ...] | None = None
    """Name of the list of blocks (`layers`, `h`); None takes the first number in the path."""
    modules_to_save: tuple[str, ...] | None = None
    """Names of modules, such as a new head, that train in full and are saved with the adapter."""


def plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value


def settle(config: PeftConfig, peft_type: PeftType) -> None:
    """Give equal configurations equal fields, and check those that many methods have.

    Raises: ConfigError naming the field, its value and what to write instead.
    """
    if config.peft_type not in (None, peft_type):
        raise ConfigError(
            f"peft_type={str(config.peft_type)!r} in a {type(config).__name__}; it is always {peft_type.value!r}"
        )
    assign(config, "peft_type", peft_type)
    if config.task_type is not None:
        assign(config, "task_type", member(TaskType, "task_type", config.task_type))
    _settle_lists(config)
    _check_patterns(config)
    _check_layers(config)
    for name in _PROBABILITIES:
        value = getattr(config, name, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            raise ConfigError(f"{name}={value!r}; it is a probability from 0 to below 1")


def assign(config: PeftConfig, name: str, value: Any) -> None:
    """Set a field of a configuration that is still being made."""
    setattr(config, name, value)


def member(kind: type[_Member], name: str, value: object) -> _Member:
    """Return a value as a member of an enumeration.

    Raises: ConfigError naming the members.
    """
    try:
        return kind(str(value))
    except ValueError:
        raise ConfigError(f"{name}={value!r}; write one of {', '.join(m.value for m in kind)}") from None


def choice(name: str, value: object, known: Iterable[object]) -> None:
    """Check that a value is one of those known.

    Raises: ConfigError naming the nearest, or all.
    """
    known = list(known)
    # True == 1, but only one of both is meant
    if any(value == k and type(value) is type(k) for k in known):
        return
    near = difflib.get_close_matches(str(value), [k for k in known if isinstance(k, str)], n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(f"{name}={value!r}; {hint}known: {', '.join(map(repr, known))}")


def whole(name: str, value: object, least: int = 1) -> None:
    """Check that a value is a whole number from `least` on."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        kind = "a rank is " if name == "r" or name.startswith("rank_pattern") else "write "
        raise ConfigError(f"{name}={value!r}; {kind}a whole number from {least}")


def positive(name: str, value: object) -> None:
    """Check that a value is a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        kind = "alpha is" if "alpha" in name else "write"
        raise ConfigError(f"{name}={value!r}; {kind} a number above 0")


def check_ranks(config: Any, rank: int, alpha_name: str) -> None:
    """Check rank, alpha and their patterns, and sort the patterns."""
    for name in ("rank_pattern", "alpha_pattern"):
        assign(config, name, dict(sorted((getattr(config, name) or {}).items())))
    whole("r", rank)
    for key, value in config.rank_pattern.items():
        whole(f"rank_pattern[{key!r}]", value)
    positive(alpha_name, getattr(config, alpha_name))
    for key, value in config.alpha_pattern.items():
        positive(f"alpha_pattern[{key!r}]", value)
    for name in ("rank_pattern", "alpha_pattern"):
        for key in getattr(config, name):
            _compiled(name, key)


def _settle_lists(config: PeftConfig) -> None:
    for name in _SORTED + _ORDERED:
        value = getattr(config, name, None)
        if value is None or isinstance(value, int) or (isinstance(value, str) and name in _SORTED):
            continue
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise ConfigError(f"{name}={value!r}; write a list of names")
        items = tuple(sorted(set(value))) if name in _SORTED else tuple(dict.fromkeys(value))
        # where parameters are targeted, PEFT writes no target as []
        if not items and name == "target_modules" and not getattr(config, "target_parameters", None):
            raise ConfigError(f"{name}={value!r}; write a list with at least one entry, or leave it out")
        assign(config, name, items)


def _check_patterns(config: PeftConfig) -> None:
    for name in _PATTERNS:
        value = getattr(config, name, None)
        if isinstance(value, str):
            _compiled(name, value)


def _compiled(name: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"{name}: {pattern!r} is not a regular expression ({error})") from error


def _check_layers(config: PeftConfig) -> None:
    layers = getattr(config, "layers_to_transform", None)
    targets = getattr(config, "target_modules", None)
    if layers is not None and isinstance(targets, str) and targets.lower() != ALL_LINEAR:
        raise ConfigError(
            f"layers_to_transform={layers!r} needs a list of target_modules; "
            f"write the indices into the regular expression {targets!r} instead"
        )
    pattern = getattr(config, "layers_pattern", None)
    if pattern is not None and layers is None:
        raise ConfigError(
            f"layers_pattern={pattern!r} without layers_to_transform selects nothing; "
            "give layers_to_transform, or leave layers_pattern out"
        )
