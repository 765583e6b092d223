import math

import pytest
import torch
from torch import nn

from stack_platform.adapters.configs.lora import LoraConfig
from stack_platform.adapters.initial import INITIALS, initial_of
from stack_platform.adapters.kinds import LINEAR
from stack_platform.adapters.variants.lora import lora_adapter, lora_shapes
from stack_platform.adapters.variants.variant import Site
from stack_platform.errors import AdapterError

NAMES = [*INITIALS, "pissa_niter_4"]
MOVING = ["pissa", "pissa_niter_4", "olora", "loftq"]


def begin(name, r=8, layer=None, **fields):
    torch.manual_seed(0)
    layer = layer or nn.Linear(24, 16)
    config = LoraConfig(
        r=r,
        init_lora_weights=name,
        **({"loftq_config": {"loftq_bits": 4}} if name == "loftq" else {}) | fields,
    )
    site = Site(lora_adapter(config, "", r, config.lora_alpha), layer, LINEAR)
    return site, initial_of(name)(site, lora_shapes(site))


@pytest.mark.parametrize("name", [True, "gaussian", "eva", "orthogonal"])
def test_training_starts_at_no_change(name):
    _, start = begin(name)
    assert start.weight is None
    product = start.tensors["lora_B"] @ start.tensors["lora_A"]
    assert product.abs().max() < 1e-6
    assert start.tensors["lora_A"].all()


@pytest.mark.parametrize("name", MOVING)
@pytest.mark.parametrize("alpha", [8, 20])
def test_what_moves_into_the_adapter_is_missing_from_the_base(name, alpha):
    site, start = begin(name, lora_alpha=alpha)
    moved = site.adapter.scaling * start.tensors["lora_B"] @ start.tensors["lora_A"]
    assert moved.abs().max() > 0.01
    error = (start.weight + moved - site.weight()).abs().max()
    # the rank is half of the smaller side, so LoftQ leaves part of its error
    assert error < (1e-5 if name != "loftq" else (start.weight - site.weight()).abs().max())


def test_pissa_takes_the_largest_singular_values():
    site, start = begin("pissa", r=4)
    left = torch.linalg.svdvals(start.weight)
    torch.testing.assert_close(left[:12], torch.linalg.svdvals(site.weight().detach())[4:])


def test_more_alternations_of_loftq_come_nearer():
    def error(iterations):
        site, start = begin("loftq", loftq_config={"loftq_bits": 4, "loftq_iter": iterations})
        return (
            start.weight
            + site.adapter.scaling * start.tensors["lora_B"] @ start.tensors["lora_A"]
            - site.weight()
        ).norm()

    assert error(5) < error(1)


def test_false_starts_with_a_change():
    assert begin(False)[1].tensors["lora_B"].all()


def test_kaiming_is_uniform_within_one_over_root_of_inputs():
    a = begin(True, r=64, layer=nn.Linear(100, 64))[1].tensors["lora_A"]
    bound = 1 / math.sqrt(100)
    assert bound * 0.99 < a.abs().max() <= bound
    assert abs(a.std().item() - bound / math.sqrt(3)) < 0.05 * bound


def test_gaussian_has_the_deviation_of_one_over_rank():
    a = begin("gaussian", r=64, layer=nn.Linear(100, 64))[1].tensors["lora_A"]
    assert abs(a.std().item() * 64 - 1) < 0.05


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_alone_decides_the_values(name):
    (_, first), (_, second) = begin(name), begin(name)
    assert all(torch.equal(first.tensors[key], t) for key, t in second.tensors.items())
    assert {key: tuple(t.shape) for key, t in first.tensors.items()} == {"lora_A": (8, 24), "lora_B": (16, 8)}
    assert all(t.dtype == torch.float32 for t in first.tensors.values())


@pytest.mark.parametrize("name", MOVING)
def test_more_directions_than_the_weight_has_are_refused(name):
    with pytest.raises(AdapterError, match="write a rank up to 16"):
        begin(name, r=20)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(AdapterError, match="init_lora_weights='other' is not known; known: True, False"):
        initial_of("other")
