import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.licenses.metadata import METADATA_NAMES, metadata_license

HEAD = "Metadata-Version: 2.4\nName: x\n"
CLASSIFIER = "Classifier: License :: "
POM = "<project><licenses><license>{}</license></licenses></project>"
BOMB = '<!DOCTYPE x [<!ENTITY a "MIT"><!ENTITY b "&a;&a;&a;&a;">]>'
MIT_CLASSIFIER = CLASSIFIER + "OSI Approved :: MIT License\n"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("METADATA", HEAD + "License-Expression: mit or GPL-2.0\nLicense: BSD\n", ("GPL-2.0-only OR MIT", True)),
        ("PKG-INFO", HEAD + "License: Apache 2.0\n" + MIT_CLASSIFIER, ("Apache-2.0", False)),
        ("METADATA", HEAD + "License: MIT\n", ("MIT", True)),
        ("METADATA", HEAD + "License: see file\n" + CLASSIFIER + "X :: BSD License\n", ("LicenseRef-BSD", False)),
        ("METADATA", HEAD + "License: MIT License\n        plus a text\n" + MIT_CLASSIFIER, ("MIT", False)),
        ("METADATA", HEAD + CLASSIFIER + "OSI Approved\n" + CLASSIFIER + "Other/Proprietary License\n",
         ("LicenseRef-proprietary", False)),
        ("METADATA", HEAD + "Classifier: License :: Something New\n", ("UNKNOWN", False)),
        ("METADATA", HEAD + "\n\nLicense: GPL-3.0\n", None),
        ("METADATA", HEAD + "Classifier: Topic :: Software Development\n", None),
        ("pyproject.toml", '[project]\nlicense = "MIT AND Zlib"\n', ("MIT AND Zlib", True)),
        ("pyproject.toml", '[project]\nlicense = {text = "GPLv3+"}\n', ("GPL-3.0-or-later", False)),
        ("pyproject.toml", '[project]\nlicense = {file = "LICENSE"}\n', None),
        ("pyproject.toml", '[tool.poetry]\nlicense = "ISC"\n', ("ISC", True)),
        ("pyproject.toml", "[project\n", None),
        ("pyproject.toml", "project = 3\n", None),
        ("package.json", '{"license": "MIT"}', ("MIT", True)),
        ("package.json", '{"license": {"type": "GPL-2.0"}}', ("GPL-2.0-only", True)),
        ("package.json", '{"licenses": [{"type": "MIT"}, {"type": "GPL-2.0"}]}', ("GPL-2.0-only OR MIT", True)),
        ("package.json", '{"license": "UNLICENSED"}', ("LicenseRef-proprietary", True)),
        ("package.json", '{"license": "SEE LICENSE IN x"}', ("UNKNOWN", False)),
        ("package.json", '{"license": ["MIT", 3]}', None),
        ("package.json", "[1, 2]", None),
        ("package.json", "[" * 100_000, None),
        ("Cargo.toml", '[package]\nlicense = "MIT/Apache-2.0"\n', ("Apache-2.0 OR MIT", True)),
        ("Cargo.toml", '[package]\nlicense = { workspace = true }\n', None),
        ("package.json", '{"license": "SEE LICENSE IN LICENSE.md"}', None),
        ("package.json", '{"license": "Acme Terms"}', ("UNKNOWN", False)),
        ("package.json", '{"license": "( AND MIT)"}', ("UNKNOWN", False)),
        ("package.json", '{"license": "' + "(" * (1 << 20) + '"}', ("UNKNOWN", False)),
        ("package.json", '{"license": "' + "(" * 1900 + "MIT" + ")" * 50 + '"}', ("UNKNOWN", False)),
        ("Cargo.toml", '[workspace.package]\nlicense = "MIT OR Apache-2.0"\n', ("Apache-2.0 OR MIT", True)),
        ("pom.xml", POM.format("<name>The Apache License, Version 2.0</name>"), ("Apache-2.0", False)),
        ("pom.xml", POM.format("<name>MIT</name></license><license><name>GPL-2.0-only</name>"),
         ("GPL-2.0-only OR MIT", True)),
        ("pom.xml", POM.format("<name>Acme</name>"), ("UNKNOWN", False)),
        ("pom.xml", "<project><dependencies><license><name>MIT</name></license></dependencies></project>", None),
        ("pom.xml", BOMB + POM.format("<name>&b;</name>"), None),
        ("pom.xml", "<a>" * 100_000, None),
        ("pom.xml", "<project", None),
        ("setup.py", "license='MIT'", None),
    ],
)  # fmt: skip
def test_declared_licenses_are_read(name, content, expected):
    assert metadata_license(f"a/b/{name}", content.encode()) == expected


@given(st.sampled_from(sorted(METADATA_NAMES)), st.binary(max_size=300))
def test_any_bytes_are_survived(name, content):
    metadata_license(name, content)


def test_huge_files_are_not_read():
    assert metadata_license("package.json", b'{"license": "MIT"}' + b" " * (5 << 20)) is None
