"""Which adapter for which row of a batch, and how much of each adapter for which token.

Rows: every row names an adapter, an active set of several with or without weights, or `__base__` for none. Where all
are LoRA on a matrix, two products compute all rows (see `stacking`). Elsewhere each set of adapters computes its own
rows.

Gates: a factor per token and adapter, as X-LoRA's classifier gives them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stack_platform.adapters.compose.low_rank import LowRank
from stack_platform.adapters.stacking import Chunk, Stack, add_routed_update, chunks_of, routed_update, spread
from stack_platform.adapters.variants.lora import dropped, update
from stack_platform.adapters.variants.variant import Adapter
from stack_platform.errors import AdapterError

if TYPE_CHECKING:
    from stack_platform.adapters.layer import AdaptedLayer

BASE = "__base__"

Choice = str | Sequence[str] | Mapping[str, float]
"""What a row asks for: an adapter, several, several with weights, or `__base__`."""
ActiveSet = tuple[tuple[str, float], ...]
"""Adapters and their weights, in the order in which they wrap the layer."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The adapters of each row of a batch."""

    sets: tuple[ActiveSet, ...]
    """What each row asked for; empty for the base model."""
    where: Mapping[str, Tensor] = field(default_factory=dict)
    """Adapter to the numbers of the rows that have it."""
    device: torch.device | None = None
    """Where the batch is."""
    # what was worked out for this batch
    _repeated: dict[int, "Rows"] = field(default_factory=dict, compare=False)
    _shares: dict[tuple[tuple[str, ...], tuple[int, ...], torch.dtype], Tensor] = field(
        default_factory=dict, compare=False
    )
    _chunks: dict[tuple[tuple[str, ...], tuple[int, ...], torch.dtype, int], tuple[Chunk, ...]] = field(
        default_factory=dict, compare=False
    )
    _stacks: dict[tuple[int, torch.dtype], tuple[tuple[str, ...], Stack]] = field(
        default_factory=dict, compare=False
    )

    @classmethod
    def of(cls, choices: Sequence[Choice], device: torch.device | None = None) -> "Rows":
        """Plan a batch of one choice per row.

        Raises: AdapterError for a choice that is none, or a weight that is not finite.
        """
        if isinstance(choices, str | Mapping):
            raise AdapterError(f"adapter_names={choices!r}; write a list with one entry for each row")
        sets = tuple(_active_set(choice) for choice in choices)
        groups: dict[str, list[int]] = {}
        for number, chosen in enumerate(sets):
            for name, _ in chosen:
                groups.setdefault(name, []).append(number)
        where = {name: torch.tensor(rows, device=device) for name, rows in sorted(groups.items())}
        return cls(sets, where, device)

    def repeated(self, batch: int) -> "Rows":
        """Return the rows for a batch that repeats each row, as beam search does.

        Raises: AdapterError when the batch has another number of rows.
        """
        if batch == len(self.sets):
            return self
        if batch not in self._repeated:
            times, rest = divmod(batch, len(self.sets)) if self.sets else (0, 1)
            if rest:
                raise AdapterError(
                    f"adapter_names has {len(self.sets)} entries for a batch of {batch}; give one name per row"
                )
            names = [dict(chosen) for chosen in self.sets for _ in range(times)]
            self._repeated[batch] = Rows.of(names, self.device)
        return self._repeated[batch]

    def shares(self, names: tuple[str, ...], ranks: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return the weight of each adapter in each row, once for each of its ranks: [rows, sum of ranks]."""
        key = (names, ranks, dtype)
        if key not in self._shares:
            table = [[dict(chosen).get(name, 0.0) for name in names] for chosen in self.sets]
            self._shares[key] = spread(torch.tensor(table, dtype=dtype, device=self.device), ranks)
        return self._shares[key]

    def chunks(
        self, names: tuple[str, ...], ranks: tuple[int, ...], dtype: torch.dtype, tokens: int
    ) -> tuple[Chunk, ...]:
        """Return the chunks that compute together, for rows of `tokens` tokens."""
        key = (names, ranks, dtype, tokens)
        if key not in self._chunks:
            self._chunks[key] = chunks_of(self.shares(names, ranks, dtype), tokens)
        return self._chunks[key]

    def stack(self, layer: "AdaptedLayer", dtype: torch.dtype) -> tuple[tuple[str, ...], Stack]:
        """Return the adapters of these rows that a layer has, and their stack.

        Looked up once for a layer and a batch: an adapter does not change while the batch is computed.
        """
        if (found := self._stacks.get((id(layer), dtype))) is not None:
            return found
        adapters = layer.adapters
        scalings = {name: adapters[name].scaling for name in self.where if name in adapters}
        stacked = layer.stacks.find(scalings, dtype)
        if stacked is None:
            tensors = {name: layer.tensors(name) for name in scalings}
            parts = {n: LowRank(t["lora_A"], t["lora_B"], scalings[n]) for n, t in tensors.items()}
            stacked = layer.stacks.make(parts, dtype)
        found = tuple(scalings), stacked
        if not torch.is_grad_enabled():
            self._stacks[id(layer), dtype] = found
        return found


def routed(layer: "AdaptedLayer", rows: Rows, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return the layer's output with each row changed by its own adapters.

    Raises: AdapterError for a module that computes with its weight itself, which is one for all rows; and for weights
    of adapters that are not plain LoRA on a matrix.
    """
    if not layer.kind.called:
        raise AdapterError(
            f"adapter_names: a {type(layer.base_layer).__name__} has one weight for the whole batch; "
            "run each adapter's rows on their own"
        )
    x = args[0]
    rows = rows.repeated(x.shape[0])
    here = [layer.adapters[name] for name in rows.where if name in layer.adapters]
    if not here:
        return layer.base_layer(*args, **kwargs)
    if layer.kind.name != "linear" or not all(_plain(adapter, layer) for adapter in here):
        return _set_by_set(layer, rows, args, kwargs)
    y = layer.base_layer(*args, **kwargs)
    names, stacked = rows.stack(layer, y.dtype)
    if torch.is_grad_enabled() or not y.is_contiguous():
        shares = rows.shares(names, stacked.ranks, y.dtype)
        return y + routed_update(x, shares, stacked).to(y.dtype)
    tokens = y[0].numel() // y.shape[-1]
    return add_routed_update(y, x, rows.chunks(names, stacked.ranks, y.dtype, tokens), stacked)


def gated(
    layer: "AdaptedLayer",
    names: list[str],
    gates: Mapping[str, Tensor],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Any:
    """Return the layer's output with each LoRA update multiplied by its gate [batch, tokens(, layers)].

    Raises: AdapterError for an adapter that is no LoRA, or no layer of tokens.
    """
    y = layer.base_layer(*args, **kwargs)
    dtype = y.dtype
    for name in names:
        site = layer.site(name)
        if site.adapter.variant != "lora" or site.kind.name not in ("linear", "embedding"):
            raise AdapterError(
                f"adapter {name!r}: X-LoRA mixes plain LoRA on linear and embedding layers only"
            )
        gate = gates[name]
        gate = gate[..., layer.number] if gate.dim() > 2 else gate
        y = y + update(site, dropped(site, args[0])) * gate.unsqueeze(-1)
    return y.to(dtype)


def _active_set(choice: Choice) -> ActiveSet:
    if isinstance(choice, str):
        choice = [choice]
    if not isinstance(choice, Mapping | Sequence):
        raise AdapterError(
            f"adapter_names has {choice!r}; write a name, several, several with weights, or {BASE!r}"
        )
    weights = choice if isinstance(choice, Mapping) else dict.fromkeys(choice, 1.0)
    for name, weight in weights.items():
        if not isinstance(name, str) or not isinstance(weight, int | float) or not math.isfinite(weight):
            raise AdapterError(
                f"adapter_names has {name!r}: {weight!r}; write names, or names with finite weights"
            )
    return tuple((name, float(weight)) for name, weight in weights.items() if name != BASE)


def _plain(adapter: Adapter, layer: "AdaptedLayer") -> bool:
    """Return whether an adapter is B A x and no more."""
    drops = adapter.dropout and layer.base_layer.training
    return adapter.variant == "lora" and not drops and not getattr(adapter.config, "lora_bias", False)


def _set_by_set(layer: "AdaptedLayer", rows: Rows, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    x, *rest = args
    groups: dict[ActiveSet, list[int]] = {}
    for number, chosen in enumerate(rows.sets):
        here = tuple((name, weight) for name, weight in chosen if name in layer.adapters)
        groups.setdefault(here, []).append(number)
    pieces, order = [], []
    for chosen, numbers in groups.items():
        if uneven := [(name, weight) for name, weight in chosen if weight != 1]:
            name, weight = uneven[0]
            raise AdapterError(
                f"adapter_names gives {name!r} the weight {weight}, which only plain LoRA on linear layers can have; "
                "leave the weight out"
            )
        index = torch.tensor(numbers, device=x.device)
        sites = [layer.site(name) for name, _ in chosen]
        own = (x[index], *rest)
        pieces.append(layer.run(sites, own, kwargs) if sites else layer.base_layer(*own, **kwargs))
        order += numbers
    back = torch.tensor(order, device=x.device).argsort()
    return torch.cat(pieces)[back]
