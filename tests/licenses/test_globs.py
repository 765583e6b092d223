import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stack_platform.licenses.globs import compile_glob, escape, from_dep5, from_reuse


def matches(pattern, path):
    glob = compile_glob(pattern)
    return re.search(glob.regex, path) is not None and (not glob.literal or glob.prefix == path)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("*.po", ["de.po"], ["po/de.po", "de.pox"]),
        ("**.po", ["de.po", "po/x/de.po"], ["de.poo"]),
        ("src/*", ["src/a.c"], ["src/lib/a.c", "src"]),
        ("src/**", ["src/a.c", "src/lib/a.c"], ["lib/src/a.c"]),
        (r"src/\*.c", ["src/*.c"], ["src/a.c"]),
        (r"back\\slash", ["back\\slash"], ["backslash"]),
        ("what?", ["what?"], ["whats"]),
        ("a.c", ["a.c"], ["abc"]),
        ("**/a.c", ["a.c", "x/y/a.c"], ["xa.c"]),
        ("src/**/a.c", ["src/a.c", "src/x/y/a.c"], ["src/xa.c"]),
        ("**", ["a", "b/c/.d"], []),
        ("docs/*/img/**.png", ["docs/de/img/x/y.png"], ["docs/de/at/img/y.png"]),
        ("ünï [1].txt", ["ünï [1].txt"], ["ünï 1.txt"]),
    ],
)
def test_reuse_patterns_match_whole_paths(pattern, yes, no):
    assert all(matches(from_reuse(pattern), path) for path in yes)
    assert not any(matches(from_reuse(pattern), path) for path in no)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("*", ["a", "b/c/.d"], []),
        ("*.c", ["a.c", "src/deep/a.c"], ["a.cc"]),
        ("src/?.c", ["src/a.c"], ["src/ab.c"]),
        ("*/a.c", ["x/a.c", "x/y/a.c"], ["a.c"]),
        (r"src/\?.c", ["src/?.c"], ["src/a.c"]),
        ("./debian/*", ["debian/rules", "debian/patches/x"], ["x/debian/rules"]),
    ],
)
def test_dep5_stars_cross_slashes(pattern, yes, no):
    assert all(matches(from_dep5(pattern), path) for path in yes)
    assert not any(matches(from_dep5(pattern), path) for path in no)


@given(st.text(min_size=1, max_size=40))
def test_an_escaped_path_matches_itself_only(path):
    glob = compile_glob(escape(path))
    assert glob.literal
    assert glob.prefix == path


def test_patterns_longer_than_any_path_are_none():
    assert compile_glob("*a" * 2000) is None


PATTERNS = st.text(alphabet="ab*/.?", min_size=1, max_size=8)
PATHS = st.text(alphabet="ab*/.?", min_size=1, max_size=8)


@pytest.mark.peer
@given(PATTERNS, PATHS)
def test_reuse_patterns_match_what_the_reuse_tool_matches(pattern, path):
    licensing = pytest.importorskip("reuse.global_licensing")
    assume("***" not in pattern)
    theirs = licensing.AnnotationsItem(paths=[pattern]).matches(path)
    if "**/" in pattern:  # the tool drops the slash: its **/a matches ba, too
        assert theirs or not matches(from_reuse(pattern), path)
    else:
        assert matches(from_reuse(pattern), path) == theirs


@pytest.mark.peer
@given(PATTERNS, PATHS)
def test_dep5_patterns_match_what_python_debian_matches(pattern, path):
    copyright_format = pytest.importorskip("debian.copyright")
    assume(not pattern.startswith("./"))  # ours takes it off: no path of an archive starts with it
    try:
        expected = copyright_format.globs_to_re([pattern]).fullmatch(path) is not None
    except ValueError:  # an escape that the format does not have
        return
    assert matches(from_dep5(pattern), path) == expected
