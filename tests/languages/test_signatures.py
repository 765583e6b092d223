import pytest

from stack_platform.languages import catalog, signatures
from stack_platform.languages.signatures import by_signature

FILES = [
    (
        b'<?xml version="1.0"?>\n<!-- note -->\n<xsl:stylesheet xmlns:xsl="http://www.w3.org/1999/XSL/Transform">',
        "XSLT",
    ),
    (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    (b'<project xmlns="http://maven.apache.org/POM/4.0.0">', "Maven POM"),
    (b'<?xml version="1.0"?>\n<project name="a" default="all">', "Ant Build System"),
    (b'<?xml version="1.0"?>\n<mine/>', "XML"),
    (b"<?php echo 1;", "PHP"),
    (b"<?hh\nfunction f(): int {}", "Hack"),
    (b"<!DOCTYPE html>\n<html lang='en'>", "HTML"),
    (b"-----BEGIN PUBLIC KEY-----\nabc", "Public Key"),
    (b"diff --git a/x b/x\n", "Diff"),
    (b"1\n00:00:01,000 --> 00:00:02,000\nHi\n", "SubRip Text"),
    (b"plain words", None),
    (b"<a", None),
    (b"", None),
]


@pytest.mark.parametrize(("content", "language"), FILES)
def test_files_are_known_by_how_they_start(content, language):
    assert by_signature(content) == language


def test_every_language_of_the_table_is_in_the_catalog():
    named = {name for name, _ in (*signatures._OPENINGS, *signatures._ROOTS)}
    assert named <= set(catalog.language_names())


@pytest.mark.parametrize(
    "unit", [b"<?", b"<!--", b"<?a>", b"<!DOCTYPE a [", b"<rdf:RDF ", b'{"cells":', b"<project "]
)
def test_patterns_stay_quick_on_repeated_openings(unit, cpu_seconds):
    assert cpu_seconds(lambda: by_signature(unit * 3000), enough=0.5) < 0.5
