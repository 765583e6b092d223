from stack_platform.licenses.restrictions import find_restrictions, is_mostly_license, merge, within
from stack_platform.licenses.tokens import Tokens


def rules(text, anchors=(), closed=False):
    return {
        match.rule for match in find_restrictions(Tokens(text.encode()), list(anchors), [], closed=closed)
    }


def test_code_far_from_a_statement_may_say_anything():
    assert rules("this function must not be used by military software") == set()
    assert "field" in rules("military software", anchors=[(0, 5)])


def test_a_license_file_is_a_closed_world():
    assert "condition" in rules("users must whistle", closed=True)
    assert rules("copyright 2031 ada example", closed=True) == set()


def test_restrictions_that_name_themselves_count_anywhere():
    assert rules("see the commons clause") == {"commons-clause"}


def test_ranges_are_merged_and_searched():
    merged = merge([(10, 20), (0, 3), (15, 25)], by=1)
    assert merged == [(-1, 4), (9, 26)]
    assert [at for at in (-2, 3, 4, 9, 25, 26) if within(at, merged)] == [3, 9, 25]
    assert not within(5, [])


def test_prose_is_a_license_when_most_of_it_is():
    tokens = Tokens(b"one two three four five")
    assert is_mostly_license(tokens, [(0, 15)])
    assert not is_mostly_license(tokens, [(0, 4)])


def test_a_restriction_on_this_file_counts_however_far_the_notice_is():
    assert rules("this code may not be used commercially") == {"non-commercial"}
    assert rules("nobody pays a license fee here") == set()
