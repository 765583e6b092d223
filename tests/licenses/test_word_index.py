from hypothesis import given
from hypothesis import strategies as st

from stack_platform.licenses.word_index import WordIndex

WORDS = st.frozensets(st.sampled_from("abcdef"), max_size=4)


@given(st.lists(WORDS, max_size=12), WORDS)
def test_the_candidates_are_the_sets_within_the_words(needs, words):
    assert WordIndex(needs).candidates(words) == [i for i, need in enumerate(needs) if need <= words]
