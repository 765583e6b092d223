"""Which numbers a run multiplies in, and why.

bf16 halves the memory of the frozen base and is faster only where the processor has instructions for it
(avx512_bf16, AMX, or a GPU from Ampere on); elsewhere it is emulated and slower than fp32. Adapter weights,
their gradients and the optimizer stay fp32 in both cases; autocast rounds them for the products alone.
Measured with avx512_bf16, one thread, SmolLM2-135M, rank 16 on all linear layers, 512 tokens a step: fp32 3.9
seconds and 2.3 GB at the peak, bf16 1.7 seconds and 1.6 GB. The base is loaded in bf16 once: an fp32 base that
autocast rounds anew in each step costs 14 % more time (2048 tokens a step) and its full memory.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stack_platform.errors import ConfigError
from stack_platform.training.config import DeviceName, PrecisionName

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Precision:
    """The device and the number format of a run."""

    device: str
    """torch's name of the device, "cpu" or "cuda"."""
    name: str
    """ "fp32" or "bf16"."""
    reason: str
    """Why this one, in words for a report."""

    @property
    def dtype(self) -> "torch.dtype":
        """The format of the frozen base and of the products."""
        import torch

        return torch.bfloat16 if self.name == "bf16" else torch.float32

    def autocast(self) -> AbstractContextManager[None]:
        """Round the operands of products to this precision inside the `with` block."""
        import torch

        context: AbstractContextManager[None] = torch.autocast(
            self.device, dtype=torch.bfloat16, enabled=self.name == "bf16"
        )
        return context


def resolve_precision(precision: PrecisionName, device: DeviceName = "cpu") -> Precision:
    """Choose device and number format for this machine.

    Raises: ConfigError when CUDA or bf16 on CUDA is asked for and the machine has none.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device 'cuda' is not there; write 'cpu' or 'auto', or install torch with CUDA")
    where = "cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu"
    native, evidence = _native_bf16(where)
    if precision == "auto":
        return Precision(where, "bf16" if native else "fp32", f"auto: {evidence}")
    if precision == "bf16" and where == "cuda" and not native:
        raise ConfigError(f"precision 'bf16': {evidence}; write 'fp32'")
    return Precision(where, precision, f"asked for ({evidence})")


def _native_bf16(device: str) -> tuple[bool, str]:
    import torch

    if device == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return native, "the GPU has bf16 units" if native else "the GPU has no bf16 units"
    features = torch.cpu.get_capabilities()
    for name in ("amx_bf16", "avx512_bf16", "bf16"):
        if features.get(name):
            return True, f"the CPU has {name}"
    return False, "the CPU has no bf16 instructions"
