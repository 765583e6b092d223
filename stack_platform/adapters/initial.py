"""Where an adapter starts: the first values of its tensors, as a table of pure functions.

An initialization maps (W_OI, shapes, generator) to the named tensors, in fp32. All but "random" start at no
change at all, because B is zero: the adapted model begins as the base model. To add one, write a function and
name it in `INITIALS`.

Shapes: lora_A [R, I], lora_B [O, R] (R rank, I input, O output features).
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Generator, Tensor, nn

Shapes = Mapping[str, tuple[int, ...]]
Tensors = dict[str, Tensor]
Initial = Callable[[Tensor, Shapes, Generator | None], Tensors]


def kaiming(weight_OI: Tensor, shapes: Shapes, generator: Generator | None = None) -> Tensors:
    """Draw A as nn.Linear draws its weight, uniform in ±1/sqrt(I), and set B to zero; PEFT's default.

    The letter of loralib: Kaiming uniform with a = sqrt(5).
    """
    tensors = _zeros(weight_OI, shapes)
    _linear_default(tensors["lora_A"], generator)
    return tensors


def gaussian(weight_OI: Tensor, shapes: Shapes, generator: Generator | None = None) -> Tensors:
    """Draw A from a normal distribution with standard deviation 1 / R and set B to zero."""
    tensors = _zeros(weight_OI, shapes)
    rank = shapes["lora_A"][0]
    nn.init.normal_(tensors["lora_A"], std=1 / rank, generator=generator)
    return tensors


def random(weight_OI: Tensor, shapes: Shapes, generator: Generator | None = None) -> Tensors:
    """Draw both A and B as nn.Linear draws its weight: a change from the first step, for tests."""
    tensors = _zeros(weight_OI, shapes)
    for tensor in tensors.values():
        _linear_default(tensor, generator)
    return tensors


INITIALS: dict[bool | str, Initial] = {True: kaiming, False: random, "gaussian": gaussian}


def _zeros(weight_OI: Tensor, shapes: Shapes) -> Tensors:
    return {name: torch.zeros(s, device=weight_OI.device) for name, s in shapes.items()}


def _linear_default(tensor: Tensor, generator: Generator | None) -> None:
    nn.init.kaiming_uniform_(tensor, a=math.sqrt(5), generator=generator)
