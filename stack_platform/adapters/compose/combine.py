"""Weighted combination of LoRA adapters into one, under PEFT's names (`add_weighted_adapter`).

    combination_type      the new update
    svd                   sum of w s B A, cut to `svd_rank`; exact at a rank of at least the sum of ranks
    cat                   sum of w s B A, exact; the rank is the sum of ranks
    linear                (sum of sqrt(w s) B) (sum of sqrt(w s) A): cross terms and all, a rough approximation
    ties, dare_linear,    like linear, but A and B are pruned first, and in `*ties` averaged by elected sign
    dare_ties, magnitude_prune
    *_svd                 the same on whole updates s B A, then cut to `svd_rank`

A negative w enters A as -sqrt(|w s|). What is not decomposed is PEFT 0.21.2's result bit for bit; what is decomposed is
the same update to rounding. Where PEFT's result is wrong, ours differs:

- PEFT keeps `use_rslora`, so its new adapter is scaled by sqrt(rank) on top; here the scaling is 1.
- PEFT leaves the biases of `lora_bias` where a new adapter starts; here they are summed.
- With rank patterns, or a rank above a layer's width, PEFT's tensors do not have the rank of their configuration and
  cannot be loaded again; here every layer is padded with zeros to the one rank.
- PEFT keeps the first adapter's `layers_to_transform` and exclusions for all; here every layer of any adapter is there.
- One adapter alone is always combined as `linear` by PEFT; here as asked, so that `svd` lowers its rank.
- PEFT takes a density of 0 (DARE divides by it), an argument its type does not use, too few weights.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stack_platform.adapters.compose.decompose import decompose_matrix, decompose_product
from stack_platform.adapters.compose.low_rank import LowRank, concatenated, padded, summed_bias, update
from stack_platform.adapters.compose.tasks import (
    MAJORITY_SIGNS,
    elected,
    keep_largest,
    keep_random,
    weighted_sum,
)
from stack_platform.errors import AdapterError

_MIXTURES = ("ties", "dare_linear", "dare_ties", "magnitude_prune")
COMBINATION_TYPES = ("svd", "linear", "cat", *_MIXTURES, *(f"{name}_svd" for name in _MIXTURES))
_DRIVERS = (None, "gesvd", "gesvdj", "gesvda")


@dataclass(frozen=True, slots=True)
class Combination:
    """How adapters become one; PEFT's names."""

    combination_type: str = "svd"
    """One of `COMBINATION_TYPES`."""
    svd_rank: int | None = None
    """Rank of the result, for svd; None is the largest of the adapters'."""
    svd_clamp: float | None = None
    """Quantile at which the factors are cut off, for svd; None cuts nothing off."""
    svd_full_matrices: bool = False
    """True decomposes with full matrices, as PEFT does by default; the result is the same, the cost is not."""
    svd_driver: str | None = None
    """cuSOLVER's method, for svd on CUDA: gesvd, gesvdj or gesvda."""
    density: float | None = None
    """Part of the entries that pruning keeps, above 0 up to 1; must be given where there is pruning."""
    majority_sign_method: str = "total"
    """How ties elects signs: by the sum of values, "total", or of signs, "frequency"."""

    def __post_init__(self) -> None:
        kind = self.combination_type
        if kind not in COMBINATION_TYPES:
            raise AdapterError(f"combination_type={kind!r}; known: {', '.join(COMBINATION_TYPES)}")
        if self.majority_sign_method not in MAJORITY_SIGNS:
            known = ", ".join(MAJORITY_SIGNS)
            raise AdapterError(f"majority_sign_method={self.majority_sign_method!r}; known: {known}")
        if self.prunes and (self.density is None or not 0 < self.density <= 1):
            raise AdapterError(f"density={self.density!r}; {kind} keeps a part above 0 and up to 1")
        if not self.prunes and self.density is not None:
            raise AdapterError(f"density={self.density!r} changes nothing in {kind}; leave it out")
        self._check_svd()

    def _check_svd(self) -> None:
        set_fields = {"svd_rank": self.svd_rank, "svd_clamp": self.svd_clamp, "svd_driver": self.svd_driver}
        for name, value in set_fields.items():
            if value is not None and not self.decomposes:
                raise AdapterError(
                    f"{name}={value!r} changes nothing in {self.combination_type}; leave it out"
                )
        rank = self.svd_rank
        if rank is not None and (isinstance(rank, bool) or not isinstance(rank, int) or rank < 1):
            raise AdapterError(f"svd_rank={rank!r}; a rank is a whole number from 1")
        if self.svd_clamp is not None and not 0 < self.svd_clamp <= 1:
            raise AdapterError(f"svd_clamp={self.svd_clamp!r}; it is a quantile above 0 and up to 1")
        if self.svd_driver not in _DRIVERS:
            raise AdapterError(f"svd_driver={self.svd_driver!r}; known: gesvd, gesvdj, gesvda")

    @property
    def decomposes(self) -> bool:
        """Whether whole updates are combined and decomposed."""
        return self.combination_type.endswith("svd")

    @property
    def mixture(self) -> str:
        """The arithmetic, without `_svd`: "linear", or one of the four that prune; "cat"."""
        return "linear" if self.combination_type == "svd" else self.combination_type.removesuffix("_svd")

    @property
    def prunes(self) -> bool:
        """Whether entries are set to zero."""
        return self.mixture in _MIXTURES

    @property
    def random(self) -> bool:
        """Whether they are chosen at random."""
        return self.mixture.startswith("dare")


def combine_adapters(
    adapters: Mapping[str, Mapping[str, LowRank]],
    weights: Sequence[float],
    combination: Combination = Combination(),
    generator: torch.Generator | None = None,
) -> dict[str, LowRank]:
    """Combine adapters, each a mapping of module path to update, with one weight each, into one.

    The result has every path that any adapter has, in sorted order, one rank for all, and scalings of 1. `generator`
    draws what `dare_*` keeps: path by path, all A before all B.
    Raises: AdapterError for no adapters, another number of weights, weights that are not finite, layers that differ
    in shape, ranks that differ where A and B are added, or no generator where one is needed.
    """
    _check_weights(list(adapters), weights)
    rank_if_decomposed = combination.svd_rank or max(
        (part.rank for layers in adapters.values() for part in layers.values()), default=1
    )
    combined: dict[str, LowRank] = {}
    for path in sorted({path for layers in adapters.values() for path in layers}):
        pairs = zip(adapters.values(), weights, strict=True)
        here = [(layers[path], float(weight)) for layers, weight in pairs if path in layers]
        parts, factors = [part for part, _ in here], [weight for _, weight in here]
        try:
            combined[path] = combine_layer(parts, factors, combination, rank_if_decomposed, generator)
        except AdapterError as error:
            raise AdapterError(f"{path}: {error}") from error
    rank = max((part.rank for part in combined.values()), default=1)
    if combination.combination_type == "cat":  # PEFT's rank: that of a layer which all adapters have
        rank = max(
            rank, sum(max((p.rank for p in layers.values()), default=0) for layers in adapters.values())
        )
    elif combination.decomposes:
        rank = rank_if_decomposed
    return {path: padded(part, rank) for path, part in combined.items()}


def combine_layer(
    parts: Sequence[LowRank],
    weights: Sequence[float],
    combination: Combination,
    rank: int,
    generator: torch.Generator | None = None,
) -> LowRank:
    """Combine the updates of one layer; `rank` is that of a decomposition. The result's scaling is 1.

    Raises: AdapterError as `combine_adapters` does.
    """
    _check_shapes(parts)
    if combination.combination_type == "cat":
        return concatenated(parts, weights)
    mix = _mixer(combination, generator)
    if not combination.decomposes:
        return _mixed_factors(parts, weights, mix, combination.combination_type)
    first = parts[0]
    dense = (
        combination.svd_clamp is not None
        or combination.svd_full_matrices
        or combination.svd_driver is not None
    )
    if combination.combination_type == "svd" and not dense:
        wide = torch.promote_types(first.A.dtype, torch.float32)
        whole = concatenated([LowRank(p.A.to(wide), p.B.to(wide), p.scaling) for p in parts], weights)
        B, A = decompose_product(whole.B.flatten(1), whole.A.flatten(1), rank)
    else:
        matrix = mix([update(part) for part in parts], weights)
        B, A = decompose_matrix(
            matrix, rank, combination.svd_clamp, combination.svd_full_matrices, combination.svd_driver
        )
    A = A.reshape(-1, *first.A.shape[1:]).to(first.A.dtype)
    B = B.reshape(first.B.shape[0], -1, *first.B.shape[2:]).to(first.B.dtype)
    return LowRank(A.contiguous(), B.contiguous(), bias=summed_bias(parts, weights))


def combine_vectors(
    adapters: Mapping[str, Mapping[str, Tensor]], weights: Sequence[float]
) -> dict[str, Tensor]:
    """Return the weighted sum of IA3 adapters, each a mapping of module path to vector.

    An adapter without a vector for a layer leaves it as it is, which is a vector of ones; PEFT counts it as zeros.
    Raises: AdapterError for no adapters or weights that do not fit.
    """
    _check_weights(list(adapters), weights)
    shapes = {path: vector for layers in adapters.values() for path, vector in layers.items()}
    return {
        path: weighted_sum([layers.get(path, torch.ones_like(like)) for layers in adapters.values()], weights)
        for path, like in sorted(shapes.items())
    }


_Mix = Callable[[Sequence[Tensor], Sequence[float]], Tensor]


def _mixer(combination: Combination, generator: torch.Generator | None) -> _Mix:
    """Return what combines task tensors."""
    if combination.random and generator is None:
        raise AdapterError(
            f"{combination.combination_type} draws at random; give generator=torch.Generator().manual_seed(0)"
        )

    def mix(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        density = combination.density
        if density is not None and combination.random:
            assert generator is not None
            tensors = [keep_random(tensor, density, generator) for tensor in tensors]
        elif density is not None:
            tensors = [keep_largest(tensor, density) for tensor in tensors]
        if combination.mixture.endswith("ties"):
            return elected(tensors, weights, combination.majority_sign_method)
        return weighted_sum(tensors, weights)

    return mix


def _mixed_factors(parts: Sequence[LowRank], weights: Sequence[float], mix: _Mix, kind: str) -> LowRank:
    ranks = [part.rank for part in parts]
    if len(set(ranks)) > 1:
        raise AdapterError(
            f"ranks {', '.join(map(str, ranks))} differ, and {kind} adds A to A and B to B; write 'cat', 'svd', or "
            f"{kind + '_svd' if kind != 'linear' else 'svd'!r}"
        )
    strengths = [weight * part.scaling for part, weight in zip(parts, weights, strict=True)]
    roots = [math.sqrt(abs(strength)) for strength in strengths]
    signed = [root if strength >= 0 else -root for root, strength in zip(roots, strengths, strict=True)]
    A = mix([part.A for part in parts], signed).to(parts[0].A.dtype)
    B = mix([part.B for part in parts], roots).to(parts[0].B.dtype)
    return LowRank(A, B, bias=summed_bias(parts, weights))


def _check_weights(names: Sequence[str], weights: Sequence[float]) -> None:
    if not names:
        raise AdapterError("no adapters to combine; name at least one")
    if len(names) != len(weights):
        raise AdapterError(
            f"{len(weights)} weights for {len(names)} adapters ({', '.join(names)}); give one for each"
        )
    for name, weight in zip(names, weights, strict=True):
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            raise AdapterError(f"weight {weight!r} of adapter {name!r}; write a finite number")


def _check_shapes(parts: Sequence[LowRank]) -> None:
    outer = {(tuple(part.A.shape[1:]), int(part.B.shape[0])) for part in parts}
    if len(outer) > 1:
        raise AdapterError(
            f"adapters of one model have one shape of layer, not {len(outer)}; load all into one model"
        )
