"""Every variant by name, and every method of PEFT to its variant: the one place to add to."""

from collections.abc import Callable
from typing import Any

from stack_platform.adapters.configs.fields import PeftConfig, PeftType
from stack_platform.adapters.variants.adalora import ADALORA, adalora_adapter
from stack_platform.adapters.variants.boft import BOFT, boft_adapter
from stack_platform.adapters.variants.dora import DORA
from stack_platform.adapters.variants.ia3 import IA3_INPUTS, IA3_OUTPUTS, ia3_adapter
from stack_platform.adapters.variants.loha import LOHA, loha_adapter
from stack_platform.adapters.variants.lokr import LOKR, lokr_adapter
from stack_platform.adapters.variants.lora import LORA, lora_adapter
from stack_platform.adapters.variants.oft import OFT, oft_adapter
from stack_platform.adapters.variants.tokens import TOKENS, tokens_adapter
from stack_platform.adapters.variants.variant import Adapter, Variant
from stack_platform.adapters.variants.vera import VERA, vera_adapter

VARIANTS: dict[str, Variant] = {
    "adalora": ADALORA,
    "boft": BOFT,
    "dora": DORA,
    "ia3_inputs": IA3_INPUTS,
    "ia3_outputs": IA3_OUTPUTS,
    "loha": LOHA,
    "lokr": LOKR,
    "lora": LORA,
    "oft": OFT,
    "tokens": TOKENS,
    "vera": VERA,
}

METHODS: dict[str, Callable[[Any, str, int, float], Adapter]] = {
    PeftType.ADALORA: adalora_adapter,
    PeftType.BOFT: boft_adapter,
    PeftType.IA3: ia3_adapter,
    PeftType.LOHA: loha_adapter,
    PeftType.LOKR: lokr_adapter,
    PeftType.LORA: lora_adapter,
    PeftType.OFT: oft_adapter,
    PeftType.TRAINABLE_TOKENS: tokens_adapter,
    PeftType.VERA: vera_adapter,
}
"""`peft_type` to the function (configuration, path, rank, alpha) -> adapter."""


def variant_of(adapter: Adapter) -> Variant:
    """Return the functions of an adapter."""
    return VARIANTS[adapter.variant]


def adapter_of(config: PeftConfig, path: str, r: int, alpha: float) -> Adapter:
    """Return the adapter that a configuration puts at a path."""
    return METHODS[str(config.peft_type)](config, path, r, alpha)
