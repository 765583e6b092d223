import copy
import pickle

import pytest
import torch
from torch import nn

from stack_platform.adapters.layer import AdaptedLayer
from stack_platform.adapters.variants.variant import Adapter
from stack_platform.errors import AdapterError


def adapted(dropout=0.0, dtype=torch.float32, scaling=2):
    torch.manual_seed(1)
    layer = AdaptedLayer(nn.Linear(4, 3, dtype=dtype))
    layer.add(
        "a",
        Adapter("lora", None, 2, 4, scaling, dropout),
        {"lora_A": torch.randn(2, 4), "lora_B": torch.randn(3, 2)},
    )
    layer.switch.active = ("a",)
    return layer


X = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


def test_the_output_is_the_base_plus_the_scaled_product():
    layer = adapted()
    a, b = layer.tensors("a").values()
    torch.testing.assert_close(layer(X), layer.base_layer(X) + 2 * X @ a.T @ b.T)


def test_parameters_have_pefts_names():
    assert {name for name, _ in adapted().named_parameters()} == {
        "base_layer.weight",
        "base_layer.bias",
        "lora_A.a.weight",
        "lora_B.a.weight",
    }


def test_an_inactive_or_disabled_adapter_changes_nothing():
    layer = adapted()
    base = layer.base_layer(X)
    layer.switch.enabled = False
    assert torch.equal(layer(X), base)
    layer.switch.enabled, layer.switch.active = True, ("other",)
    assert torch.equal(layer(X), base)


def test_active_adapters_add_up():
    layer = adapted()
    one = layer(X)
    tensors = {name: t.detach().clone() for name, t in layer.tensors("a").items()}
    layer.add("b", layer.adapters["a"], tensors)
    layer.switch.active = ("a", "b")
    torch.testing.assert_close(layer(X) - one, one - layer.base_layer(X))


def test_dropout_acts_in_training_only():
    layer = adapted(dropout=0.5)
    assert not torch.equal(layer.train()(X), layer(X))
    layer.eval()
    assert torch.equal(layer(X), layer(X))
    torch.testing.assert_close(layer(X), adapted()(X))


def test_the_output_keeps_the_dtype_of_the_base():
    layer = adapted(dtype=torch.bfloat16)
    y = layer(X.bfloat16())
    assert y.dtype == torch.bfloat16
    assert layer.tensors("a")["lora_A"].dtype == torch.float32


def test_autocast_runs_forward_and_backward():
    layer = adapted()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(X)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert layer.tensors("a")["lora_A"].grad.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_unmerging_restores_every_bit(dtype):
    layer = adapted(dtype=dtype)
    parameter = layer.weight
    bits = parameter.detach().clone()
    layer.merge(adapter_names=["a"])
    assert not torch.equal(layer.weight, bits)
    layer.unmerge()
    assert layer.weight is parameter
    assert torch.equal(layer.weight, bits)


@pytest.mark.parametrize("scaling", [2, 0.3])
def test_a_merged_layer_computes_the_same(scaling):
    layer = adapted(scaling=scaling)
    before = layer(X)
    layer.merge(adapter_names=["a"])
    torch.testing.assert_close(layer(X), before, rtol=1e-5, atol=1e-5)


def test_a_bf16_merge_is_rounded_once():
    layer = adapted(dtype=torch.bfloat16)
    a, b = layer.tensors("a").values()
    exact = (layer.weight.double() + 2 * b.double() @ a.double()).float().bfloat16()
    layer.merge(adapter_names=["a"])
    assert torch.equal(layer.weight, exact)


def test_merging_twice_merges_once_and_an_unknown_name_merges_nothing():
    layer = adapted()
    layer.merge(adapter_names=["other"])
    assert layer.merged_adapters == ()
    layer.merge(adapter_names=["a"])
    merged = layer.weight.clone()
    layer.merge(adapter_names=["a"])
    assert torch.equal(layer.weight, merged)
    layer.unmerge()
    assert not layer.merged


def with_second():
    layer = adapted()
    layer.add("b", layer.adapters["a"], {name: t.detach() * 0.5 for name, t in layer.tensors("a").items()})
    return layer


def test_a_second_adapter_joins_what_is_merged_from_the_original_weight():
    layer = with_second()
    layer.merge(adapter_names=["a", "b"])
    at_once = layer.weight.clone()
    layer.unmerge()
    layer.merge(adapter_names=["a"])
    layer.merge(safe_merge=True, adapter_names=["b"])
    assert torch.equal(layer.weight, at_once)


def test_a_merge_of_one_layer_that_is_not_finite_is_refused_when_asked():
    layer = with_second()
    layer.merge(adapter_names=["b"])
    before = layer.weight.clone()
    with torch.no_grad():
        layer.tensors("a")["lora_B"][0, 0] = torch.nan
    with pytest.raises(AdapterError, match="merging b, a gives values that are not finite"):
        layer.merge(safe_merge=True)
    assert torch.equal(layer.weight, before)
    assert layer.merged_adapters == ("b",)


def test_one_layer_can_be_told_its_adapter_and_the_others_keep_theirs():
    one, other = with_second(), adapted()
    one.switch = other.switch
    one.set_adapter("b")
    assert (one.active_adapter, other.active_adapter) == ("b", "a")
    assert {n: p.requires_grad for n, p in one.named_parameters() if "lora_A" in n} == {
        "lora_A.a.weight": False,
        "lora_A.b.weight": True,
    }
    one.enable_adapters(False)
    assert (one.disable_adapters, other.disable_adapters) == (True, False)
    assert torch.equal(one(X), one.get_base_layer()(X))


def test_scales_are_read_set_and_reset_by_rank_and_alpha():
    layer = adapted()
    layer.scale_layer(3.0)
    assert layer.scaling == {"a": 6.0}
    layer.unscale_layer(2.0)
    assert layer.scaling == {"a": 3.0}
    layer.unscale_layer()
    assert (layer.scaling, layer.r, layer.lora_alpha) == ({"a": 2.0}, {"a": 2}, {"a": 4})
    layer.set_scale("a", 0.5)
    layer.set_scale("unknown", 0.5)
    assert layer.scaling["a"] == 1.0
    with pytest.raises(TypeError, match="does not support item assignment"):
        layer.scaling["a"] = 7.0


def test_the_difference_a_merge_makes_can_be_asked_for():
    layer = adapted()
    a, b = layer.tensors("a").values()
    torch.testing.assert_close(layer.get_delta_weight("a"), 2 * b @ a)


def test_the_original_is_no_part_of_the_state_of_a_merged_layer():
    layer = adapted()
    keys = layer.state_dict().keys()
    layer.merge(adapter_names=["a"])
    assert layer.state_dict().keys() == keys


def test_a_layer_moved_while_merged_unmerges_in_its_new_dtype():
    layer = adapted()
    layer.merge(adapter_names=["a"])
    layer.double()
    layer.unmerge()
    assert layer.weight.dtype == torch.float64


def test_a_removed_adapter_leaves_no_parameters():
    layer = adapted()
    layer.remove("a")
    assert {name for name, _ in layer.named_parameters()} == {"base_layer.weight", "base_layer.bias"}
    assert torch.equal(layer(X), layer.base_layer(X))


def test_a_layer_can_be_copied_and_pickled():
    layer = adapted()
    assert torch.equal(copy.deepcopy(layer)(X), layer(X))
    assert torch.equal(pickle.loads(pickle.dumps(layer))(X), layer(X))


def test_it_answers_for_the_base_layer():
    layer = adapted()
    assert (layer.in_features, layer.out_features) == (4, 3)
    assert layer.weight is layer.base_layer.weight
    assert layer.bias is layer.base_layer.bias
