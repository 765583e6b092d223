import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stack_platform.adapters.compose.combine import (
    COMBINATION_TYPES,
    Combination,
    combine_adapters,
    combine_vectors,
)
from stack_platform.adapters.compose.low_rank import LowRank, update
from stack_platform.errors import AdapterError

OUT, IN = 7, 5
FACTORWISE = [kind for kind in COMBINATION_TYPES if not kind.endswith("svd") and kind != "cat"]


def part(seed, rank=3, scaling=2.0, kernel=(), dtype=torch.float64, bias=False):
    draw = torch.Generator().manual_seed(seed)
    A = torch.randn(rank, IN, *kernel, generator=draw, dtype=dtype)
    B = torch.randn(OUT, rank, *[1] * len(kernel), generator=draw, dtype=dtype)
    return LowRank(A, B, scaling, torch.randn(OUT, generator=draw, dtype=dtype) if bias else None)


def generator():
    return torch.Generator().manual_seed(0)


def combination(kind, density=0.5, **settings):
    return Combination(kind, density=None if kind in ("svd", "linear", "cat") else density, **settings)


def combined(parts, weights, how):
    adapters = {str(n): {"layer": one} for n, one in enumerate(parts)}
    return combine_adapters(adapters, weights, how, generator())["layer"]


weights = st.floats(-3, 3, allow_nan=False, width=32)
some = st.lists(
    st.tuples(st.integers(0, 99), st.integers(1, 4), st.sampled_from([0.5, 1.0, 2.0]), weights),
    min_size=1,
    max_size=4,
)


@settings(max_examples=15, deadline=None)
@given(some, st.sampled_from([(), (2,), (3, 3)]))
def test_cat_is_the_sum_of_the_updates(drawn, kernel):
    parts = [part(seed, rank, scaling, kernel) for seed, rank, scaling, _ in drawn]
    factors = [weight for *_, weight in drawn]
    whole = combined(parts, factors, Combination("cat"))
    expected = sum(update(one) * weight for one, weight in zip(parts, factors, strict=True))
    torch.testing.assert_close(update(whole), expected)
    assert whole.rank == sum(one.rank for one in parts)
    assert whole.scaling == 1


@settings(max_examples=15, deadline=None)
@given(some, st.sampled_from([(), (2,), (3, 3)]), st.booleans())
def test_svd_at_full_rank_is_the_sum_of_the_updates(drawn, kernel, dense):
    parts = [part(seed, rank, scaling, kernel) for seed, rank, scaling, _ in drawn]
    factors = [weight for *_, weight in drawn]
    whole = combined(parts, factors, Combination("svd", svd_rank=16, svd_full_matrices=dense))
    expected = sum(update(one) * weight for one, weight in zip(parts, factors, strict=True))
    torch.testing.assert_close(update(whole), expected, atol=1e-6, rtol=1e-6)  # dense weights are fp32
    assert whole.rank == 16


@settings(max_examples=12, deadline=None)
@given(weights, weights, st.floats(0.1, 4))
def test_linear_is_linear_in_each_factor(first, second, factor):
    """Weights w s scaled by c scale the update by c; two equal adapters add up."""
    one, two = part(1, scaling=1.0), part(2, scaling=1.0)
    whole = update(combined([one, two], [first, second], Combination("linear")))
    scaled = update(combined([one, two], [first * factor, second * factor], Combination("linear")))
    torch.testing.assert_close(scaled, whole * factor, atol=1e-5, rtol=1e-4)
    alone = update(combined([one], [first], Combination("linear")))
    torch.testing.assert_close(alone, update(one) * first, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", COMBINATION_TYPES)
def test_one_adapter_of_weight_one_at_density_one_is_itself(kind):
    one = part(3)
    same = combined([one], [1.0], combination(kind, density=1.0))
    torch.testing.assert_close(update(same), update(one), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", ["cat", "svd", "linear", "ties", "magnitude_prune", "ties_svd"])
def test_a_negative_weight_takes_an_update_away(kind):
    one = part(4)
    away = combined([one], [-1.0], combination(kind, density=1.0))
    torch.testing.assert_close(update(away), -update(one), atol=1e-6, rtol=1e-6)


def test_svd_keeps_the_largest_directions_of_one_adapter():
    """PEFT combines one adapter as linear, whatever is asked."""
    one = part(5, rank=4)
    less = combined([one], [1.0], Combination("svd", svd_rank=2))
    values = torch.linalg.svdvals(update(one))
    assert less.rank == 2
    torch.testing.assert_close(torch.linalg.svdvals(update(less))[:2], values[:2])
    torch.testing.assert_close((update(one) - update(less)).norm(), values[2:].norm())


def test_svd_of_factors_and_of_the_matrix_agree():
    parts = [part(6, rank=2), part(7, rank=1)]
    fast = combined(parts, [1.0, -0.5], Combination("svd", svd_rank=2))
    slow = combined(parts, [1.0, -0.5], Combination("svd", svd_rank=2, svd_full_matrices=True))
    torch.testing.assert_close(update(fast), update(slow))


def test_svd_clamp_cuts_both_factors_off_at_their_quantile():
    parts = [part(8), part(9)]
    free = combined(parts, [1.0, 1.0], Combination("svd", svd_full_matrices=True))
    cut = combined(parts, [1.0, 1.0], Combination("svd", svd_clamp=0.9))
    entries = torch.cat([free.B.flatten(), free.A.flatten()])
    high = torch.quantile(entries, 0.9)
    torch.testing.assert_close(cut.A, free.A.clamp(-high, high))
    torch.testing.assert_close(cut.B, free.B.clamp(-high, high))


def test_a_clamp_at_a_negative_quantile_is_refused():
    with pytest.raises(AdapterError, match=r"svd_clamp=0\.01: that quantile .* nearer to 1"):
        combined([part(8), part(9)], [1.0, 1.0], Combination("svd", svd_clamp=0.01))


def test_biases_are_summed_with_weight_and_scaling():
    parts = [part(1, scaling=2.0, bias=True), part(2, scaling=0.5), part(3, scaling=1.0, bias=True)]
    for kind in ("cat", "svd", "linear"):
        whole = combined(parts, [0.5, 1.0, -2.0], Combination(kind))
        torch.testing.assert_close(whole.bias, parts[0].bias * 1.0 - 2.0 * parts[2].bias)


@pytest.mark.parametrize("kind", COMBINATION_TYPES)
def test_formats_are_kept(kind):
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        whole = combined([part(1, dtype=dtype), part(2, dtype=dtype)], [0.5, 1.0], combination(kind))
        assert whole.A.dtype == whole.B.dtype == dtype
        assert torch.isfinite(whole.A).all()


@pytest.mark.parametrize("kind", ["dare_linear", "dare_ties", "dare_ties_svd"])
def test_a_seed_gives_one_result(kind):
    parts = [part(1), part(2)]
    first, second = (combined(parts, [1.0, 1.0], combination(kind)) for _ in range(2))
    torch.testing.assert_close(first.A, second.A, rtol=0, atol=0)
    adapters = {str(n): {"layer": one} for n, one in enumerate(parts)}
    other = combine_adapters(adapters, [1.0, 1.0], combination(kind), torch.Generator().manual_seed(1))
    assert not torch.equal(first.A, other["layer"].A)


def test_dare_keeps_the_expected_update():
    one = LowRank(torch.ones(1, 400), torch.ones(300, 1))
    whole = combined([one], [1.0], Combination("dare_linear_svd", density=0.5, svd_rank=300))
    assert update(whole).mean().item() == pytest.approx(1, abs=0.02)


def test_layers_that_only_some_adapters_have_are_kept_at_one_rank():
    adapters = {"a": {"x": part(1, 2), "y": part(2, 2)}, "b": {"y": part(3, 3), "z": part(4, 3)}}
    whole = combine_adapters(adapters, [1.0, 2.0], Combination("cat"))
    assert list(whole) == ["x", "y", "z"]
    assert {one.rank for one in whole.values()} == {5}
    torch.testing.assert_close(update(whole["x"]), update(adapters["a"]["x"]))
    torch.testing.assert_close(update(whole["z"]), 2 * update(adapters["b"]["z"]))


def test_a_rank_beyond_the_width_of_a_layer_is_padded():
    whole = combined([part(1), part(2)], [1.0, 1.0], Combination("svd", svd_rank=9, svd_full_matrices=True))
    assert whole.A.shape == (9, IN)
    assert whole.B.shape == (OUT, 9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"combination_type": "sdv"}, "combination_type='sdv'; known: svd, linear"),
        ({"combination_type": "ties"}, "density=None; ties keeps a part above 0"),
        ({"combination_type": "dare_linear", "density": 0.0}, "density=0.0; dare_linear"),
        ({"combination_type": "ties_svd", "density": 1.5}, "density=1.5; ties_svd"),
        ({"combination_type": "cat", "density": 0.5}, "density=0.5 changes nothing in cat"),
        ({"combination_type": "linear", "svd_rank": 4}, "svd_rank=4 changes nothing in linear"),
        ({"svd_rank": 0}, "svd_rank=0; a rank is a whole number"),
        ({"svd_clamp": 2.0}, "svd_clamp=2.0; it is a quantile"),
        ({"svd_driver": "qr"}, "svd_driver='qr'; known: gesvd"),
        ({"majority_sign_method": "most"}, "majority_sign_method='most'; known: total, frequency"),
    ],
)
def test_unusable_settings_are_named(settings, message):
    with pytest.raises(AdapterError, match=message):
        Combination(**settings)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], "1 weights for 2 adapters"),
        ([1.0, float("nan")], "weight nan of adapter '1'"),
        ([1.0, "2"], "weight '2'"),
    ],
)
def test_weights_that_do_not_fit_are_named(weights, message):
    with pytest.raises(AdapterError, match=message):
        combined([part(1), part(2)], weights, Combination("cat"))


def test_no_adapters_are_refused():
    with pytest.raises(AdapterError, match="no adapters to combine"):
        combine_adapters({}, [])


@pytest.mark.parametrize("kind", FACTORWISE)
def test_ranks_that_differ_cannot_be_added(kind):
    with pytest.raises(AdapterError, match=rf"layer: ranks 2, 3 differ, and {kind} adds A to A"):
        combined([part(1, 2), part(2, 3)], [1.0, 1.0], combination(kind))


def test_dare_without_a_generator_is_refused():
    with pytest.raises(AdapterError, match=r"dare_ties draws at random; give generator=torch\.Generator"):
        combine_adapters({"a": {"x": part(1)}}, [1.0], combination("dare_ties"))


def test_a_driver_where_there_is_none_is_refused():
    with pytest.raises(AdapterError, match="svd_driver='gesvd' on cpu"):
        combined([part(1), part(2)], [1.0, 1.0], Combination("svd", svd_driver="gesvd"))


def test_a_convolution_with_groups_is_only_combined_by_its_factors():
    grouped = LowRank(torch.randn(4, IN, 3), torch.randn(6, 2, 1))
    assert combined([grouped, grouped], [1.0, 1.0], Combination("linear")).B.shape == (6, 2, 1)
    for kind in ("cat", "svd", "ties_svd"):
        with pytest.raises(AdapterError, match="convolution with groups"):
            combined([grouped, grouped], [1.0, 1.0], combination(kind))


def test_layers_of_other_models_are_refused():
    with pytest.raises(AdapterError, match="one shape of layer"):
        combined([part(1), LowRank(torch.ones(3, 9), torch.ones(OUT, 3))], [1.0, 1.0], Combination("cat"))


def test_vectors_are_summed_and_a_missing_one_is_ones():
    adapters = {
        "a": {"x": torch.tensor([2.0, 3.0])},
        "b": {"x": torch.tensor([1.0, 0.0]), "y": torch.tensor([3.0])},
    }
    whole = combine_vectors(adapters, [0.5, 0.5])
    torch.testing.assert_close(whole, {"x": torch.tensor([1.5, 1.5]), "y": torch.tensor([2.0])})
