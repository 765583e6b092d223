"""Tells which phrases a text can hold at all, from the set of its words.

Method: an inverted index. A phrase stands under the one of its words that the fewest phrases need; it is a
candidate when all its words occur in the text. A candidate may still be absent, a phrase that is none
cannot be present, so the search that follows finds the same with and without the index. Cost: one set
intersection for a text, then the few phrases that share a rare word with it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class WordIndex:
    """Numbered sets of words, each the words that one phrase needs."""

    def __init__(self, needs: Sequence[frozenset[str]]) -> None:
        counts = Counter(word for need in needs for word in need)
        self._always: list[int] = []
        self._by_word: dict[str, list[tuple[int, frozenset[str]]]] = {}
        for i, need in enumerate(needs):
            if need:
                rarest = min(need, key=lambda word: (counts[word], -len(word), word))
                self._by_word.setdefault(rarest, []).append((i, need))
            else:
                self._always.append(i)
        self._keys = frozenset(self._by_word)

    def candidates(self, words: frozenset[str]) -> list[int]:
        """List the numbers of the sets that lie within `words`, in order.

        >>> WordIndex([frozenset({"a", "b"}), frozenset(), frozenset({"c"})]).candidates(frozenset("ac"))
        [1, 2]
        """
        found = [i for word in self._keys & words for i, need in self._by_word[word] if need <= words]
        return sorted(self._always + found)
