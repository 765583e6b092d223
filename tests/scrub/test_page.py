import re
from html.parser import HTMLParser

import pytest

from stack_platform.scrub.page import comparison_page
from stack_platform.scrub.redact import ScrubConfig


def material(line):
    """Tell secrets from the armor of key blocks, which a surrogate keeps."""
    return not re.match("-----|PuTTY|Encryption|Comment|P[a-z]+-Lines", line)


HOSTILE = "<script>alert(1)</script>&\"'"


class Checker(HTMLParser):
    """Keep the open elements, and what is loaded from elsewhere."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        assert not {"src", "href", "onload"} & {name for name, _ in attrs}
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def files(samples):
    return [
        (f"{HOSTILE}/{place}.py", HOSTILE + "\n" + sample.text)
        for place, sample in enumerate(samples.values())
    ]


def test_a_page_is_well_formed_and_loads_nothing(files):
    checker = Checker()
    checker.feed(comparison_page(files))
    assert checker.open == []
    assert "script" not in checker.seen


def test_no_secret_is_on_the_page_and_every_surrogate_is(files, samples):
    page = comparison_page(files)
    for sample in samples.values():
        for line in sample.value.split("\n"):
            assert len(line) < 12 or line not in page or not material(line)
    assert len(re.findall("<ins ", page)) >= len(samples)


def test_figures_are_drawn_by_type_and_level(files):
    page = comparison_page(files[:1])
    assert page.count("<svg") == 4
    assert "PRIVATE_KEY" in page
    assert comparison_page(files[:1], figures={}).count("<svg") == 0


def test_only_lines_near_a_change_are_shown(samples):
    text = "".join(f"line {n}\n" for n in range(100)) + samples["email"].text
    page = comparison_page([("a.py", text)], figures={})
    assert "line 98" in page
    assert "line 50" not in page


def test_long_lines_are_cut_between_characters(samples):
    text = "&" * 500 + "\n" + samples["email"].text + "x = '" + "&" * 9000 + samples["email"].value + "'\n"
    page = comparison_page([("a.py", text)], figures={})
    assert len(page) < 30_000
    assert not re.search(r"&(?!amp;|lt;|gt;|quot;|#)", page)


def test_the_level_is_named():
    assert "<b>strict</b>" in comparison_page([], ScrubConfig("strict"), {})
