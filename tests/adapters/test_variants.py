"""Every variant on every kind of layer obeys the laws that the adapted layer builds on."""

import math

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from stack_platform.adapters import (
    AdaLoraConfig,
    BOFTConfig,
    IA3Config,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
    TrainableTokensConfig,
    VeraConfig,
)
from stack_platform.adapters.layer import AdaptedLayer
from stack_platform.adapters.saved import Shared
from stack_platform.adapters.variants.boft import butterfly
from stack_platform.adapters.variants.loha import FactorProduct
from stack_platform.adapters.variants.lokr import factorization
from stack_platform.adapters.variants.oft import nearest_divisor
from stack_platform.adapters.variants.table import VARIANTS, adapter_of, variant_of
from stack_platform.adapters.variants.variant import Site
from stack_platform.errors import AdapterError

LAYERS = {
    "linear": (lambda: nn.Linear(12, 8), (3, 12)),
    "linear without bias": (lambda: nn.Linear(12, 8, bias=False), (3, 12)),
    "Conv1D": (lambda: Conv1D(8, 12), (3, 12)),
    "embedding": (lambda: nn.Embedding(12, 8), None),
    "conv1d": (lambda: nn.Conv1d(4, 8, 3, padding=1), (2, 4, 7)),
    "conv2d": (lambda: nn.Conv2d(4, 8, 3, stride=2, padding=1), (2, 4, 6, 6)),
    "conv2d 1x1": (lambda: nn.Conv2d(4, 8, 1), (2, 4, 5, 5)),
    "conv2d dilated": (
        lambda: nn.Conv2d(4, 8, 3, dilation=2, padding=2, padding_mode="reflect"),
        (2, 4, 6, 6),
    ),
    "conv2d grouped": (lambda: nn.Conv2d(4, 8, 3, groups=2), (2, 4, 6, 6)),
    "conv3d": (lambda: nn.Conv3d(4, 8, 2), (2, 4, 3, 3, 3)),
}
CONFIGS = {
    "lora": LoraConfig(r=2, init_lora_weights=False),
    "rslora": LoraConfig(r=2, lora_alpha=5, init_lora_weights=False, use_rslora=True),
    "lora_bias": LoraConfig(r=2, init_lora_weights=False, lora_bias=True),
    "dora": LoraConfig(r=2, init_lora_weights=False, use_dora=True),
    "loha": LoHaConfig(r=2, init_weights=False),
    "loha effective": LoHaConfig(r=2, init_weights=False, use_effective_conv2d=True),
    "lokr": LoKrConfig(r=1, init_weights=False),
    "lokr both": LoKrConfig(r=1, init_weights=False, decompose_both=True, use_effective_conv2d=True),
    "lokr large": LoKrConfig(r=8, init_weights=False, decompose_factor=2),
    "ia3_outputs": IA3Config(target_modules=["x"], init_ia3_weights=False),
    "ia3_inputs": IA3Config(target_modules=["x"], feedforward_modules=["x"], init_ia3_weights=False),
    "vera": VeraConfig(r=4, init_weights=False),
    "oft": OFTConfig(oft_block_size=4, init_weights=False),
    "oft exact": OFTConfig(
        r=2, oft_block_size=0, init_weights=False, use_cayley_neumann=False, block_share=True
    ),
    "oft bounded": OFTConfig(oft_block_size=4, init_weights=False, coft=True, eps=0.1),
    "boft": BOFTConfig(boft_block_size=2, init_weights=False),
    "boft butterfly": BOFTConfig(boft_block_size=2, boft_n_butterfly_factor=2, init_weights=False),
    "adalora": AdaLoraConfig(init_r=3, total_step=10, init_lora_weights=False),
    "tokens": TrainableTokensConfig(token_indices=[1, 7], init_weights=False),
}


def adapted(config, build, dtype=torch.float64):
    torch.manual_seed(0)
    layer = AdaptedLayer(build().to(dtype))
    adapter = adapter_of(
        config, "x", getattr(config, "r", 0), getattr(config, "lora_alpha", getattr(config, "alpha", 1))
    )
    variant = variant_of(adapter)
    site = Site(adapter, layer.base_layer, layer.kind)
    holders = {}
    if variant.shared is not None:
        for name, tensor in variant.shared(config, [(30, 40)]).items():
            holders[name] = Shared()
            holders[name].add("a", tensor.to(dtype), persistent=True)
    start = variant.initial(site, variant.shapes(site))
    layer.add("a", adapter, {name: t.to(dtype) for name, t in start.tensors.items()}, holders)
    layer.switch.active = ("a",)
    return layer.eval()


def pairs():
    for name, config in CONFIGS.items():
        for kind, (build, shape) in LAYERS.items():
            variant = variant_of(adapter_of(config, "x", 2, 1))
            layer = AdaptedLayer(build())
            supported = layer.kind.name in variant.kinds
            # a bias of B needs one to merge into; grouped convolutions of LoRA have no weight
            odd = (name == "lora_bias" and kind in ("linear without bias", "embedding")) or (
                "grouped" in kind
                and variant_of(adapter_of(config, "x", 2, 1))
                in (VARIANTS["lora"], VARIANTS["dora"], VARIANTS["adalora"])
            )
            odd |= name == "boft butterfly" and "grouped" in kind  # nine blocks
            if supported and not odd:
                yield pytest.param(config, build, shape, id=f"{name}-{kind}")


def input_for(shape):
    generator = torch.Generator().manual_seed(1)
    if shape is None:
        return torch.tensor([[0, 1, 7, 11], [1, 1, 2, 7]])
    return torch.randn(shape, dtype=torch.float64, generator=generator)


PAIRS = list(pairs())


@pytest.mark.parametrize(("config", "build", "shape"), PAIRS)
@pytest.mark.filterwarnings("ignore:.*does not divide")
def test_the_merged_layer_has_the_effect_of_the_forward(config, build, shape):
    layer, x = adapted(config, build), input_for(shape)
    base, y = layer.base_layer(x), layer(x)
    assert (y - base).abs().max() > 1e-3
    layer.merge(adapter_names=["a"])
    torch.testing.assert_close(layer(x), y, rtol=1e-9, atol=1e-9)
    layer.unmerge()
    assert torch.equal(layer(x), y)


@pytest.mark.parametrize(("config", "build", "shape"), PAIRS)
@pytest.mark.filterwarnings("ignore:.*does not divide")
def test_every_tensor_gets_a_gradient_and_no_base_weight_changes(config, build, shape):
    layer, x = adapted(config, build, torch.float32), input_for(shape)
    before = {name: p.detach().clone() for name, p in layer.base_layer.named_parameters()}
    layer.train()(x if shape is None else x.float()).square().sum().backward()
    for name, tensor in layer.tensors("a").items():
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name
    assert all(torch.equal(p, before[name]) for name, p in layer.base_layer.named_parameters())


@pytest.mark.parametrize("name", [n for n in CONFIGS if "both" not in n and "large" not in n])
def test_the_usual_start_changes_nothing(name):
    config = CONFIGS[name]
    field = next(f for f in ("init_lora_weights", "init_ia3_weights", "init_weights") if hasattr(config, f))
    kind = "embedding" if name == "tokens" else "linear"
    from dataclasses import replace

    layer, x = adapted(replace(config, **{field: True}), LAYERS[kind][0]), input_for(LAYERS[kind][1])
    torch.testing.assert_close(layer(x), layer.base_layer(x), rtol=1e-7, atol=1e-7)


def test_adapters_of_several_methods_wrap_one_another_and_merge_alike():
    torch.manual_seed(0)
    layer = adapted(CONFIGS["lora"], LAYERS["linear"][0])
    for name in ("oft", "dora", "ia3_outputs", "boft", "loha"):
        other = adapted(CONFIGS[name], LAYERS["linear"][0])
        if name == "dora":  # LoRA's tensors may stand beside its own under another adapter name
            pass
        layer.add(name, other.adapters["a"], {k: t.detach() for k, t in other.tensors("a").items()})
    layer.switch.active = ("a", "oft", "dora", "loha", "ia3_outputs")
    x = input_for((3, 12))
    y = layer(x)
    layer.merge(adapter_names=layer.switch.active)
    torch.testing.assert_close(layer(x), y, rtol=1e-9, atol=1e-9)


def test_a_grouped_convolution_runs_with_lora_and_refuses_to_merge():
    layer = adapted(CONFIGS["lora"], LAYERS["conv2d grouped"][0])
    assert layer(input_for((2, 4, 6, 6))).shape == (2, 8, 4, 4)
    with pytest.raises(AdapterError, match="with 2 groups cannot be merged"):
        layer.merge(adapter_names=["a"])
    with pytest.raises(AdapterError, match="with 2 groups; write a multiple of 2"):
        adapted(LoraConfig(r=3), LAYERS["conv2d grouped"][0])


def test_dropout_acts_in_training_only_for_every_method_that_has_one():
    for config in (
        LoraConfig(r=2, init_lora_weights=False, lora_dropout=0.5),
        LoraConfig(r=2, init_lora_weights=False, lora_dropout=0.5, use_dora=True),
        VeraConfig(r=4, init_weights=False, vera_dropout=0.5),
        AdaLoraConfig(init_r=3, total_step=10, init_lora_weights=False, lora_dropout=0.5),
        LoHaConfig(r=2, init_weights=False, rank_dropout=0.5),
        LoKrConfig(r=1, init_weights=False, module_dropout=0.5),
        OFTConfig(oft_block_size=3, init_weights=False, module_dropout=0.5),
        BOFTConfig(boft_block_size=2, init_weights=False, boft_dropout=0.5),
    ):
        layer, x = adapted(config, LAYERS["linear"][0]), input_for((3, 12))
        quiet = layer(x)
        assert torch.equal(layer(x), quiet)
        layer.train()
        assert any(not torch.equal(layer(x), quiet) for _ in range(8)), config.peft_type
        merged = layer.merged_weight(["a"])[0]
        torch.testing.assert_close(x @ merged.T + layer.bias, quiet)  # a merge knows no dropout
        assert layer.training


def test_scaling_is_alpha_over_rank_and_over_its_root():
    assert adapter_of(LoraConfig(), "", 16, 32).scaling == 2
    assert adapter_of(LoraConfig(use_rslora=True), "", 16, 32).scaling == 8
    assert adapter_of(LoraConfig(use_rslora=True), "", 2, 8).scaling == 8 / math.sqrt(2)


def test_a_rotation_keeps_lengths():
    layer, x = adapted(CONFIGS["oft exact"], LAYERS["linear"][0]), input_for((3, 12))
    site = layer.site("a")
    turned = variant_of(site.adapter).inputs(site, x)
    torch.testing.assert_close(turned.norm(dim=1), x.norm(dim=1))


def test_block_sizes_that_do_not_fit():
    with pytest.warns(UserWarning, match="oft_block_size=5 does not divide 12; 4 is taken here"):
        adapted(OFTConfig(oft_block_size=5), LAYERS["linear"][0])
    assert nearest_divisor(12, 5) == 4
    with pytest.raises(AdapterError, match="boft_block_size=5 does not divide the 12 inputs"):
        adapted(BOFTConfig(boft_block_size=5), LAYERS["linear"][0])
    with pytest.raises(AdapterError, match="needs an even block size"):
        adapted(BOFTConfig(boft_block_size=3, boft_n_butterfly_factor=2), LAYERS["linear"][0])
    assert sorted(butterfly(12, 3, 1)) == list(range(12))


def test_factors_are_the_nearest_divisors():
    assert [factorization(n) for n in (128, 16, 127, 1)] == [(8, 16), (4, 4), (1, 127), (1, 1)]
    assert factorization(128, 4) == (4, 32)
    assert factorization(10, 4) == (2, 5)


def test_tokens_beyond_the_vocabulary_or_none_are_refused():
    with pytest.raises(AdapterError, match="12 is beyond the vocabulary of 12"):
        adapted(TrainableTokensConfig(token_indices=[12]), LAYERS["embedding"][0])
    with pytest.raises(AdapterError, match="token_indices is empty"):
        adapted(TrainableTokensConfig(), LAYERS["embedding"][0])


def test_only_the_named_rows_change():
    layer = adapted(CONFIGS["tokens"], LAYERS["embedding"][0])
    x = torch.arange(12)
    changed = (layer(x) != layer.base_layer(x)).any(dim=1)
    assert changed.nonzero().flatten().tolist() == [1, 7]


def test_the_product_of_loha_is_differentiated_twice():
    torch.manual_seed(0)
    shapes = (5, 3), (3, 4), (5, 3), (3, 4)
    factors = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    A1, B1, A2, B2 = factors
    assert torch.equal(FactorProduct.apply(*factors), (A1 @ B1) * (A2 @ B2))
    assert torch.autograd.gradcheck(FactorProduct.apply, factors)
    assert torch.autograd.gradgradcheck(FactorProduct.apply, factors)
