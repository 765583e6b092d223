"""Where a LoRA adapter starts: the first values of its tensors, as a table of pure functions.

An initialization maps a site and the shapes to a `Start`. Most begin at no change because B is zero; PiSSA, OLoRA and
LoftQ move part of the weight into the adapter, and say which weight the base keeps: W = W' + s B A, but for rounding.
To add one, write a function and name it in `INITIALS`, and in `configs.lora.INITIALIZATIONS`.

Shapes: lora_A [R, I], lora_B [O, R] (R rank, I input, O output features).
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from stack_platform.adapters.variants.variant import Shapes, Site, Start, zeros
from stack_platform.adapters.weights import is_dense_layer
from stack_platform.errors import AdapterError

Initial = Callable[[Site, Shapes], Start]
"""(site, shapes) to first values in fp32."""


def lora_start(site: Site, shapes: Shapes) -> Start:
    """Start as the configuration says."""
    config = site.adapter.config
    return initial_of(True if config is None else config.init_lora_weights)(site, shapes)


def initial_of(name: bool | str) -> Initial:
    """Return the initialization of a name; "pissa_niter_<n>" carries a number.

    Raises: AdapterError when the name is not known.
    """
    if isinstance(name, str) and name.startswith("pissa_niter_"):
        return partial(pissa, iterations=int(name.removeprefix("pissa_niter_")))
    if name not in INITIALS:
        raise AdapterError(
            f"init_lora_weights={name!r} is not known; known: {', '.join(map(repr, INITIALS))}"
        )
    return INITIALS[name]


def kaiming(site: Site, shapes: Shapes) -> Start:
    """Draw A as nn.Linear draws its weight, uniform in ±1/sqrt(I), and set B to zero; PEFT's default.

    The letter of loralib: Kaiming uniform with a = sqrt(5). An embedding's A is zero and its B normal.
    """
    tensors = zeros(site, shapes)
    if "lora_embedding_B" in tensors:
        nn.init.normal_(tensors["lora_embedding_B"])
    else:
        _linear_default(tensors["lora_A"])
    return Start(tensors)


def gaussian(site: Site, shapes: Shapes) -> Start:
    """Draw A from a normal distribution with standard deviation 1 / R and set B to zero."""
    if "lora_A" not in shapes:
        return kaiming(site, shapes)
    tensors = zeros(site, shapes)
    nn.init.normal_(tensors["lora_A"], std=1 / site.adapter.r)
    return Start(tensors)


def random(site: Site, shapes: Shapes) -> Start:
    """Draw both A and B, as nn.Linear draws its weight: a change from the first step, for tests."""
    tensors = zeros(site, shapes)
    for name, tensor in tensors.items():
        if name == "lora_bias":
            nn.init.uniform_(tensor, -1 / math.sqrt(site.adapter.r), 1 / math.sqrt(site.adapter.r))
        elif "embedding" in name:
            nn.init.normal_(tensor)
        else:
            _linear_default(tensor)
    return Start(tensors)


def orthogonal(site: Site, shapes: Shapes) -> Start:
    """Draw A and B at random with B A = 0: their factors are the odd and even rows of one orthogonal matrix."""
    _needs("orthogonal", site, shapes)
    half = site.adapter.r // 2
    rotation, _ = torch.linalg.qr(torch.randn(site.adapter.r, site.adapter.r))
    A = (torch.randn(shapes["lora_A"][1], half) @ rotation[0::2]).T / 10
    B = (torch.randn(half, shapes["lora_B"][0]).T @ rotation[1::2]) / 10
    return Start({"lora_A": A, "lora_B": B})


def pissa(site: Site, shapes: Shapes, iterations: int | None = None) -> Start:
    """Start at the R largest singular values of W (Meng et al. 2024); with `iterations`, by a randomized method."""
    weight = _movable("pissa", site, shapes)
    r, s = site.adapter.r, site.adapter.scaling
    if iterations is None:
        U, S, Vh = torch.linalg.svd(weight, full_matrices=False)
        U, S, Vh = U[:, :r], S[:r] / s, Vh[:r]
    else:
        U, S, V = torch.svd_lowrank(weight, r, niter=iterations)
        S, Vh = S / s, V.T
    return _moved(weight, torch.diag(S.sqrt()) @ Vh, U @ torch.diag(S.sqrt()), s)


def olora(site: Site, shapes: Shapes) -> Start:
    """Start at the first R columns of Q and rows of R of W = Q R (Büyükakyüz 2024)."""
    weight = _movable("olora", site, shapes)
    Q, R = torch.linalg.qr(weight)
    r = site.adapter.r
    return _moved(weight, R[:r].contiguous(), Q[:, :r].contiguous(), site.adapter.scaling)


def loftq(site: Site, shapes: Shapes) -> Start:
    """Start at the error that quantizing W makes (Li et al. 2023); the base keeps the quantized values.

    The adapter makes up for the error whatever s is; PEFT 0.21.2 only where s is 1.
    """
    weight = _movable("loftq", site, shapes)
    settings = site.adapter.config.loftq_config
    r, target = site.adapter.r, weight
    for _ in range(settings["loftq_iter"]):
        quantized = _quantized(target, settings["loftq_bits"])
        U, S, Vh = torch.linalg.svd(weight - quantized, full_matrices=False)
        A, B = torch.diag(S[:r].sqrt()) @ Vh[:r], U[:, :r] @ torch.diag(S[:r].sqrt())
        target = weight - B @ A
    return Start({"lora_A": A, "lora_B": B / site.adapter.scaling}, quantized)


INITIALS: dict[bool | str, Initial] = {
    True: kaiming,
    False: random,
    "gaussian": gaussian,
    "orthogonal": orthogonal,
    "pissa": pissa,
    "olora": olora,
    "loftq": loftq,
    "eva": kaiming,  # until `eva.initialize_lora_eva_weights` has seen data
}


def _moved(weight: Tensor, A: Tensor, B: Tensor, scaling: float) -> Start:
    return Start({"lora_A": A, "lora_B": B}, weight - scaling * B @ A)


def _linear_default(tensor: Tensor) -> None:
    nn.init.kaiming_uniform_(tensor, a=math.sqrt(5))


def _needs(name: str, site: Site, shapes: Shapes) -> None:
    if len(shapes.get("lora_A", ())) != 2 or site.kind.name != "linear":
        raise AdapterError(
            f"init_lora_weights={name!r} works on linear layers, not on a {type(site.layer).__name__}; exclude it"
        )


def _movable(name: str, site: Site, shapes: Shapes) -> Tensor:
    _needs(name, site, shapes)
    if not is_dense_layer(site.layer):
        raise AdapterError(
            f"init_lora_weights={name!r} changes the base weight, which is quantized here; initialize the adapter on "
            "the floating-point model, and quantize afterwards"
        )
    if site.adapter.r > min(site.shape):
        raise AdapterError(
            f"init_lora_weights={name!r} takes {site.adapter.r} directions of a weight of shape {site.shape}; "
            f"write a rank up to {min(site.shape)}"
        )
    return site.weight().detach().float()


def _quantized(weight: Tensor, bits: int) -> Tensor:
    """Return W rounded to what bitsandbytes stores: nf4 in blocks of 64, or int8 by rows."""
    from bitsandbytes import functional

    if bits == 4:
        values, state = functional.quantize_4bit(weight.contiguous(), quant_type="nf4")
        return functional.dequantize_4bit(values, state)  # type: ignore[no-any-return]
    scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny) / 127
    return (weight / scale).round() * scale
