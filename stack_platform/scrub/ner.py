"""Names in prose, and whatever else a token classification model was trained to find: StarPII and its like.

Optional, because a model costs a thousand times what rules cost. Any model of transformers' token classification with
a fast tokenizer serves, by name or from a folder; its labels are mapped to our types. Texts longer than the model's
window are read in windows that overlap, and a token counts as read by the window in which it stands farthest from
the edge. Method after StarCoder's (Li et al. 2023, section 4): words are put together from B- and I- labels, signs are
stripped, names of up to three letters are dropped.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from stack_platform.errors import ConfigError
from stack_platform.scrub.spans import TYPES, Span

# Labels of StarPII and of models of persons, without B- and I-.
LABELS = {
    "NAME": "NAME", "PER": "NAME", "PERSON": "NAME", "USERNAME": "USERNAME", "EMAIL": "EMAIL", "KEY": "KEY",
    "PASSWORD": "PASSWORD", "IP_ADDRESS": "IP_ADDRESS",
}  # fmt: skip
_STRIPPED = " \t\r\n.,;:!?()[]{}<>\"'`*_/\\"
_SHORTEST = {"NAME": 4, "USERNAME": 4, "KEY": 9, "PASSWORD": 4}


@dataclass(frozen=True, slots=True)
class NerConfig:
    """Which model to ask, and how."""

    model: str  # name on a hub, or a folder
    revision: str | None = None  # of the model; name it, so that results stay what they are
    threshold: float = 0.8  # mean probability of the tokens of a span from which it counts, 0 to 1
    labels: Mapping[str, str] = field(default_factory=lambda: dict(LABELS))  # label of the model -> our type
    window: int = 512  # tokens the model reads at once, special ones included
    overlap: int = 128  # tokens that two windows share
    batch: int = 8  # windows at once
    device: str = "cpu"  # of torch

    def __post_init__(self) -> None:
        unknown = sorted(set(self.labels.values()) - set(TYPES))
        if unknown:
            raise ConfigError(f"{unknown[0]!r} is no type of span; write one of {', '.join(TYPES)}")
        if not 0 < self.threshold <= 1:
            raise ConfigError(
                f"the threshold of the model is {self.threshold}; write a number over 0, up to 1"
            )
        if not 0 <= self.overlap < self.window - 2:
            raise ConfigError(
                f"windows of {self.window} tokens cannot share {self.overlap}; write a smaller overlap"
            )


def recognize(text: str, config: NerConfig) -> list[Span]:
    """Return what a model finds in a text, sorted and disjoint. Raises ConfigError when the model does not load."""
    if not text.strip():
        return []
    import torch

    tokenizer, model, labels = _loaded(config.model, config.revision, config.device)
    encoded = tokenizer(
        text.encode("utf-8", "replace").decode(), truncation=True, max_length=config.window, stride=config.overlap,
        return_overflowing_tokens=True, return_offsets_mapping=True, padding=True, return_tensors="pt",
    )  # fmt: skip
    offsets = encoded.pop("offset_mapping").tolist()
    encoded.pop("overflow_to_sample_mapping", None)
    best: dict[tuple[int, int], tuple[int, str, float]] = {}
    for low in range(0, len(offsets), config.batch):
        inputs = {name: rows[low : low + config.batch].to(config.device) for name, rows in encoded.items()}
        with torch.inference_mode():
            scores, classes = model(**inputs).logits.softmax(-1).max(-1)
        for row, (score, classified) in enumerate(zip(scores.tolist(), classes.tolist(), strict=True)):
            _read(offsets[low + row], score, classified, labels, best)
    return list(_spans(text, best, config))


def _read(
    offsets: list[list[int]],
    scores: list[float],
    classes: list[int],
    labels: Mapping[int, str],
    best: dict[tuple[int, int], tuple[int, str, float]],
) -> None:
    """Note the label of each token of a window, where no other window reads it from farther inside."""
    for place, (start, end) in enumerate(offsets):
        margin = min(place, len(offsets) - 1 - place)
        if end > start and margin > best.get((start, end), (-1, "", 0.0))[0]:
            best[start, end] = (margin, labels[classes[place]], scores[place])


def _spans(
    text: str, best: dict[tuple[int, int], tuple[int, str, float]], config: NerConfig
) -> Iterator[Span]:
    """Put tokens together to spans."""
    open_: list[tuple[int, int, float]] = []
    kind = ""
    for (start, end), (_, label, score) in sorted(best.items()):
        mark, _, name = label.rpartition("-")
        new = config.labels.get(name.upper(), "")
        continues = new and new == kind and mark != "B" and not text[open_[-1][1] : start].strip()
        if not continues:
            yield from _span(text, open_, kind, config)
            open_ = []
        kind = new
        if new:
            open_.append((start, end, score))
    yield from _span(text, open_, kind, config)


def _span(text: str, tokens: list[tuple[int, int, float]], kind: str, config: NerConfig) -> Iterator[Span]:
    if not tokens:
        return
    start, end = tokens[0][0], tokens[-1][1]
    value = text[start:end]
    start += len(value) - len(value.lstrip(_STRIPPED))
    end -= len(value) - len(value.rstrip(_STRIPPED))
    score = sum(token[2] for token in tokens) / len(tokens)
    if end - start >= _SHORTEST.get(kind, 1) and score >= config.threshold:
        yield Span(start, end, kind, f"ner.{kind.lower()}", round(score, 4))


@lru_cache(maxsize=2)
def _loaded(name: str, revision: str | None, device: str) -> tuple[Any, Any, Mapping[int, str]]:
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
        model = AutoModelForTokenClassification.from_pretrained(name, revision=revision).to(device).eval()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the model {name!r} does not load: {error}; name a folder with a token classification model, or log in "
            "where the model asks for it"
        ) from error
    if not tokenizer.is_fast:
        raise ConfigError(f"the tokenizer of {name!r} tells no places; name a model with a fast tokenizer")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, model, {int(index): str(label) for index, label in model.config.id2label.items()}
