"""Which adapter for which row of a batch, and how much of each adapter for which token.

Rows: every row names an adapter, an active set of several with or without weights, or `__base__` for none. Where all
are LoRA on a matrix, two products compute all rows (see `stacking`). Elsewhere each set of adapters computes its own
rows.

Gates: a factor per token and adapter, as X-LoRA's classifier gives them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stack_platform.adapters.compose.low_rank import LowRank
from stack_platform.adapters.mixing.active import BASE, ActiveSet, Choice, active_set
from stack_platform.adapters.mixing.stacking import (
    Chunk,
    Kept,
    add_routed_update,
    chunks_of,
    routed_update,
    spread,
)
from stack_platform.adapters.variants.lora import dropped, update
from stack_platform.adapters.variants.variant import Adapter
from stack_platform.errors import AdapterError

if TYPE_CHECKING:
    from stack_platform.adapters.layer import AdaptedLayer


@dataclass(frozen=True, slots=True)
class Rows:
    """The adapters of each row of a batch."""

    sets: tuple[ActiveSet, ...]
    """What each row asked for; empty for the base model."""
    where: Mapping[str, Tensor] = field(default_factory=dict)
    """Adapter to the numbers of the rows that have it."""
    names: tuple[str, ...] = ()
    """The adapters, sorted."""
    device: torch.device | None = None
    """Where the batch is."""
    # what was worked out for this batch
    _repeated: dict[int, "Rows"] = field(default_factory=dict, compare=False)
    _shares: dict[tuple[tuple[str, ...], tuple[int, ...], torch.dtype], Tensor] = field(
        default_factory=dict, compare=False
    )
    _chunks: dict[tuple[tuple[str, ...], tuple[int, ...], torch.dtype, int, int], tuple[Chunk, ...]] = field(
        default_factory=dict, compare=False
    )
    _stacks: dict[int, Kept] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, choices: Sequence[Choice], device: torch.device | None = None) -> "Rows":
        """Plan a batch of one choice per row.

        Raises: AdapterError for a choice that is none, or a weight that is not finite.
        """
        if isinstance(choices, str | Mapping):
            raise AdapterError(f"adapter_names={choices!r}; write a list with one entry for each row")
        named = [active_set(choice, "adapter_names") for choice in choices]
        sets = tuple(tuple((n, w) for n, w in chosen if n != BASE) for chosen in named)
        groups: dict[str, list[int]] = {}
        for number, chosen in enumerate(sets):
            for name, _ in chosen:
                groups.setdefault(name, []).append(number)
        where = {name: torch.tensor(rows, device=device) for name, rows in sorted(groups.items())}
        return cls(sets, where, tuple(where), device)

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

    def chunks(self, kept: Kept, tokens: int) -> tuple[Chunk, ...]:
        """Return the chunks that compute together, for rows of `tokens` tokens."""
        stacked = kept.stacked
        size = stacked.A.shape[1] + stacked.B.shape[1]
        key = (kept.names, stacked.ranks, stacked.B.dtype, tokens, size)
        if (found := self._chunks.get(key)) is None:
            shares = self.shares(kept.names, stacked.ranks, stacked.B.dtype)
            found = self._chunks[key] = chunks_of(shares, tokens, size)
        return found

    def stack(self, layer: "AdaptedLayer") -> Kept | None:
        """Return the stack of these rows' adapters in a layer, if it was kept and nothing has changed since.

        Looked up once for a layer and a batch: an adapter does not change while the batch is computed.
        """
        if torch.is_grad_enabled():
            return None
        if (found := self._stacks.get(id(layer))) is None:
            found = layer.stacks.find(self.names, tuple(map(layer.adapters.get, self.names)))
            if found is not None:
                self._stacks[id(layer)] = found
        return found


def routed(layer: "AdaptedLayer", rows: Rows, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return the layer's output with each row changed by its own adapters.

    Raises: AdapterError for a module that computes with its weight itself, which is one for all rows; and for weights
    of adapters that are not plain LoRA.
    """
    if not layer.kind.called:
        raise AdapterError(
            f"adapter_names: a {type(layer.base_layer).__name__} has one weight for the whole batch; "
            "run each adapter's rows on their own"
        )
    x = args[0]
    rows = rows.repeated(x.shape[0])
    kept = rows.stack(layer)
    if kept is None or layer.training:
        here = {name: layer.adapters[name] for name in rows.names if name in layer.adapters}
        if not here:
            return layer.base_layer(*args, **kwargs)
        if layer.kind.name != "linear" or not all(_plain(adapter, layer) for adapter in here.values()):
            return _set_by_set(layer, rows, args, kwargs)
    y = layer.base_layer(*args, **kwargs)
    if kept is None or kept.stacked.B.dtype != y.dtype:
        kept = _stacked(layer, rows, y.dtype)
    stacked = kept.stacked
    if torch.is_grad_enabled() or not y.is_contiguous():
        shares = rows.shares(kept.names, stacked.ranks, y.dtype)
        return y + routed_update(x, shares, stacked).to(y.dtype)
    tokens = y.numel() // (y.shape[0] * y.shape[-1])
    return add_routed_update(y, x, rows.chunks(kept, tokens), stacked)


def _stacked(layer: "AdaptedLayer", rows: Rows, dtype: torch.dtype) -> Kept:
    """Stack the adapters of these rows that a layer has."""
    adapters = {name: layer.adapters[name] for name in rows.names if name in layer.adapters}
    tensors = {name: layer.tensors(name) for name in adapters}
    parts = {n: LowRank(t["lora_A"], t["lora_B"], adapters[n].scaling) for n, t in tensors.items()}
    return layer.stacks.make(rows.names, tuple(map(layer.adapters.get, rows.names)), parts, dtype)


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
        uneven = [(name, weight) for name, weight in chosen if weight != 1]
        if others := [(n, w) for n, w in uneven if layer.adapters[n].variant != "lora"]:
            name, weight = others[0]
            raise AdapterError(
                f"adapter_names gives {name!r} the weight {weight}, which only plain LoRA can have; "
                "leave the weight out"
            )
        index = torch.tensor(numbers, device=x.device)
        sites = [layer.site(name, weight) for name, weight in chosen]
        own = (x[index], *rest)
        pieces.append(layer.run(sites, own, kwargs) if sites else layer.base_layer(*own, **kwargs))
        order += numbers
    back = torch.tensor(order, device=x.device).argsort()
    return torch.cat(pieces)[back]
