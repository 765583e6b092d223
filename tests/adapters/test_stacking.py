import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stack_platform.adapters.compose.low_rank import LowRank, update
from stack_platform.adapters.mixing.stacking import (
    Stacks,
    add_routed_update,
    chunks_of,
    routed_update,
    spread,
    stack,
)

INPUTS, OUTPUTS = 6, 5


def part(rank, scaling=1.5):
    return LowRank(torch.randn(rank, INPUTS), torch.randn(OUTPUTS, rank), scaling)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.data(),
    st.integers(1, 7),
    st.sampled_from([1, 3, 16, 40]),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    st.sampled_from([1, INPUTS + OUTPUTS, 10**5, 10**9]),
)
def test_chunks_and_one_product_equal_a_loop_over_rows(ranks, data, rows, tokens, dtype, size):
    torch.manual_seed(0)
    parts = [part(rank) for rank in ranks]
    share = st.sampled_from([0.0, 0.0, 1.0, 0.5, -2.0])
    table = torch.tensor([[data.draw(share) for _ in ranks] for _ in range(rows)], dtype=dtype)
    x, y = torch.randn(rows, tokens, INPUTS).to(dtype), torch.randn(rows, tokens, OUTPUTS).to(dtype)
    stacked = stack(parts, dtype)
    shares = spread(table, stacked.ranks)
    expected = torch.stack(
        [
            x[n].float() @ sum(update(one) * float(table[n, k]) for k, one in enumerate(parts)).T
            for n in range(rows)
        ]
    )
    close = {"rtol": 0.05, "atol": 2.0} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-3}
    torch.testing.assert_close(routed_update(x, shares, stacked).float(), expected, **close)
    added = add_routed_update(y.clone(), x, chunks_of(shares, tokens, size), stacked)
    torch.testing.assert_close(added.float(), y.float() + expected, **close)


def test_long_rows_of_large_layers_are_computed_without_other_rows_ranks():
    shares = spread(torch.eye(3), (2, 4, 8))
    chunks = chunks_of(shares, 64, 8192)
    assert [chunk.ranks for chunk in chunks] == [slice(0, 2), slice(2, 6), slice(6, 14)]
    assert [chunk.tokens for chunk in chunks] == [slice(0, 64), slice(64, 128), slice(128, 192)]
    assert all(chunk.shares is None for chunk in chunks)


def test_neighbors_of_one_adapter_are_one_chunk():
    shares = spread(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), (4, 8))
    assert [chunk.tokens for chunk in chunks_of(shares, 64, 8192)] == [slice(0, 128), slice(128, 192)]


def test_rows_without_adapters_are_in_no_chunk():
    assert chunks_of(torch.zeros(4, 3), 64, 16) == ()
    (chunk,) = chunks_of(torch.tensor([[0.0], [1.0], [0.0]]), 64, 16)
    assert chunk.tokens == slice(64, 128)


def test_short_rows_or_small_layers_share_one_product():
    shares = spread(torch.eye(3, dtype=torch.bfloat16), (2, 4, 8))
    for tokens, size in ((1, 8192), (64, 16)):
        (chunk,) = chunks_of(shares, tokens, size)
        assert (chunk.tokens, chunk.ranks) == (None, None)
        assert chunk.shares.shape == (3 * tokens, 14)


def asked(parts):
    """Return names and what is known of each adapter; here its scaling stands for all of that."""
    return tuple(parts), tuple(one.scaling for one in parts.values())


def kept(stacks, parts):
    return stacks.find(*asked(parts))


def make(stacks, parts, dtype=torch.bfloat16):
    return stacks.make(*asked(parts), parts, dtype)


@torch.no_grad()
def test_a_stack_is_kept_until_an_adapter_changes():
    stacks, parts = Stacks(), {"a": part(2), "b": part(3)}
    assert kept(stacks, parts) is None
    made = make(stacks, parts)
    assert (made.names, made.stacked.ranks) == (("a", "b"), (2, 3))
    assert kept(stacks, parts) is made
    parts["a"].A.add_(1)
    assert kept(stacks, parts) is None


@pytest.mark.parametrize("settings", [{}, {"foreach": True}, {"fused": True}])
def test_an_optimizer_step_is_a_change(settings):
    """A fused step leaves the version; the training step before it forgets the stack, or its gradient keeps none."""
    stacks, parts = Stacks(), {"a": part(2)}
    parameter = torch.nn.Parameter(parts["a"].A)
    parts = {"a": LowRank(parameter, parts["a"].B)}
    with torch.no_grad():
        make(stacks, parts)
    stacks.forget_in_training()
    parameter.sum().backward()
    with torch.no_grad():
        make(stacks, parts)
    torch.optim.AdamW([parameter], **settings).step()
    with torch.no_grad():
        assert kept(stacks, parts) is None


@torch.no_grad()
def test_other_adapters_of_the_name_and_new_values_are_changes():
    stacks, parts = Stacks(), {"a": part(2)}
    make(stacks, parts)
    assert stacks.find(("a",), (7.0,)) is None
    parts["a"].A.data = torch.randn(2, INPUTS)
    assert kept(stacks, parts) is None


@torch.no_grad()
def test_only_the_last_stacks_are_kept():
    stacks = Stacks()
    for number in range(9):
        make(stacks, {str(number): part(1)}, torch.float32)
    assert len(stacks.kept) == 4


def test_nothing_is_kept_where_a_change_would_not_be_seen():
    stacks, parts = Stacks(), {"a": part(2)}
    make(stacks, parts, torch.float32)
    with torch.inference_mode():
        make(stacks, {"a": part(2)}, torch.float32)  # without versions, a change would not be seen
    assert not stacks.kept
