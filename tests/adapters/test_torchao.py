import pytest
import torch
from torch import nn

from stack_platform.adapters import LoraConfig, get_peft_model

torchao = pytest.importorskip("torchao.quantization", reason="needs torchao, which is no dependency")


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_on_a_torchao_weight_trains_and_merges_into_a_dense_layer():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
    torchao.quantize_(net, torchao.Int8WeightOnlyConfig())
    x = torch.randn(4, 64)
    base = net(x)
    model = get_peft_model(net, LoraConfig(r=4, target_modules=["0", "2"], init_lora_weights=False))
    model(x).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    expected = model.eval()(x)
    assert (expected - base).abs().max() > 0.01
    merged = model.merge_and_unload()
    assert type(merged[0].weight) is nn.Parameter
    torch.testing.assert_close(merged(x), expected, rtol=1e-3, atol=1e-3)
