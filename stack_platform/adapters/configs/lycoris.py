"""LoHa and LoKr: updates that are products of small matrices other than B A, as in the LyCORIS library."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from stack_platform.adapters.configs.fields import (
    PeftType,
    TargetedConfig,
    check_ranks,
    choice,
    settle,
    whole,
)
from stack_platform.errors import ConfigError


@dataclass(slots=True, kw_only=True)
class LycorisConfig(TargetedConfig):
    """The fields both methods share."""

    r: int = 8
    """Rank of the factors."""
    alpha: float = 8
    """Numerator of the scaling alpha / r."""
    rank_dropout: float = 0.0
    """Probability that a row of the update is zeroed in training."""
    module_dropout: float = 0.0
    """Probability that a layer's whole update is left out in training."""
    use_effective_conv2d: bool = False
    """True decomposes the kernel of a convolution as well (FedPara, Hyeon-Woo et al. 2021, proposition 3)."""
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    """As in LoraConfig."""
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    """As in LoraConfig."""


@dataclass(slots=True, kw_only=True)
class LoHaConfig(LycorisConfig):
    """LoHa (Hyeon-Woo et al. 2021): the update is (A1 B1) * (A2 B2), elementwise, of rank up to r squared."""

    init_weights: bool = True
    """True starts at no change; False at random, for tests."""

    prefix: ClassVar[str] = "hada_"

    def __post_init__(self) -> None:
        settle(self, PeftType.LOHA)
        check_ranks(self, self.r, "alpha")
        choice("init_weights", self.init_weights, (True, False))


@dataclass(slots=True, kw_only=True)
class LoKrConfig(LycorisConfig):
    """LoKr (Yeh et al. 2023): the update is the Kronecker product of two small matrices."""

    decompose_both: bool = False
    """True decomposes the left matrix too, where it is large."""
    decompose_factor: int = -1
    """Size of the left matrix; -1 takes the divisor nearest to the square root."""
    rank_dropout_scale: bool = False
    """True keeps the mean size of the update under `rank_dropout`."""
    init_weights: bool | str = True
    """True zeroes the left matrix, "lycoris" the right one, False none, for tests."""

    prefix: ClassVar[str] = "lokr_"

    def __post_init__(self) -> None:
        settle(self, PeftType.LOKR)
        check_ranks(self, self.r, "alpha")
        choice("init_weights", self.init_weights, (True, False, "lycoris"))
        if self.decompose_factor != -1:
            whole("decompose_factor", self.decompose_factor)
        if self.rank_dropout_scale and not self.rank_dropout:
            raise ConfigError("rank_dropout_scale=True without rank_dropout changes nothing; leave it out")
