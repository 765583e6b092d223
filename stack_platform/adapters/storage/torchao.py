"""Weights of torchao: tensor subclasses that dequantize themselves.

Imported only once such a weight is seen.
"""

import importlib

from torch import Tensor, nn

from stack_platform.adapters.storage.weights import dense, is_dense

_TENSOR = importlib.import_module("torchao.utils").TorchAOBaseTensor


@dense.register(_TENSOR)
def _(parameter: Tensor, _layer: nn.Module) -> Tensor:
    values: Tensor = parameter.dequantize()
    return values


@is_dense.register(_TENSOR)
def _(_parameter: Tensor) -> bool:
    return False
