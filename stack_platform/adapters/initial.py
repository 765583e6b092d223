"""Where a LoRA adapter starts: the first values of its tensors, as a table of pure functions.

An initialization maps a site and the shapes to a `Start`. Most begin at no change because B is zero; PiSSA, OLoRA and
LoftQ move part of the weight into the adapter, and say which weight the base keeps: W = W' + s B A, but for rounding.
To add one, write a function and name it in `INITIALS`, and in `configs.lora.INITIALIZATIONS`.

One seed gives PEFT's adapter bit for bit, and leaves torch's generator where PEFT leaves it, so a run can be repeated
after the import line is changed. PEFT makes two layers of torch first, which draw A and B, then draws A again, on the
CPU, and rounds to the format of the base weight; so the same is done here, though most of the draws are never seen.
What is computed from the weight (PiSSA, OLoRA, LoftQ, the norms of DoRA) is not rounded, which PEFT does.

Shapes: lora_A [R, I], lora_B [O, R] (R rank, I input, O output features).
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from stack_platform.adapters.configs.lora import moves_base
from stack_platform.adapters.storage.weights import is_dense_layer
from stack_platform.adapters.variants.variant import Shapes, Site, Start, rounded
from stack_platform.errors import AdapterError

Initial = Callable[[Site, Shapes], Start]
"""(site, shapes) to first values in fp32."""


def lora_start(site: Site, shapes: Shapes) -> Start:
    """Start as the configuration says."""
    config = site.adapter.config
    start = initial_of(True if config is None else config.init_lora_weights)(site, shapes)
    device = getattr(site.layer, site.kind.parameter).device
    return Start({name: tensor.to(device) for name, tensor in start.tensors.items()}, start.weight)


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


def check_start(site: Site, shapes: Shapes) -> None:
    """Check that the start a configuration asks for can be computed at a site.

    Raises: AdapterError naming the initialization and what stands in its way.
    """
    name = getattr(site.adapter.config, "init_lora_weights", None)
    moves = moves_base(site.adapter.config)
    if not moves and name != "orthogonal":
        return
    problem = None
    if len(shapes.get("lora_A", ())) != 2 or site.kind.name != "linear":
        problem = f"works on linear layers, not on a {type(site.layer).__name__}; exclude it"
    elif moves and getattr(site.layer, site.kind.parameter).is_meta:
        problem = "splits the base weight, which is on the meta device; load the base model first"
    elif moves and not is_dense_layer(site.layer):
        problem = (
            "changes the base weight, which is quantized here; initialize the adapter on the floating-point model, "
            "and quantize afterwards"
        )
    elif moves and site.adapter.r > min(site.shape):
        problem = (
            f"takes {site.adapter.r} directions of a weight of shape {site.shape}; write a rank up to "
            f"{min(site.shape)}"
        )
    if problem is not None:
        raise AdapterError(f"init_lora_weights={name!r} {problem}")


def kaiming(site: Site, shapes: Shapes) -> Start:
    """Draw A as nn.Linear draws its weight, uniform in ±1/sqrt(I), and set B to zero; PEFT's default.

    The letter of loralib: Kaiming uniform with a = sqrt(5). An embedding's A is zero and its B normal.
    """
    tensors = _first_draw(shapes)
    if "lora_embedding_B" in tensors:
        nn.init.normal_(tensors["lora_embedding_B"])
        return _only("lora_embedding_B", site, tensors)
    _linear_default(tensors["lora_A"])
    return _only("lora_A", site, tensors)


def gaussian(site: Site, shapes: Shapes) -> Start:
    """Draw A from a normal distribution with standard deviation 1 / R and set B to zero."""
    if "lora_A" not in shapes:
        return kaiming(site, shapes)
    tensors = _first_draw(shapes)
    nn.init.normal_(tensors["lora_A"], std=1 / site.adapter.r)
    return _only("lora_A", site, tensors)


def random(site: Site, shapes: Shapes) -> Start:
    """Draw both A and B, as nn.Linear draws its weight: a change from the first step, for tests."""
    tensors = {name: torch.empty(shape, device="cpu") for name, shape in shapes.items()}
    for name, tensor in tensors.items():
        if name == "lora_bias":
            bound = 1 / math.sqrt(tensors["lora_B"][0].numel())
            nn.init.uniform_(tensor, -bound, bound)
        elif "embedding" in name:
            nn.init.normal_(tensor)
        else:
            _linear_default(tensor)
    return Start({name: rounded(site, tensor) for name, tensor in tensors.items()})


def orthogonal(site: Site, shapes: Shapes) -> Start:
    """Draw A and B at random with B A = 0: their factors are the odd and even rows of one orthogonal matrix."""
    _first_draw(shapes)
    half = site.adapter.r // 2
    rotation, _ = torch.linalg.qr(torch.randn(site.adapter.r, site.adapter.r))
    A = (torch.randn(shapes["lora_A"][1], half) @ rotation[0::2]).T / 10
    B = (torch.randn(half, shapes["lora_B"][0]).T @ rotation[1::2]) / 10
    return Start({"lora_A": rounded(site, A.contiguous()), "lora_B": rounded(site, B.contiguous())})


def before_data(site: Site, shapes: Shapes) -> Start:
    """Start at no change, until `eva.initialize_lora_eva_weights` has seen data."""
    tensors = random(site, shapes).tensors
    return _only("lora_A", site, tensors)


def pissa(site: Site, shapes: Shapes, iterations: int | None = None) -> Start:
    """Start at the R largest singular values of W (Meng et al. 2024); with `iterations`, by a randomized method."""
    weight = site.weight().detach().float()
    _first_draw(shapes)
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
    weight = site.weight().detach().float()
    _first_draw(shapes)
    Q, R = torch.linalg.qr(weight)
    r = site.adapter.r
    return _moved(weight, R[:r].contiguous(), Q[:, :r].contiguous(), site.adapter.scaling)


def loftq(site: Site, shapes: Shapes) -> Start:
    """Start at the error that quantizing W makes (Li et al. 2023); the base keeps the quantized values.

    The adapter makes up for the error whatever s is; PEFT 0.21.2 only where s is 1.
    """
    weight = site.weight().detach().float()
    _first_draw(shapes)
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
    "eva": before_data,
}


def _moved(weight: Tensor, A: Tensor, B: Tensor, scaling: float) -> Start:
    return Start({"lora_A": A, "lora_B": B}, weight - scaling * B @ A)


def _linear_default(tensor: Tensor) -> None:
    nn.init.kaiming_uniform_(tensor, a=math.sqrt(5))


def _first_draw(shapes: Shapes) -> dict[str, Tensor]:
    """Draw as many numbers as the layers of torch that PEFT makes first; most will be overwritten."""
    tensors = {name: torch.empty(shape, device="cpu") for name, shape in shapes.items()}
    for name, tensor in tensors.items():
        if "embedding" in name:
            tensor.normal_()
        else:  # a number in fp64 takes two of the generator's, and less time than two in fp32
            (tensor.view(torch.float64) if tensor.shape[-1] % 2 == 0 else tensor).uniform_()
    return tensors


def _only(drawn: str, site: Site, tensors: dict[str, Tensor]) -> Start:
    """Keep one tensor as it was drawn and set the others to zero."""
    return Start({name: rounded(site, t) if name == drawn else t.zero_() for name, t in tensors.items()})


def _quantized(weight: Tensor, bits: int) -> Tensor:
    """Return W rounded to what bitsandbytes stores: nf4 in blocks of 64, or int8 by rows."""
    from bitsandbytes import functional

    if bits == 4:
        values, state = functional.quantize_4bit(weight.contiguous(), quant_type="nf4")
        return functional.dequantize_4bit(values, state)  # type: ignore[no-any-return]
    scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny) / 127
    return (weight / scale).round() * scale
