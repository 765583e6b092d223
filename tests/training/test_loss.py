"""Chunked cross-entropy is the plain one."""

import copy
import math

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from torch.nn.functional import cross_entropy

from stack_platform.training import loss as losses
from stack_platform.training.loss import NextTokenLoss, chunked_cross_entropy, held_out_loss
from stack_platform.training.precision import resolve_precision

FP32 = resolve_precision("fp32", "cpu")


class Counting(nn.Linear):
    """A head that remembers how many rows of logits it made at a time."""

    def __init__(self, *args):
        super().__init__(*args)
        self.rows = []

    def forward(self, x):
        """Remember the rows."""
        self.rows.append(len(x))
        return super().forward(x)


def gradients_of(loss, *tensors):
    return torch.autograd.grad(loss, tensors)


def plain(model, tokens):
    logits = model(input_ids=tokens).logits[:, :-1]
    return cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())


class Capped(nn.Linear):
    """A head whose backward pass reads its outputs, which therefore may not be overwritten."""

    def forward(self, x):
        """Squeeze the logits."""
        return 3 * torch.tanh(super().forward(x))


def draw(head=nn.Linear, dtype=torch.float32, bias=True):
    """Return 50 hidden states, their targets, and a frozen head of 300 logits that are far apart."""
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = head(16, 300, bias=bias, dtype=dtype).requires_grad_(False)
    made.weight.mul_(5)
    hidden = torch.randn(50, 16, generator=generator).to(dtype).requires_grad_()
    return hidden, made, torch.randint(0, 300, (50,), generator=generator)


@pytest.fixture
def rows_of_two(monkeypatch):
    """Let a cache hold two rows of 300 logits."""
    monkeypatch.setattr(losses, "_CACHED_LOGITS", 600)


@pytest.mark.usefixtures("rows_of_two")
@pytest.mark.parametrize("head", [nn.Linear, Capped])
@pytest.mark.parametrize("trainable_head", [False, True])
@pytest.mark.parametrize("chunk", [1, 7, 50, 64])
def test_chunked_loss_and_gradients_are_the_plain_ones(chunk, trainable_head, head):
    hidden, head, targets = draw(head)
    head.requires_grad_(trainable_head)
    wanted = [hidden, head.weight, head.bias] if trainable_head else [hidden]
    expected = cross_entropy(head(hidden), targets)
    loss = chunked_cross_entropy(hidden, head, targets, chunk)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    pairs = zip(gradients_of(3 * loss, *wanted), gradients_of(3 * expected, *wanted), strict=True)
    for found, right in pairs:
        torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-7)


@pytest.mark.usefixtures("rows_of_two")
@pytest.mark.parametrize("head", [nn.Linear, Capped])
@pytest.mark.parametrize("autocast", [False, True])
def test_in_bf16_the_gradient_is_as_near_to_the_exact_one(head, autocast):
    """Without autocast all is bf16; under it hidden states and head are fp32."""
    hidden, head, targets = draw(head, torch.float32 if autocast else torch.bfloat16)
    wide = hidden.detach().double().requires_grad_()
    exact_loss = cross_entropy(copy.deepcopy(head).double()(wide), targets)
    (exact,) = gradients_of(exact_loss, wide)

    def error(loss):
        (found,) = gradients_of(loss, hidden)
        assert found.dtype is hidden.dtype
        return (found.double() - exact).norm() / exact.norm()

    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        plain_loss = cross_entropy(head(hidden).float(), targets)
        loss = chunked_cross_entropy(hidden, head, targets, 7)
    torch.testing.assert_close(loss, plain_loss, rtol=1e-6, atol=0)
    assert loss.dtype is torch.float32
    assert 0 < error(loss) <= 1.1 * error(plain_loss) < 0.02


def test_logits_beyond_the_range_of_the_exponential_are_fine():
    hidden, head, targets = draw()
    head.weight.mul_(200)
    expected = cross_entropy(head(hidden), targets)
    assert expected > 500
    loss = chunked_cross_entropy(hidden, head, targets, 16)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradients_of(loss, hidden), gradients_of(expected, hidden))


def test_hooks_on_the_head_act_and_keep_what_they_were_given():
    hidden, head, targets = draw()
    kept = []
    head.register_forward_hook(lambda _module, _args, logits: kept.append(logits) or torch.tanh(logits))
    expected = cross_entropy(head(hidden), targets)
    loss = chunked_cross_entropy(hidden, head, targets, 50)
    torch.testing.assert_close(gradients_of(loss, hidden), gradients_of(expected, hidden))
    assert torch.equal(kept[0], kept[1])


@pytest.mark.parametrize("needs_gradient", [False, True])
def test_logits_never_exist_whole(needs_gradient):
    head = Counting(8, 30).requires_grad_(False)
    hidden = torch.randn(25, 8, requires_grad=needs_gradient)
    chunked_cross_entropy(hidden, head, torch.zeros(25, dtype=torch.long), 10)
    assert head.rows == [10, 10, 5]


def test_loss_of_a_model_is_the_plain_one(model):
    tokens = torch.randint(0, 264, (3, 20), generator=torch.Generator().manual_seed(2))
    loss = NextTokenLoss(model, 16)
    assert loss.parts is not None
    torch.testing.assert_close(loss(tokens), plain(model, tokens), rtol=1e-6, atol=0)


def test_model_that_caps_its_logits_takes_the_plain_path():
    """Gemma 2 squeezes its logits after the head; head(decoder(x)) would be another model."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.Gemma2Config(
            vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=1, head_dim=8, final_logit_softcapping=0.5, initializer_range=0.5,
        )  # fmt: skip
        model = transformers.Gemma2ForCausalLM(config).eval()
    tokens = torch.randint(0, 50, (2, 12), generator=torch.Generator().manual_seed(2))
    loss = NextTokenLoss(model, 4)
    assert loss.parts is None
    torch.testing.assert_close(loss(tokens), plain(model, tokens))


def test_held_out_loss_is_the_mean_over_all_predictions(model):
    """The last batch is smaller than the others and must not count as much."""
    blocks = np.random.default_rng(3).integers(0, 264, (5, 12), dtype=np.int32)
    tokens = torch.from_numpy(blocks).long()
    with torch.no_grad():
        expected = plain(model, tokens).item()
    model.train()
    measured = held_out_loss(NextTokenLoss(model, 9), blocks, 110, 2, FP32)
    assert model.training
    assert measured.tokens == 5 * 11
    assert measured.nats_per_token == pytest.approx(expected, rel=1e-6)
    assert measured.bits_per_byte == pytest.approx(expected * 55 / math.log(2) / 110, rel=1e-6)


def test_model_that_knows_nothing_needs_the_logarithm_of_the_vocabulary(model):
    nn.init.zeros_(model.lm_head.weight)
    blocks = np.arange(20, dtype=np.int32).reshape(2, 10)
    measured = held_out_loss(NextTokenLoss(model, 9), blocks, 18, 2, FP32)
    assert measured.nats_per_token == pytest.approx(math.log(264), rel=1e-6)


def test_text_without_bytes_has_no_bits_per_byte(model):
    measured = held_out_loss(NextTokenLoss(model, 9), np.zeros((1, 4), dtype=np.int32), 0, 1, FP32)
    assert math.isnan(measured.bits_per_byte)
