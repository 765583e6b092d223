import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from stack_platform.adapters.variants import VARIANTS
from stack_platform.adapters.weights import weight_of


def test_scaling_is_alpha_over_rank_and_over_its_root():
    assert VARIANTS["lora"].scaling(32, 16) == 2
    assert VARIANTS["rslora"].scaling(32, 16) == 8
    assert VARIANTS["rslora"].scaling(8, 2) == 8 / math.sqrt(2)


@pytest.mark.parametrize("name", VARIANTS)
@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.floats(0.1, 8))
def test_the_merged_weight_has_the_effect_of_the_forward(name, out_features, in_features, r, alpha):
    rule = VARIANTS[name]
    layer = nn.Linear(in_features, out_features, dtype=torch.float64)
    tensors = {
        key: torch.randn(shape, dtype=torch.float64)
        for key, shape in rule.shapes(out_features, in_features, r).items()
    }
    scale = rule.scaling(alpha, r)
    x = torch.randn(3, in_features, dtype=torch.float64)
    y = rule.forward(x, layer(x), tensors, scale, layer)
    merged = rule.merged(weight_of(layer), tensors, scale)
    torch.testing.assert_close(y, nn.functional.linear(x, merged, layer.bias))
