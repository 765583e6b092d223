from hypothesis import given
from hypothesis import strategies as st

from stack_platform.licenses.reuse import Annotation, read_reuse_toml

TOML = """
version = 1
[[annotations]]
path = ["po/*.po", "what?.txt"]
precedence = "aggregate"
SPDX-FileCopyrightText = ["2031 Ada", "2032 Bob"]
SPDX-License-Identifier = ["MIT", "cc0-1.0"]
[[annotations]]
path = "img/**"
SPDX-FileCopyrightText = "2031 Ada"
[[annotations]]
path = "odd/**"
precedence = "whatever"
SPDX-License-Identifier = "My License"
"""


def test_annotations_are_read_in_their_order():
    assert read_reuse_toml(TOML.encode()) == (
        Annotation(("po/*.po", "what\\?.txt"), "CC0-1.0 AND MIT", "aggregate", ("2031 Ada", "2032 Bob")),
        Annotation(("img/**",), "NONE", "closest", ("2031 Ada",)),
        Annotation(("odd/**",), "UNKNOWN", "closest", ()),
    )


def test_broken_files_say_nothing():
    for data in (
        b"[[annotations",
        b"annotations = 3",
        b"annotations = [3]",
        b"\xff\xfe",
        b"x = " + b"[" * 100_000,
    ):
        assert read_reuse_toml(data) == ()


@given(st.binary(max_size=200))
def test_any_bytes_are_survived(data):
    read_reuse_toml(data)
