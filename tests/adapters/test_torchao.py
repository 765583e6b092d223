"""Adapters beside weights of torchao, which is no dependency: 8-bit integers by channel."""

import types

import pytest
import torch
from torch import nn

from stack_platform.adapters import LoraConfig, PeftModel, get_peft_model
from stack_platform.adapters.storage.weights import weight_of

torchao = pytest.importorskip("torchao.quantization", reason="needs torchao, which is no dependency")
pytestmark = pytest.mark.filterwarnings("ignore")
X = torch.randn(4, 64, generator=torch.Generator().manual_seed(2))
TARGETS = {"target_modules": ["0", "2"]}
FREE = {"init_weights": False}
METHODS = {
    "lora": ("LoraConfig", {"r": 4, "init_lora_weights": False}),
    "rslora": ("LoraConfig", {"r": 4, "init_lora_weights": False, "use_rslora": True}),
    "dora": ("LoraConfig", {"r": 4, "init_lora_weights": False, "use_dora": True}),
    "adalora": ("AdaLoraConfig", {"init_r": 4, "total_step": 10, "init_lora_weights": False}),
    "ia3": ("IA3Config", {"init_ia3_weights": False, "feedforward_modules": ["2"]}),
    "vera": ("VeraConfig", FREE | {"r": 8}),
    "loha": ("LoHaConfig", FREE | {"r": 2}),
    "lokr": ("LoKrConfig", FREE | {"r": 2}),
    "oft": ("OFTConfig", FREE | {"oft_block_size": 8}),
    "boft": ("BOFTConfig", FREE | {"boft_block_size": 4}),
}
UNMERGED = {"adalora", "ia3", "loha", "lokr"}
"""PEFT's merge raises beside such weights."""
ROUNDING = 1e-6


def build():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
    torchao.quantize_(net, torchao.Int8WeightOnlyConfig())
    # where PEFT looks up how to quantize again
    config = types.SimpleNamespace(get_apply_tensor_subclass=torchao.Int8WeightOnlyConfig)
    net.hf_quantizer = types.SimpleNamespace(quantization_config=config)
    return net


def apart(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


def test_an_adapter_on_a_torchao_weight_trains_and_merges_into_a_dense_layer():
    base = build()(X)
    model = get_peft_model(build(), LoraConfig(r=4, init_lora_weights=False, **TARGETS))
    model(X).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    expected = model.eval()(X)
    assert (expected - base).abs().max() > 0.01
    merged = model.merge_and_unload()
    assert type(merged[0].weight) is nn.Parameter
    torch.testing.assert_close(merged(X), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.peer
@pytest.mark.parametrize("name", METHODS)
def test_outputs_gradients_files_and_merged_weights_are_pefts(name, tmp_path):
    peft = pytest.importorskip("peft")
    class_name, fields = METHODS[name]
    torch.manual_seed(3)
    theirs = peft.get_peft_model(build(), getattr(peft, class_name)(**fields, **TARGETS))
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = PeftModel.from_pretrained(build(), tmp_path / "theirs", is_trainable=True).train()
    ours.save_pretrained(tmp_path / "ours")
    weights = [(tmp_path / who / "adapter_model.safetensors").read_bytes() for who in ("ours", "theirs")]
    assert weights[0] == weights[1]
    expected, found = theirs.train()(X), ours(X)
    assert apart(found, expected) <= ROUNDING
    expected.square().sum().backward()
    found.square().sum().backward()
    wanted = {key: p.grad for key, p in theirs.named_parameters() if p.requires_grad}
    given = {key: p.grad for key, p in ours.named_parameters() if p.requires_grad}
    assert wanted.keys() == given.keys()
    assert all(
        apart(gradient, wanted[key]) <= ROUNDING for key, gradient in given.items() if gradient is not None
    )
    if name in UNMERGED:
        with pytest.raises(Exception, match=r"."):
            theirs.merge_and_unload()
        return
    before = found.detach()
    dense, packed = ours.merge_and_unload(), theirs.merge_and_unload()
    assert apart(dense(X), before) < 1e-4
    if name == "dora":  # PEFT merges B A and forgets the magnitude
        assert apart(packed(X), before) > 0.05
        return
    assert apart(packed(X), before) < 0.02
    torchao.quantize_(dense, torchao.Int8WeightOnlyConfig())  # PEFT quantizes what it merged
    for number in (0, 2):
        again, kept = weight_of(dense[number]), weight_of(packed[number])
        assert apart(again, kept) < 0.01
        assert ((again - kept).abs() > 1e-6).float().mean() <= (1e-3 if name in ("oft", "boft") else 0)
