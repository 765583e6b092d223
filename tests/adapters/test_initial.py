import math

import pytest
import torch

from stack_platform.adapters.initial import INITIALS, gaussian, kaiming

SHAPES = {"lora_A": (64, 100), "lora_B": (50, 64)}
WEIGHT = torch.zeros(50, 100)


@pytest.mark.parametrize("name", [True, "gaussian"])
def test_training_starts_at_no_change(name):
    tensors = INITIALS[name](WEIGHT, SHAPES, None)
    assert not tensors["lora_B"].any()
    assert tensors["lora_A"].all()


def test_false_starts_with_a_change():
    assert INITIALS[False](WEIGHT, SHAPES, None)["lora_B"].all()


def test_kaiming_is_uniform_within_one_over_root_of_inputs():
    a = kaiming(WEIGHT, SHAPES)["lora_A"]
    bound = 1 / math.sqrt(100)
    assert bound * 0.99 < a.abs().max() <= bound
    assert abs(a.std().item() - bound / math.sqrt(3)) < 0.05 * bound


def test_gaussian_has_the_deviation_of_one_over_rank():
    assert abs(gaussian(WEIGHT, SHAPES)["lora_A"].std().item() * 64 - 1) < 0.05


@pytest.mark.parametrize("name", INITIALS)
def test_a_generator_alone_decides_the_values(name):
    first, second = (INITIALS[name](WEIGHT, SHAPES, torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in SHAPES)
    assert {key: tuple(t.shape) for key, t in first.items()} == SHAPES
    assert all(t.dtype == torch.float32 for t in first.values())
