"""The loop learns, repeats itself bit for bit, and leaves the model as it found it."""

import math

import numpy as np
import pytest
import torch

from stack_platform.adapters import LoraConfig, get_peft_model
from stack_platform.errors import AdapterError
from stack_platform.training.config import TrainingConfig
from stack_platform.training.loop import learning_rate_at, train

SMALL = {"steps": 12, "batch_size": 4, "block_size": 16, "learning_rate": 2e-2, "warmup_steps": 2}
CPU = {"device": "cpu", "precision": "fp32"}


def config(**changes):
    return TrainingConfig(**{**SMALL, **CPU, **changes})


@pytest.fixture
def blocks():
    """Count up: the next token follows from the last."""
    starts = np.random.default_rng(0).integers(1, 60, (24, 1))
    return (starts + np.arange(16)).astype(np.int32)


@pytest.fixture
def adapted(model):
    def make(**changes):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            lora = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", **changes)
            return get_peft_model(model, lora)

    return make


def adapter_bytes(model):
    trained = sorted((name, p) for name, p in model.named_parameters() if p.requires_grad)
    return b"".join(parameter.detach().numpy().tobytes() for _, parameter in trained)


def test_loss_falls_on_text_that_can_be_learned(adapted, blocks):
    curve = train(adapted(), blocks, config(steps=40))
    assert curve.losses[-1][1] < 0.5 * curve.losses[0][1]
    assert [step for step, _ in curve.losses] == list(range(1, 41))
    assert curve.tokens == 40 * 4 * 16


def test_frozen_parameters_stay_bit_for_bit(adapted, blocks):
    model = adapted()
    frozen = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    train(model, blocks, config(steps=3))
    assert all(torch.equal(p, frozen[n]) for n, p in model.named_parameters() if n in frozen)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_same_run_gives_the_same_bits(adapted, blocks, precision):
    """With dropout, and with a global generator in another state each time."""
    model = adapted(lora_dropout=0.3)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    results = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        model.load_state_dict(start)
        curve = train(model, blocks, config(precision=precision))
        results.append((curve, adapter_bytes(model)))
    assert results[0] == results[1]


def test_another_seed_gives_another_adapter(adapted, blocks):
    model = adapted()
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    results = []
    for seed in (1, 2):
        model.load_state_dict(start)
        train(model, blocks, config(seed=seed))
        results.append(adapter_bytes(model))
    assert results[0] != results[1]


def test_accumulated_batches_are_one_large_batch(adapted, blocks):
    model = adapted()
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    curves = []
    for sizes in ({"batch_size": 4}, {"batch_size": 2, "accumulation": 2}):
        model.load_state_dict(start)
        curves.append([loss for _, loss in train(model, blocks, config(**sizes)).losses])
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-3)


def test_recomputed_activations_change_nothing(adapted, blocks):
    model = adapted()
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    calls = []
    model.get_base_model().model.layers[0].self_attn.register_forward_hook(lambda *_: calls.append(1))
    curves, counts = [], []
    for recompute in (False, True, False):
        calls.clear()
        model.load_state_dict(start)
        curves.append(train(model, blocks, config(gradient_checkpointing=recompute)))
        counts.append(len(calls))
    assert curves[0] == curves[1]
    assert counts[1] - counts[0] == 12
    assert counts[2] == counts[0]


def test_bf16_learns_with_fp32_adapter_weights(model, blocks):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        adapted = get_peft_model(
            model.bfloat16(), LoraConfig(r=8, lora_alpha=16, target_modules="all-linear")
        )
    curve = train(adapted, blocks, config(steps=40, precision="bf16"))
    assert {p.dtype for p in adapted.parameters() if p.requires_grad} == {torch.float32}
    assert curve.losses[-1][1] < 0.5 * curve.losses[0][1]


def test_steps_are_told_while_they_happen(adapted, blocks):
    told = []
    curve = train(adapted(), blocks, config(), lambda *event: told.append(event))
    assert told == [(step, 12, loss) for step, loss in curve.losses]


def test_model_and_random_numbers_are_left_as_they_were(adapted, blocks):
    model = adapted()
    model.eval()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(model, blocks, config(steps=3))
    assert not model.training
    assert torch.equal(torch.rand(3), expected)


def test_loss_that_is_no_number_stops_the_run_with_advice(adapted, blocks):
    model = adapted().eval()
    next(p for p in model.parameters() if p.requires_grad).data.fill_(math.nan)
    with pytest.raises(AdapterError, match=r"step 1 of 12: loss nan.*lower learning_rate \(it was 0.02"):
        train(model, blocks, config())
    assert not model.training


def test_model_without_adapter_is_refused(model, blocks):
    with pytest.raises(AdapterError, match="get_peft_model"):
        train(model.requires_grad_(False), blocks, config())


def test_rate_rises_linearly_and_falls_as_a_cosine():
    schedule = TrainingConfig(steps=10, warmup_steps=4, learning_rate=1.0, final_rate=0.2)
    rates = [learning_rate_at(step, schedule) for step in range(10)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[7] == pytest.approx(0.6)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert 0.2 < rates[9] < 0.3
    assert learning_rate_at(10, schedule) == pytest.approx(0.2)
