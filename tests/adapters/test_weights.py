import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from stack_platform.adapters.kinds import kind_of
from stack_platform.adapters.storage.weights import is_adaptable, is_fan_in_fan_out, set_weight, weight_of
from stack_platform.errors import AdapterError


@pytest.fixture(params=["linear", "conv1d"])
def layer(request):
    return nn.Linear(3, 5) if request.param == "linear" else Conv1D(5, 3)


def test_every_storage_shows_its_weight_as_out_by_in(layer):
    assert weight_of(layer).shape == (5, 3)
    x = torch.randn(2, 3)
    torch.testing.assert_close(layer(x), x @ weight_of(layer).T + layer.bias)
    assert is_fan_in_fan_out(kind_of(layer)) == isinstance(layer, Conv1D)
    assert is_adaptable(layer)


def test_a_weight_that_is_set_is_read_back_and_the_old_parameter_keeps_its_bits(layer):
    old = layer.weight
    bits = old.detach().clone()
    new = torch.randn(5, 3)
    assert set_weight(layer, new) is layer
    assert torch.equal(weight_of(layer), new)
    assert torch.equal(old, bits)
    new.zero_()
    assert weight_of(layer).abs().sum() > 0


def test_a_weight_of_another_shape_is_refused(layer):
    with pytest.raises(AdapterError, match="does not fit"):
        set_weight(layer, torch.zeros(3, 3))


def test_what_cannot_be_read_is_refused_by_class():
    assert not is_adaptable(nn.LayerNorm(3))
    with pytest.raises(AdapterError, match="weight of a LayerNorm"):
        weight_of(nn.LayerNorm(3))
    with pytest.raises(AdapterError, match="weight of a LayerNorm"):
        set_weight(nn.LayerNorm(3), torch.zeros(3, 2))


def test_packed_integers_are_not_mistaken_for_a_weight():
    layer = nn.Linear(3, 5)
    layer.weight = nn.Parameter(torch.zeros(8, 1, dtype=torch.uint8), requires_grad=False)
    assert not is_adaptable(layer)
    with pytest.raises(AdapterError, match="not floating point"):
        weight_of(layer)


def test_a_projection_that_attention_reads_without_calling_is_not_adaptable():
    assert not is_adaptable(nn.MultiheadAttention(4, 2).out_proj)
