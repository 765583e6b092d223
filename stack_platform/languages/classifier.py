"""Name the language of a text by what it is made of.

Each language is the mean direction of its training files in the space of `features`, weighted by how few languages
hold a feature (TF-ICF, as linguist's classifier); a text is compared with all of them by the cosine of the angle.
`classifier.npz` holds the strongest weights of each feature in one byte each; `train_classifier.py` makes it and writes
into it what it was trained on.

Known error: languages without training files are never named, a file of a few lines is often a guess, and dialects
(C and Objective-C headers, JSON and its relatives) look alike. Numbers are in docs/languages.md.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stack_platform.languages.features import features

WEIGHTS_FILE = Path(__file__).with_name("classifier.npz")


@dataclass(frozen=True, slots=True)
class Classifier:
    """The weights, by feature: those of feature `f` stand at `starts[f]:starts[f + 1]`."""

    languages: tuple[str, ...]
    """Linguist's names, sorted; the columns."""
    rarity: NDArray[np.float32]
    """Weight of a feature by how few languages hold it."""
    starts: NDArray[np.int32]
    """One more than there are features."""
    columns: NDArray[np.uint16]
    """Language of each weight."""
    weights: NDArray[np.float32]
    """Cosine part of the feature in the language, `rarity` not included."""
    prior: NDArray[np.float32]
    """Factor of each language's cosine, 1 or more: common languages win where the text says little."""

    def scores(self, content: bytes) -> NDArray[np.floating]:
        """Return the cosine with every language times its prior, in their order; zeros where nothing is known."""
        numbers, counts = features(content)
        strengths = counts * self.rarity[numbers]
        length = float(np.sqrt(np.dot(strengths, strengths)))
        starts = self.starts[numbers]
        held = self.starts[numbers + np.uint32(1)] - starts
        ends = np.cumsum(held, dtype=starts.dtype)
        if length == 0 or not ends.size or ends[-1] == 0:
            return np.zeros(len(self.languages))
        at = np.arange(ends[-1], dtype=starts.dtype) + np.repeat(starts - ends + held, held)
        parts = np.repeat(strengths / np.float32(length), held) * self.weights[at]
        return np.bincount(self.columns[at], weights=parts, minlength=len(self.languages)) * self.prior

    def best(self, content: bytes, candidates: Collection[str]) -> str | None:
        """Return the candidate with the largest score, or None where no candidate has one."""
        scores = np.where(np.isin(self.languages, list(candidates)), self.scores(content), 0)
        at = int(scores.argmax())
        return self.languages[at] if scores[at] > 0 else None

    def ranking(self, content: bytes, count: int) -> list[tuple[str, float]]:
        """Return the languages with the largest scores and these, best first; none with a score of 0."""
        scores = self.scores(content)
        order = np.argsort(-scores, kind="stable")[:count]
        return [(self.languages[at], float(scores[at])) for at in order if scores[at] > 0]


@cache
def classifier() -> Classifier:
    """Return the shipped classifier, read on the first call."""
    with np.load(WEIGHTS_FILE) as held:
        starts = np.concatenate([[0], np.cumsum(held["held"])]).astype(np.int32)
        weights = held["weights"].astype(np.float32)
        weights *= np.repeat(held["scale"].astype(np.float32), np.diff(starts))
        return Classifier(
            languages=tuple(str(held["languages"]).split("\n")),
            rarity=held["rarity"].astype(np.float32),
            starts=starts,
            columns=held["columns"],
            weights=weights,
            prior=held["prior"].astype(np.float32),
        )
