import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.scrub import syntax
from stack_platform.scrub.syntax import grammar_of, parses, regions

SNIPPETS = {
    "a.sh": "# note\necho 'hi'\n", "a.c": "/* note */ char *s = \"hi\";\n", "a.cs": '// note\nvar s = "hi";\n',
    "a.cpp": '// note\nauto s = "hi";\n', "a.css": "/* note */ a { b: 'hi' }\n",
    "a.go": 'package a // note\nvar s = "hi"\n',
    "a.html": "<!-- note --><p>hi</p>\n",
    "a.java": '// note\nclass A { String s = "hi"; }\n', "a.js": "// note\nlet s = 'hi'\n",
    "a.kt": '// note\nval s = "hi"\n', "a.lua": "-- note\nlocal s = 'hi'\n", "a.php": "<?php // note\n$s = 'hi';\n",
    "a.py": "# note\ns = 'hi'\n", "a.rb": "# note\ns = 'hi'\n", "a.rs": '// note\nconst S: &str = "hi";\n',
    "a.scala": '// note\nval s = "hi"\n', "a.swift": '// note\nlet s = "hi"\n', "a.toml": '# note\ns = "hi"\n',
    "a.ts": "// note\nlet s: string = 'hi'\n", "a.tsx": "// note\nlet s = 'hi'\n", "a.yaml": "# note\ns: 'hi'\n",
}  # fmt: skip


@pytest.mark.parametrize("path", SNIPPETS)
def test_comments_and_literals_of_every_language_are_found(path):
    text = SNIPPETS[path]
    found = {region.kind: text[region.start : region.end] for region in regions(text, path)}
    assert parses(text, path)
    assert "note" in found["comment"]
    assert any("hi" in content for kind, content in found.items() if kind != "comment")


def test_every_grammar_is_tried():
    assert {grammar_of(path) for path in SNIPPETS} | {"json"} == set(syntax._GRAMMARS)
    assert parses('{"a": 1}', "a.json")


def test_what_does_not_parse_is_known():
    assert parses("def f(:\n", "a.py") is False


def test_places_count_code_points():
    text = "# é😀\ns = 'ß'\n"
    assert [text[region.start : region.end] for region in regions(text, "a.py")] == ["# é😀", "'ß'"]


@pytest.mark.parametrize("path", ["a", "a.unknown", "py"])
def test_nobody_can_tell_without_a_grammar(path):
    assert parses("x", path) is None
    assert regions("x", path) is None


def test_a_long_text_is_not_parsed(monkeypatch):
    monkeypatch.setattr(syntax, "MAX_LENGTH", 3)
    assert parses("x=1\n", "a.py") is None


@given(st.text(max_size=80))
def test_any_text_has_sorted_disjoint_regions(text):
    last = 0
    for region in regions(text, "a.js") or []:
        assert last <= region.start <= region.end <= len(text)
        last = region.end


def test_time_is_linear_also_beyond_ascii():
    def seconds(count):
        text = "# é\n" * count
        began = time.process_time()
        assert len(regions(text, "a.py")) == count
        return time.process_time() - began

    assert min(seconds(40_000) for _ in range(2)) < 30 * min(seconds(4_000) for _ in range(2)) + 0.2
