"""Which layers a method adapts when nobody says: found from the model's structure, by the names of its repeated blocks.

LoRA and its relatives take, of the first that a model has:

1. query and value projections, also those of low rank (`q_a_proj`, `kv_b_proj` of latent attention);
2. the fused projection (`c_attn`, `qkv_proj`, `query_key_value`, ...);
3. every linear layer of the blocks, as of state-space models and mixers;
4. every convolution of the blocks that has no groups.

(IA)3 takes key and value, or the fused one, and the layer that leads out of the feed-forward part. Free of torch.

Measured on transformers 5.23 (`benchmarks/adapters_defaults.py`): of the 591 architectures that can be built from their
default configuration, 1 and 2 find targets in 531, 3 in 30, 4 in 28. The two without have no layer of torch's in a
repeated block: I-BERT, whose linear layers are its own, and GLM-Image's tokenizer. PEFT's table has 34 of the 591.
"""

import re
from collections.abc import Collection, Sequence

from stack_platform.errors import AdapterError

_BEFORE = r"(?:to_|linear_|project_|projection_|w|w_)?"
_AFTER = r"(?:_proj|_lin|_linear|_proj_linear|_proj_current)?"
_QUERY = re.compile(rf"{_BEFORE}q(uery)?(_a|_b)?{_AFTER}", re.IGNORECASE)
_KEY = re.compile(rf"{_BEFORE}(k(ey)?|kv(_a|_b)?){_AFTER}(_with_mqa)?", re.IGNORECASE)
_VALUE = re.compile(rf"{_BEFORE}(v(alue)?|kv(_a|_b)?){_AFTER}(_with_mqa)?", re.IGNORECASE)
_FUSED = re.compile(
    r"c_attn|w?_?qkv(_proj|_lin)?|query_key_value|attn_qkv|att_proj|in_proj_qkvz?", re.IGNORECASE
)
_IN_ATTENTION = re.compile(r"att(ention|n)[^.]*\.(self\.)?in_proj$", re.IGNORECASE)
_IN_BLOCK = re.compile(r"(^|\.)\d+\.")
_ATTENTION = re.compile(r"att(ention|n)", re.IGNORECASE)


class TargetError(AdapterError):
    """A pattern of the configuration matches no layer, or matches what cannot be adapted."""


def default_targets(
    adaptable: Sequence[str],
    peft_type: str = "LORA",
    narrowing: Collection[str] = (),
    linear: Collection[str] | None = None,
    ungrouped: Collection[str] = (),
) -> tuple[str, ...]:
    """Return the last names of the layers to adapt, or the paths of convolutions.

    `narrowing` are layers with fewer outputs than inputs, `linear` those that are linear (None: all), `ungrouped` the
    convolutions without groups.
    Raises: TargetError when the model has no such layer in a repeated block.

    >>> default_targets(["layers.0.attn.q_proj", "layers.0.attn.k_proj", "layers.0.attn.v_proj", "head"])
    ('q_proj', 'v_proj')
    """
    inside = [path for path in adaptable if _IN_BLOCK.search(path) and (linear is None or path in linear)]
    found = _attention(inside, _KEY if peft_type == "IA3" else _QUERY)
    if not found:
        found = {path.rpartition(".")[2] for path in inside}
    if not found:
        found = {path for path in adaptable if path in ungrouped and _IN_BLOCK.search(path)}
    if not found:
        seen = ", ".join(sorted({path.rpartition(".")[2] for path in adaptable})) or "none"
        raise TargetError(f"no layer in a repeated block found; set target_modules to some of: {seen}")
    if peft_type == "IA3":
        found |= set(feedforward_outputs(adaptable, narrowing))
    return tuple(sorted(found))


def feedforward_outputs(adaptable: Sequence[str], narrowing: Collection[str]) -> tuple[str, ...]:
    """Return the shortest suffixes that name the layers leading out of the feed-forward parts, and no others.

    >>> feedforward_outputs(["h.0.attn.c_proj", "h.0.mlp.c_proj"], ["h.0.mlp.c_proj"])
    ('mlp.c_proj',)
    """
    wanted = [
        path
        for path in adaptable
        if path in narrowing and _IN_BLOCK.search(path) and not _ATTENTION.search(path)
    ]
    others = [path for path in adaptable if path not in set(wanted)]
    suffixes = set()
    for path in wanted:
        parts = path.split(".")
        for depth in range(1, len(parts) + 1):
            suffix = ".".join(parts[-depth:])
            if not any(other == suffix or other.endswith(f".{suffix}") for other in others):
                break
        suffixes.add(suffix)
    return tuple(sorted(suffixes))


def _attention(paths: Sequence[str], first: re.Pattern[str]) -> set[str]:
    last = [path.rpartition(".")[2] for path in paths]
    query = {name for name in last if first.fullmatch(name)}
    value = {name for name in last if _VALUE.fullmatch(name)}
    if query and value:
        return query | value
    fused = {name for name in last if _FUSED.fullmatch(name)}
    return fused or ({"in_proj"} if any(_IN_ATTENTION.search(path) for path in paths) else set())
