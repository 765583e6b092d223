from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack_platform.quality.markup import count_visible


def visible(page):
    data = np.frombuffer(page.encode(), np.uint8)
    return int(count_visible(data, np.array([0]), np.array([data.size]))[0])


class Reader(HTMLParser):
    """The standard library's parser, keeping the text outside of script and style."""

    def __init__(self):
        super().__init__()
        self.parts, self.hidden = [], 0

    def handle_starttag(self, tag, _attrs):
        self.hidden += tag in {"script", "style"}

    def handle_endtag(self, tag):
        self.hidden -= tag in {"script", "style"}

    def handle_data(self, data):
        if not self.hidden:
            self.parts.append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    reader.close()
    return len(" ".join("".join(reader.parts).replace("\u00a0", "_").split()))


WORDS = st.text(st.sampled_from("abc é漢.;=\"'/- \n\t"), max_size=12)
ATTRIBUTES = st.sampled_from(["", " class=x", ' title="a > b"', " on='x<y>z'", ' a = "1>2" b'])


def element(children):
    return st.builds(
        lambda tag, attributes, inner: f"<{tag}{attributes}>{inner}</{tag}>",
        st.sampled_from(["p", "DIV", "b", "span-x"]),
        ATTRIBUTES,
        children,
    )


HIDDEN = st.sampled_from(
    [
        "<script>if (a < b) x = '<p>';</script>",
        "<STYLE type=a>p > b {}</STYLE >",
        "<!-- <b> -- x -->",
        "<!DOCTYPE html>",
        "<br/>",
        "<?xml version='1'?>",
    ]
)
PAGES = st.recursive(
    st.one_of(WORDS, HIDDEN, st.sampled_from(["&amp;", "&lt;", "&#65;", "a & b"])),
    lambda children: st.one_of(element(children), st.lists(children, max_size=4).map("".join)),
    max_leaves=12,
)


@given(PAGES)
@settings(max_examples=200, deadline=None)
def test_visible_text_is_what_the_standard_library_reads(page):
    assert visible(page) == read(page)


@pytest.mark.parametrize(
    ("page", "count"),
    [
        ("", 0),
        ("  \n ", 0),
        ("a < b and c<3", 13),
        ("<p>one</p>\n\n   <p>two</p>", 7),
        ("<script>hidden", 0),
        ("<script>a</scripted>b</script>c", 1),
        ("<!-- open", 0),
        ("<!-->x", 1),
        ("a<b", 1),
        ("<", 1),
        ("</", 2),
        ("&;&&amp", 7),
        ("<scripts>seen</scripts>", 4),
    ],
)
def test_broken_pages_have_an_answer(page, count):
    assert visible(page) == count
