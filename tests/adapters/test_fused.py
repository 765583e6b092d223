"""The fused operation against the formula as it is written."""

import pytest
import torch
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from stack_platform.adapters.fusing.fused import LowRank, Projection, lora_linear, lora_linears


def draw(*shape, dtype=torch.float64, grad=True):
    return torch.randn(*shape, dtype=dtype).requires_grad_(grad)


def project(inputs, outputs, ranks, *, dtype=torch.float64, factors=None, bias=True, trained=False):
    """Return a layer with adapters of these ranks, and scalings 0.7, 1.4, ..."""
    factors = factors or dtype
    adapters = [
        LowRank(draw(r, inputs, dtype=factors), draw(outputs, r, dtype=factors), 0.7 * (i + 1))
        for i, r in enumerate(ranks)
    ]
    weight = draw(outputs, inputs, dtype=dtype, grad=trained)
    return Projection(weight, draw(outputs, dtype=dtype, grad=trained) if bias else None, tuple(adapters))


def written_out(x, projection):
    y = linear(x, projection.weight, projection.bias)
    for A, B, scaling in projection.adapters:
        y = y + linear(linear(x, A), B) * scaling
    return y


def trainable(*projections):
    found = [t for p in projections for t in (p.weight, p.bias, *(f for a in p.adapters for f in a[:2]))]
    return [t for t in found if t is not None and t.requires_grad]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def several():
    return [project(5, 4, [2, 3]), project(5, 6, [1], bias=False), project(5, 3, [2], trained=True)]


@pytest.mark.parametrize("shape", [(5,), (7, 5), (2, 3, 5), (0, 5)])
def test_outputs_are_the_formulas(several, shape):
    x = draw(*shape)
    for y, p in zip(lora_linears(x, several), several, strict=True):
        torch.testing.assert_close(y, written_out(x, p))


def test_outputs_without_gradients_are_the_same(several):
    x = draw(2, 3, 5)
    with torch.no_grad():
        free = lora_linears(x, several)
    assert all(
        torch.equal(a, b) and not a.requires_grad for a, b in zip(free, lora_linears(x, several), strict=True)
    )


@pytest.mark.parametrize("compute", ["base_dtype", "adapter_dtype"])
def test_outputs_together_are_bit_by_bit_those_alone(compute):
    x = torch.randn(64, 32).bfloat16()
    group = [project(32, n, [4], dtype=torch.bfloat16, factors=torch.float32) for n in (48, 16, 16)]
    together = lora_linears(x, group, compute)
    assert all(torch.equal(y, lora_linear(x, p, compute)) for y, p in zip(together, group, strict=True))


def test_first_and_second_derivatives_are_right(several):
    x = draw(2, 3, 5)
    inputs = (x, *trainable(*several))
    assert torch.autograd.gradcheck(lambda *_: lora_linears(x, several), inputs)
    assert torch.autograd.gradgradcheck(lambda *_: lora_linears(x, several), inputs)


@pytest.mark.parametrize("still", ["x", "A", "B", "x and A"])
def test_what_needs_no_gradient_gets_none_and_the_rest_is_right(still):
    x, p = draw(4, 5), project(5, 3, [2])
    frozen = [{"x": x, "A": p.adapters[0].A, "B": p.adapters[0].B}[name] for name in still.split(" and ")]
    for tensor in frozen:
        tensor.requires_grad_(False)
    wanted = [t for t in (x, *trainable(p)) if t.requires_grad]
    ours = torch.autograd.grad(lora_linear(x, p).sin().sum(), wanted)
    theirs = torch.autograd.grad(written_out(x, p).sin().sum(), wanted)
    torch.testing.assert_close(ours, theirs)


def test_an_output_that_is_not_used_costs_no_gradient(several):
    x = draw(4, 5)
    used = [x, *trainable(several[1])]
    ours = torch.autograd.grad(
        lora_linears(x, several)[1].sum(), [*used, several[0].adapters[0].B], allow_unused=True
    )
    theirs = torch.autograd.grad(written_out(x, several[1]).sum(), used)
    torch.testing.assert_close(ours[:-1], theirs)
    assert ours[-1] is None


def test_one_input_used_twice_adds_up():
    x, p = draw(4, 5), project(5, 5, [2])
    wanted = [x, *trainable(p)]
    ours = torch.autograd.grad(lora_linear(lora_linear(x, p) + x, p).sum(), wanted)
    theirs = torch.autograd.grad(written_out(written_out(x, p) + x, p).sum(), wanted)
    torch.testing.assert_close(ours, theirs)


def test_the_output_may_be_written_to(several):
    x = draw(4, 5)
    for y in lora_linears(x, several):
        y.mul_(2)
    y.sum().backward()
    assert several[2].adapters[0].A.grad is not None


def test_writing_to_an_input_before_the_backward_pass_is_an_error():
    x, p = draw(4, 5), project(5, 3, [2])
    y = lora_linear(x * 1, p)
    with torch.no_grad():
        p.adapters[0].B.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_gives_the_same_gradients(several, reentrant):
    x = draw(4, 5)
    wanted = [x, *trainable(*several)]

    def run(x):
        return sum(y.sin().sum() for y in lora_linears(x, several))

    plain = torch.autograd.grad(run(x), wanted)
    for tensor in wanted:
        tensor.grad = None
    checkpoint(run, x, use_reentrant=reentrant).backward()
    torch.testing.assert_close([t.grad for t in wanted], list(plain))


def relative_error(ours, exact):
    """Of all gradients at once."""
    difference = sum(((a.double() - b) ** 2).sum() for a, b in zip(ours, exact, strict=True))
    return float((difference / sum((b**2).sum() for b in exact)).sqrt())


def narrow_case():
    x = torch.randn(64, 32).bfloat16().requires_grad_()
    p = project(32, 48, [4], dtype=torch.bfloat16, factors=torch.float32)
    wide = Projection(
        p.weight.double(),
        p.bias.double(),
        tuple(
            LowRank(a.A.detach().double().requires_grad_(), a.B.detach().double().requires_grad_(), a.scaling)
            for a in p.adapters
        ),
    )
    x_wide = x.detach().double().requires_grad_()
    direction = torch.randn(64, 48).bfloat16()
    exact = torch.autograd.grad((written_out(x_wide, wide) * direction).sum(), [x_wide, *trainable(wide)])
    return x, p, direction, exact


@pytest.mark.parametrize("compute", ["base_dtype", "adapter_dtype"])
def test_bf16_gradients_are_no_worse_than_those_of_separate_operations(compute):
    x, p, direction, exact = narrow_case()
    wanted = [x, *trainable(p)]
    y = lora_linear(x, p, compute)
    ours = torch.autograd.grad((y * direction).sum(), wanted)
    assert y.dtype is torch.bfloat16
    assert [g.dtype for g in ours] == [torch.bfloat16, torch.float32, torch.float32]
    (A, B, s), dtype = p.adapters[0], torch.bfloat16 if compute == "base_dtype" else torch.float32
    z = (linear(x, p.weight, p.bias) + linear(linear(x.to(dtype), A.to(dtype)), B.to(dtype)) * s).bfloat16()
    theirs = torch.autograd.grad((z * direction).sum(), wanted)
    assert relative_error(ours, exact) <= 1.02 * relative_error(theirs, exact)


def test_the_adapters_own_format_is_more_accurate():
    x, p, direction, exact = narrow_case()
    errors = {
        compute: relative_error(
            torch.autograd.grad((lora_linear(x, p, compute) * direction).sum(), [x, *trainable(p)])[1:],
            exact[1:],
        )
        for compute in ("base_dtype", "adapter_dtype")
    }
    assert errors["adapter_dtype"] < 0.5 * errors["base_dtype"]


@pytest.mark.parametrize("compute", ["base_dtype", "adapter_dtype"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_autocast_chooses_the_format_in_both_directions(compute, dtype):
    x, p = torch.randn(8, 6).requires_grad_(), project(6, 5, [2], dtype=dtype, factors=torch.float32)
    wanted = [x, *trainable(p)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, z = lora_linear(x, p, compute), written_out(x, p)
        ours = torch.autograd.grad(y.sum(), wanted)  # inside, as some training loops do
    theirs = torch.autograd.grad(z.float().sum(), wanted)
    assert y.dtype is torch.bfloat16
    torch.testing.assert_close(y, z, rtol=0.02, atol=0.05)
    torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.1)


def test_a_scaled_loss_scales_the_gradients():
    x, p = torch.randn(8, 6), project(6, 5, [2], dtype=torch.float16, factors=torch.float32)
    grads = []
    for scale in (1.0, 1024.0):
        y = lora_linear(x.half(), p)
        grads.append(torch.autograd.grad((y.float() * scale).sum(), trainable(p)))
    torch.testing.assert_close([g / 1024 for g in grads[1]], list(grads[0]), rtol=1e-2, atol=1e-2)
    (infinite, _) = torch.autograd.grad((lora_linear(x.half(), p).float() * 1e6).sum(), trainable(p))
    assert not infinite.isfinite().all()  # what GradScaler looks for


def test_a_wrong_format_is_the_base_layers_error():
    with pytest.raises(RuntimeError, match="dtype"):
        lora_linear(torch.randn(2, 6), project(6, 5, [2], dtype=torch.float64))


def test_compiled_code_has_no_break_and_the_same_gradients(several):
    x = draw(4, 5)
    wanted = [x, *trainable(*several)]

    def run(x):
        return sum(y.sin().sum() for y in lora_linears(x, several))

    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(torch.autograd.grad(compiled(x), wanted), torch.autograd.grad(run(x), wanted))


def test_function_transforms_work(several):
    x, p = draw(4, 5), several[0]
    found = torch.func.vmap(torch.func.grad(lambda row: lora_linear(row, p).sin().sum()))(x)
    torch.testing.assert_close(found, torch.autograd.grad(written_out(x, p).sin().sum(), x)[0])


def test_an_input_that_is_not_contiguous_is_read_right():
    x, p = draw(5, 3, 4).transpose(0, 2), project(5, 3, [2])
    torch.testing.assert_close(lora_linear(x, p), written_out(x, p))
    torch.testing.assert_close(
        torch.autograd.grad(lora_linear(x, p).sin().sum(), trainable(p)),
        torch.autograd.grad(written_out(x, p).sin().sum(), trainable(p)),
    )
