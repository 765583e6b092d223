"""OFT and BOFT: the weight is rotated, not added to."""

from dataclasses import dataclass
from typing import ClassVar

from stack_platform.adapters.configs.fields import PeftType, TargetedConfig, choice, positive, settle, whole
from stack_platform.errors import ConfigError


@dataclass(slots=True, kw_only=True)
class RotationConfig(TargetedConfig):
    """The fields both methods share."""

    fan_in_fan_out: bool = False
    """True where weights are stored [in, out]. Found from the layer; kept for PEFT's readers."""
    init_weights: bool = True
    """True starts at no change; False at random, for tests."""


@dataclass(slots=True, kw_only=True)
class OFTConfig(RotationConfig):
    """OFT (Qiu et al. 2023): blocks of the input are rotated; angles between neurons stay as they were."""

    r: int = 0
    """Number of blocks; either this or `oft_block_size`."""
    oft_block_size: int = 32
    """Inputs in one block; must divide the layer's, else the nearest divisor is taken."""
    module_dropout: float = 0.0
    """Share of the blocks that are left unrotated in training."""
    bias: str = "none"
    """Which biases of the base train with the adapter: "none", "all", "oft_only"."""
    coft: bool = False
    """True bounds each rotation by `eps`."""
    eps: float = 6e-5
    """Largest norm of a block's generator with `coft`, divided by the square root of their number."""
    block_share: bool = False
    """True rotates all blocks alike."""
    use_cayley_neumann: bool = True
    """True computes the rotation by a truncated series, False by solving the linear system."""
    num_cayley_neumann_terms: int = 5
    """Terms of the series."""

    prefix: ClassVar[str] = "oft_"

    def __post_init__(self) -> None:
        settle(self, PeftType.OFT)
        whole("r", self.r, 0)
        whole("oft_block_size", self.oft_block_size, 0)
        if bool(self.r) == bool(self.oft_block_size):
            raise ConfigError(
                f"r={self.r}, oft_block_size={self.oft_block_size}; give one of both and 0 for the other, "
                "because r times block size is the number of inputs"
            )
        choice("bias", self.bias, ("none", "all", "oft_only"))
        choice("init_weights", self.init_weights, (True, False))
        positive("eps", self.eps)
        whole("num_cayley_neumann_terms", self.num_cayley_neumann_terms)


@dataclass(slots=True, kw_only=True)
class BOFTConfig(RotationConfig):
    """BOFT (Liu et al. 2023): the rotation is a product of sparse ones, as the fast Fourier transform is."""

    boft_block_size: int = 4
    """Inputs in one block; either this or `boft_block_num`."""
    boft_block_num: int = 0
    """Number of blocks."""
    boft_n_butterfly_factor: int = 1
    """Number of sparse rotations; 1 is OFT with a scale."""
    boft_dropout: float = 0.0
    """Share of the blocks of one sparse rotation that are left unrotated in training."""
    bias: str = "none"
    """Which biases of the base train with the adapter: "none", "all", "boft_only"."""

    prefix: ClassVar[str] = "boft_"

    def __post_init__(self) -> None:
        settle(self, PeftType.BOFT)
        whole("boft_block_size", self.boft_block_size, 0)
        whole("boft_block_num", self.boft_block_num, 0)
        whole("boft_n_butterfly_factor", self.boft_n_butterfly_factor)
        if bool(self.boft_block_size) == bool(self.boft_block_num):
            raise ConfigError(
                f"boft_block_size={self.boft_block_size}, boft_block_num={self.boft_block_num}; give one of both "
                "and 0 for the other, because their product is the number of inputs"
            )
        choice("bias", self.bias, ("none", "all", "boft_only"))
        choice("init_weights", self.init_weights, (True, False))
