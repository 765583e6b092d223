"""Weights of bitsandbytes: 4 bits (nf4, fp4; Dettmers et al. 2023) and 8 bits (LLM.int8, Dettmers et al. 2022).

Imported only once such a weight is seen. On a CPU with AVX-512 bitsandbytes 0.50 repacks a 4-bit weight in its first
forward for inference, and its own `dequantize_4bit` then returns other numbers without a word; here the packing is
undone first. PEFT 0.21.2 reads the packed weight: merging after such a forward gives a model that computes something
else.
"""

import copy
from typing import Any

import torch
from bitsandbytes import functional
from bitsandbytes.nn import Int8Params, Params4bit
from torch import Tensor, nn

from stack_platform.adapters.storage.weights import dense, is_dense


@dense.register(Params4bit)
def _(parameter: Tensor, layer: nn.Module) -> Tensor:
    state: Any = parameter.quant_state or layer.quant_state  # type: ignore[attr-defined]
    if state is None:  # not moved to a device yet, so not quantized yet
        return parameter.data
    stored = parameter.data
    if getattr(state, "packing_format_for_cpu", False):
        # on a copy: the layer goes on computing with the packed weight
        scales = state.absmax.T.reshape(-1).to(torch.float32)
        unpack = functional._convert_weight_packed_for_cpu_inverse  # noqa: SLF001
        stored, state = unpack(stored, copy.deepcopy(state))
        # bitsandbytes leaves the scales transposed, which is another order from two blocks a row on
        state.absmax, state.nested = scales, False
    values: Tensor = functional.dequantize_4bit(stored, state)
    return values


@dense.register(Int8Params)
def _(parameter: Tensor, layer: nn.Module) -> Tensor:
    scales = parameter.SCB if parameter.SCB is not None else layer.state.SCB  # type: ignore[attr-defined,union-attr]
    if scales is None:
        return parameter.data
    values: Tensor = functional.int8_vectorwise_dequant(parameter.data, scales.to(parameter.device))
    return values.to(torch.float32)


@is_dense.register(Params4bit)
@is_dense.register(Int8Params)
def _(_parameter: Tensor) -> bool:
    return False
