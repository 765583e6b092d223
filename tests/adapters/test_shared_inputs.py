"""Layers that read the same input: together where it is true, alone where it is not."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from stack_platform.adapters.fusing import shared_inputs
from stack_platform.adapters.fusing.fused import LowRank, Projection, lora_linear
from stack_platform.adapters.fusing.shared_inputs import SharedInputs


class Layer(nn.Module):
    """A linear layer with one adapter, as far as sharing needs it."""

    def __init__(self, inputs, outputs, shared):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs), requires_grad=False)
        self.A, self.B = nn.Parameter(torch.randn(2, inputs)), nn.Parameter(torch.randn(outputs, 2))
        self.shared, self.eligible = shared, True

    def forward(self, x):
        return self.shared.output(self, x, projection(self))


def projection(layer):
    return Projection(layer.weight, None, (LowRank(layer.A, layer.B, 0.5),)) if layer.eligible else None


class Attention(nn.Module):
    """Three layers with one input and a fourth with another."""

    def __init__(self):
        super().__init__()
        self.shared = SharedInputs("base_dtype", projection)
        self.q, self.k, self.v, self.o = (Layer(6, n, self.shared) for n in (6, 4, 6, 6))

    def forward(self, x):
        q, k, v = self.q(x), self.k(x), self.v(x)
        return self.o(q * v + k.sum())


@pytest.fixture
def attention():
    torch.manual_seed(0)
    return Attention().double()


@pytest.fixture
def taken(monkeypatch):
    """How many layers each call of the operation computed."""
    sizes = []
    original = shared_inputs.lora_linears

    def counted(x, projections, compute):
        sizes.append(len(projections))
        return original(x, projections, compute)

    monkeypatch.setattr(shared_inputs, "lora_linears", counted)
    return sizes


def alone(model, x):
    """Compute the same, each layer by itself."""
    q, k, v = (lora_linear(x, projection(layer)) for layer in (model.q, model.k, model.v))
    return lora_linear(q * v + k.sum(), projection(model.o))


def gradients(model, y):
    return torch.autograd.grad(y.sin().sum(), [p for p in model.parameters() if p.requires_grad])


def test_the_second_forward_computes_three_layers_in_one(attention, taken):
    for _ in range(3):
        attention(torch.randn(5, 6, dtype=torch.float64))
    assert taken == [1, 1, 1, 1, 3, 1, 3, 1]


def test_outputs_and_gradients_are_those_of_the_layers_alone(attention):
    for _ in range(3):
        x = torch.randn(5, 6, dtype=torch.float64)
        y = attention(x)
        torch.testing.assert_close(y, alone(attention, x))
        torch.testing.assert_close(gradients(attention, y), gradients(attention, alone(attention, x)))


def test_a_follower_with_another_input_computes_its_own(attention, taken):
    x, other = torch.randn(5, 6, dtype=torch.float64), torch.randn(5, 6, dtype=torch.float64)
    attention(x)
    attention(x)
    attention.q(x)
    torch.testing.assert_close(attention.k(other), lora_linear(other, projection(attention.k)))
    taken.clear()
    attention(x)
    assert taken[0] == 1  # those who did not come are not waited for again


def test_an_output_is_handed_out_once(attention, taken):
    x = torch.randn(5, 6, dtype=torch.float64)
    for _ in range(2):
        attention(x)
    taken.clear()
    attention.q(x)
    first, second = attention.k(x), attention.k(x)
    assert first is not second
    assert taken == [3, 1]


def write_to_x(model, x):
    x.add_(1)


def write_to_a(model, x):
    with torch.no_grad():
        model.k.A.add_(1)


def write_to_weight(model, x):
    with torch.no_grad():
        model.k.weight.mul_(2)


def replace_b(model, x):
    model.k.B = nn.Parameter(torch.randn(4, 2, dtype=torch.float64))


def freeze(model, x):
    model.k.A.requires_grad_(False)


@pytest.mark.parametrize("change", [write_to_x, write_to_a, write_to_weight, replace_b, freeze])
def test_an_output_is_never_stale(attention, change):
    x = torch.randn(5, 6, dtype=torch.float64)
    for _ in range(2):
        attention(x)
    attention.q(x)
    change(attention, x)
    y = attention.k(x)
    expected = lora_linear(x, projection(attention.k))
    torch.testing.assert_close(y, expected)
    assert y.requires_grad == expected.requires_grad
    torch.testing.assert_close(
        torch.autograd.grad(y.sum(), attention.k.B), torch.autograd.grad(expected.sum(), attention.k.B)
    )


def test_an_output_without_graph_is_not_used_where_gradients_are_on(attention):
    x = torch.randn(5, 6, dtype=torch.float64)
    for _ in range(2):
        attention(x)
    with torch.no_grad():
        attention.q(x)
    assert attention.k(x).requires_grad


def test_an_output_of_another_format_is_not_used(attention):
    attention.float()
    x = torch.randn(5, 6)
    for _ in range(2):
        attention(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        attention.q(x)
    assert attention.k(x).dtype is torch.float32


def test_a_follower_that_may_not_be_fused_is_left_out(attention, taken):
    x = torch.randn(5, 6, dtype=torch.float64)
    for _ in range(2):
        attention(x)
    attention.k.eligible = False
    taken.clear()
    attention.q(x)
    assert taken == [2]


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("taught", [False, True])
def test_checkpointing_gives_the_same_gradients(attention, taken, reentrant, taught):
    x = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    expected = gradients(attention, alone(attention, x))
    if taught:
        attention(x)
    taken.clear()
    for _ in range(3):
        attention.zero_grad()
        checkpoint(attention, x, use_reentrant=reentrant).sin().sum().backward()
        torch.testing.assert_close(
            [p.grad for p in attention.parameters() if p.requires_grad], list(expected)
        )
    assert (3 in taken) == (taught or reentrant)


def test_inference_mode_computes_each_alone(attention, taken):
    attention(torch.randn(5, 6, dtype=torch.float64))
    taken.clear()
    with torch.inference_mode():
        x = torch.randn(5, 6, dtype=torch.float64)
        torch.testing.assert_close(attention(x), alone(attention, x))
    assert taken == []


def test_a_copied_and_a_pickled_model_learn_anew(attention, taken):
    x = torch.randn(5, 6, dtype=torch.float64)
    for _ in range(2):
        attention(x)
    attention.q(x)  # outputs are waiting now
    for twin in (copy.deepcopy(attention), pickle.loads(pickle.dumps(attention.q))):
        assert twin.shared is not attention.shared
        taken.clear()
        twin(x)
        assert taken[0] == 1
        assert twin.shared.compute == "base_dtype"


def test_inputs_and_outputs_are_let_go(attention):
    inputs = []
    for _ in range(3):
        x = torch.randn(5, 6, dtype=torch.float64)
        inputs.append(weakref.ref(x))
        attention(x).sum().backward()
        del x
    gc.collect()
    assert [reference() for reference in inputs] == [None] * 3


def test_compiled_code_has_no_break(attention):
    x = torch.randn(5, 6, dtype=torch.float64)
    y = torch.compile(attention, backend="aot_eager", fullgraph=True)(x)
    torch.testing.assert_close(y, alone(attention, x))
    torch.testing.assert_close(gradients(attention, y), gradients(attention, alone(attention, x)))
