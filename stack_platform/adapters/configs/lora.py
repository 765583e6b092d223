"""LoRA and its relatives that share its fields: rsLoRA, DoRA, the initializations, AdaLoRA."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from stack_platform.adapters.configs.fields import (
    INERT,
    PeftType,
    TargetedConfig,
    assign,
    check_ranks,
    choice,
    positive,
    settle,
    whole,
)
from stack_platform.errors import ConfigError

INITIALIZATIONS: tuple[bool | str, ...] = (
    True, False, "gaussian", "eva", "olora", "pissa", "pissa_niter_4", "loftq", "orthogonal",
)  # fmt: skip
_DEFAULT_RANK = 8
CHANGES_BASE = ("olora", "pissa", "loftq")
"""Initializations that move part of the base weight into the adapter."""


@dataclass(slots=True, kw_only=True)
class LoftQConfig:
    """LoftQ (Li et al. 2023): the adapter starts as the error of quantizing the weight."""

    loftq_bits: int = 4
    """Bits of the quantization that the adapter makes up for: 4 (nf4) or 8."""
    loftq_iter: int = 1
    """Alternations between quantizing and decomposing the error."""


@dataclass(slots=True, kw_only=True)
class EvaConfig:
    """EVA (Paischer et al. 2024): A starts as the main directions of the layer's inputs."""

    rho: float = 2.0
    """Largest rank of a layer, in multiples of `r`, when ranks are redistributed; 1 keeps them equal."""
    tau: float = 0.99
    """Cosine similarity of successive directions from which they count as converged."""
    use_label_mask: bool = True
    """True leaves out positions whose label is `label_mask_value`."""
    label_mask_value: int = -100
    """The label of positions that carry no loss."""
    whiten: bool = False
    """True scales the directions to unit variance."""
    adjust_scaling_factors: bool = True
    """True keeps alpha / rank constant over layers when ranks are redistributed."""

    def __post_init__(self) -> None:
        if self.rho < 1:
            raise ConfigError(f"rho={self.rho!r}; write a number from 1")
        if not 0 <= self.tau <= 1:
            raise ConfigError(f"tau={self.tau!r}; write a number from 0 to 1")


@dataclass(slots=True, kw_only=True)
class ReservedFields(TargetedConfig):
    """PEFT's LoRA fields for what this release lacks; only a value that changes nothing is accepted."""

    alora_invocation_tokens: None = None
    arrow_config: None = None
    corda_config: None = None
    kasa_config: None = None
    lora_ga_config: None = None
    megatron_config: None = None
    monteclora_config: None = None
    use_bdlora: None = None
    use_qalora: bool = False
    velora_config: None = None
    # Parameters of the methods above: without the method any value changes nothing.
    megatron_core: str = "megatron.core"
    qalora_group_size: int = 16


@dataclass(slots=True, kw_only=True)
class LoraConfig(ReservedFields):
    """Low-rank adaptation (Hu et al. 2021): the weight update is `scaling * B @ A` with rank `r`."""

    r: int = _DEFAULT_RANK
    """Rank of the update; PEFT's default."""
    lora_alpha: float = 8
    """Numerator of the scaling: alpha / r, or alpha / sqrt(r) with `use_rslora`."""
    lora_dropout: float = 0.0
    """Probability that an input of A is zeroed in training; 0 is none."""
    target_parameters: tuple[str, ...] | None = None
    """Suffixes of parameters to adapt where no module is called with them, as the experts of a mixture."""
    layer_replication: tuple[tuple[int, int], ...] | None = None
    """Ranges of blocks, end excluded, that make up the new stack of blocks; the weights are shared."""
    rank_pattern: Mapping[str, Any] | None = field(default_factory=dict)
    """Rank by path suffix (regular expression) for modules that differ from `r`."""
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    """Alpha by path suffix (regular expression) for modules that differ from `lora_alpha`."""
    fan_in_fan_out: bool = False
    """True where weights are stored [in, out]. Found from the layer; kept for PEFT's readers."""
    bias: str = "none"
    """Which biases of the base train with the adapter: "none", "all", "lora_only"."""
    lora_bias: bool = False
    """True gives B a bias of its own."""
    use_rslora: bool = False
    """Scale by alpha / sqrt(r) (Kalajdzievski 2023): keeps the update's size as the rank grows."""
    use_dora: bool = False
    """Learn the norm of each row of the weight apart from its direction (Liu et al. 2024)."""
    init_lora_weights: bool | str = True
    """Where A and B start: True, False, "gaussian", "eva", "olora", "pissa", "pissa_niter_<n>", "loftq" or
    "orthogonal"."""
    eva_config: EvaConfig | None = None
    """Settings of `init_lora_weights="eva"`; a mapping is accepted."""
    loftq_config: Mapping[str, int] = field(default_factory=dict)
    """Settings of `init_lora_weights="loftq"`; a `LoftQConfig` is accepted."""
    trainable_token_indices: tuple[int, ...] | Mapping[str, tuple[int, ...]] | None = None
    """Rows of the embedding that train in full: indices, or module name to indices."""
    ensure_weight_tying: bool = False
    """True insists that rows trained for an embedding serve a head that is tied to it too, as they do anyway; for whole
    modules and layers it is refused."""

    prefix: ClassVar[str] = "lora_"

    def __post_init__(self) -> None:
        settle(self, PeftType.LORA)
        _settle_lora(self)
        check_ranks(self, self.r, "lora_alpha")


@dataclass(slots=True, kw_only=True)
class AdaLoraConfig(LoraConfig):
    """AdaLoRA (Zhang et al. 2023): a singular value decomposition whose small values are pruned while training."""

    target_r: int = 8
    """Average rank of a layer at the end."""
    init_r: int = 12
    """Rank of every layer at the start."""
    tinit: int = 0
    """Steps before pruning begins."""
    tfinal: int = 0
    """Steps at the end without pruning."""
    deltaT: int = 1  # noqa: N815
    """Steps between two prunings."""
    beta1: float = 0.85
    """Decay of the average of the sensitivity."""
    beta2: float = 0.85
    """Decay of the average of its uncertainty."""
    orth_reg_weight: float = 0.5
    """Weight of the penalty that keeps A and B orthogonal."""
    total_step: int | None = None
    """Steps of the whole training; must be given."""
    rank_pattern: Mapping[str, Any] | None = None
    """Which ranks of each layer are left, once pruned; filled in by training."""

    def __post_init__(self) -> None:
        settle(self, PeftType.ADALORA)
        _settle_lora(self)
        pattern = self.rank_pattern
        assign(self, "rank_pattern", {})
        check_ranks(self, self.r, "lora_alpha")
        assign(self, "rank_pattern", dict(sorted(pattern.items())) if pattern else None)
        _check_adalora(self)


def moves_base(config: Any) -> bool:
    """Return whether a configuration's start moves part of the base weight into the adapter."""
    name = getattr(config, "init_lora_weights", None)
    return isinstance(name, str) and name.partition("_")[0] in CHANGES_BASE


def _settle_lora(config: LoraConfig) -> None:
    _check_reserved(config)
    init = config.init_lora_weights
    if isinstance(init, str):
        init = init.lower()
        assign(config, "init_lora_weights", init)
    if not (isinstance(init, str) and re.fullmatch(r"pissa_niter_\d+", init)):
        choice("init_lora_weights", init, INITIALIZATIONS)
    choice("bias", config.bias, ("none", "all", "lora_only"))
    eva: object = config.eva_config
    if isinstance(eva, Mapping):
        assign(config, "eva_config", EvaConfig(**eva))
    bits: object = config.loftq_config
    if isinstance(bits, LoftQConfig):
        assign(config, "loftq_config", {"loftq_bits": bits.loftq_bits, "loftq_iter": bits.loftq_iter})
    _check_initial(config)
    if config.lora_bias and (config.use_dora or init not in (True, False)):
        raise ConfigError("lora_bias=True needs init_lora_weights True or False and use_dora=False")
    if (tokens := config.trainable_token_indices) is not None:
        settled = (
            {name: tuple(rows) for name, rows in sorted(tokens.items())}
            if isinstance(tokens, Mapping)
            else tuple(tokens)
        )
        assign(config, "trainable_token_indices", settled)
    if config.layer_replication is not None:
        assign(config, "layer_replication", tuple(tuple(pair) for pair in config.layer_replication))


def _check_initial(config: LoraConfig) -> None:
    init = config.init_lora_weights
    if init == "eva" and config.eva_config is None:
        assign(config, "eva_config", EvaConfig())
    if init != "eva" and config.eva_config is not None:
        raise ConfigError(
            f"eva_config is given, but init_lora_weights={init!r}; write 'eva', or leave it out"
        )
    if init != "loftq" and config.loftq_config:
        raise ConfigError(
            f"loftq_config is given, but init_lora_weights={init!r}; write 'loftq', or leave it out"
        )
    if init == "loftq":
        known = {f.name for f in fields(LoftQConfig)}
        if unknown := sorted(config.loftq_config.keys() - known):
            raise ConfigError(f"loftq_config has {', '.join(unknown)}; it takes {', '.join(sorted(known))}")
        settings = LoftQConfig(**config.loftq_config)
        choice("loftq_bits", settings.loftq_bits, (4, 8))
        whole("loftq_iter", settings.loftq_iter)
        assign(config, "loftq_config", {"loftq_bits": settings.loftq_bits, "loftq_iter": settings.loftq_iter})
    if init == "orthogonal":
        for rank in (config.r, *(config.rank_pattern or {}).values()):
            if isinstance(rank, int) and rank % 2:
                raise ConfigError(f"init_lora_weights='orthogonal' needs an even rank, not {rank}")


def _check_reserved(config: ReservedFields) -> None:
    common = {f.name for f in fields(TargetedConfig)}
    refused = [
        f"{f.name}={value!r}"
        for f in fields(ReservedFields)
        if f.name not in INERT
        and f.name not in common
        and (value := getattr(config, f.name))
        and value != f.default
    ]
    if refused:
        raise ConfigError(f"not in this release: {', '.join(refused)}; leave these out, or use PEFT itself")


def _check_adalora(config: AdaLoraConfig) -> None:
    for name in (
        "use_dora",
        "lora_bias",
        "use_rslora",
        "loftq_config",
        "target_parameters",
        "layer_replication",
    ):
        if getattr(config, name):
            raise ConfigError(f"{name}={getattr(config, name)!r}; AdaLoRA has no such thing, leave it out")
    choice("init_lora_weights", config.init_lora_weights, (True, False))
    if config.r != _DEFAULT_RANK:
        raise ConfigError(f"r={config.r!r} is not used by AdaLoRA; write init_r and target_r")
    whole("init_r", config.init_r)
    whole("target_r", config.target_r)
    whole("deltaT", config.deltaT)
    if config.total_step is None:
        raise ConfigError("total_step is missing; write the number of training steps")
    whole("total_step", config.total_step)
    for name in ("beta1", "beta2"):
        if not 0 < getattr(config, name) < 1:
            raise ConfigError(f"{name}={getattr(config, name)!r}; write a number between 0 and 1")
    if config.orth_reg_weight != 0:
        positive("orth_reg_weight", config.orth_reg_weight)
    if config.tinit >= config.total_step - config.tfinal:
        raise ConfigError(
            f"tinit={config.tinit}, tfinal={config.tfinal} leave no step of total_step={config.total_step} to "
            "prune in; make them smaller"
        )
