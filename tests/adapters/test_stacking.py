import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stack_platform.adapters.compose.low_rank import LowRank, update
from stack_platform.adapters.stacking import (
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
)
def test_chunks_and_one_product_equal_a_loop_over_rows(ranks, data, rows, tokens, dtype):
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
    added = add_routed_update(y.clone(), x, chunks_of(shares, tokens), stacked)
    torch.testing.assert_close(added.float(), y.float() + expected, **close)


def test_long_rows_are_computed_without_other_rows_ranks():
    shares = spread(torch.eye(3), (2, 4, 8))
    chunks = chunks_of(shares, 64)
    assert [chunk.ranks for chunk in chunks] == [slice(0, 2), slice(2, 6), slice(6, 14)]
    assert all(chunk.shares is None for chunk in chunks)


def test_rows_without_adapters_are_in_no_chunk():
    assert chunks_of(torch.zeros(4, 3), 64) == ()


def test_short_rows_share_one_product():
    (chunk,) = chunks_of(spread(torch.eye(3, dtype=torch.bfloat16), (2, 4, 8)), 1)
    assert (chunk.tokens, chunk.ranks) == (None, None)
    assert chunk.shares.shape == (3, 14)


def kept(stacks, parts):
    return stacks.find({name: one.scaling for name, one in parts.items()}, torch.bfloat16)


@torch.no_grad()
def test_a_stack_is_kept_until_an_adapter_changes():
    stacks, parts = Stacks(), {"a": part(2), "b": part(3)}
    assert kept(stacks, parts) is None
    made = stacks.make(parts, torch.bfloat16)
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
        stacks.make(parts, torch.bfloat16)
    stacks.forget_in_training()
    parameter.sum().backward()
    with torch.no_grad():
        stacks.make(parts, torch.bfloat16)
    torch.optim.AdamW([parameter], **settings).step()
    with torch.no_grad():
        assert kept(stacks, parts) is None


@torch.no_grad()
def test_other_scalings_and_new_values_are_changes():
    stacks, parts = Stacks(), {"a": part(2)}
    stacks.make(parts, torch.bfloat16)
    assert stacks.find({"a": 7.0}, torch.bfloat16) is None
    parts["a"].A.data = torch.randn(2, INPUTS)
    assert kept(stacks, parts) is None


@torch.no_grad()
def test_only_the_last_stacks_are_kept():
    stacks = Stacks()
    for number in range(9):
        stacks.make({str(number): part(1)}, torch.float32)
    assert len(stacks.kept) == 4


def test_nothing_is_kept_where_a_change_would_not_be_seen():
    stacks, parts = Stacks(), {"a": part(2)}
    stacks.make(parts, torch.float32)
    with torch.inference_mode():
        stacks.make({"a": part(2)}, torch.float32)  # without versions, a change would not be seen
    assert not stacks.kept
