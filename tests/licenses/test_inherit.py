import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.errors import SchemaError
from stack_platform.licenses.inherit import (
    EVIDENCE,
    directory_evidence,
    evidence_files,
    evidence_table,
    inherit,
)

MIT_TAG = b"SPDX-License-Identifier: MIT"
GPL_TAG = b"SPDX-License-Identifier: GPL-3.0-only"
METADATA = b"Metadata-Version: 2.4\nName: x\n"


def inherited(files, *paths):
    """Return (expression, source, path) of every path of one repository."""
    evidence = evidence_table(directory_evidence("r", path, data) for path, data in files.items())
    table = inherit(pa.table({"repo_name": ["r"] * len(paths), "path": list(paths)}), evidence)
    names = ("inherited_expression", "inherited_source", "inherited_path")
    return [tuple(row[name] for name in names) for row in table.to_pylist()]


def test_the_nearest_license_file_decides_and_covers_only_its_subtree():
    files = {"LICENSE": GPL_TAG, "lib/COPYING": MIT_TAG}
    assert inherited(files, "lib/deep/a.c", "main.c", "library/b.c") == [
        ("MIT", "dir", "lib/COPYING"),
        ("GPL-3.0-only", "repo", "LICENSE"),
        ("GPL-3.0-only", "repo", "LICENSE"),
    ]


def test_vendored_folders_inherit_nothing_from_above():
    files = {"LICENSE": MIT_TAG, "node_modules/b/package.json": b'{"license": "ISC"}'}
    found = inherited(
        files, "node_modules/a/x.js", "node_modules/b/lib/x.js", "src/third_party/z.c", "src/z.c"
    )
    assert [row[:2] for row in found] == [
        ("NONE", "none"),
        ("ISC", "package"),
        ("NONE", "none"),
        ("MIT", "repo"),
    ]


def test_repositories_do_not_share_evidence():
    evidence = evidence_table([directory_evidence("a", "LICENSE", MIT_TAG)])
    table = inherit(pa.table({"repo_name": ["a", "b"], "path": ["x.py", "x.py"]}), evidence)
    assert table["inherited_expression"].to_pylist() == ["MIT", "NONE"]


def test_metadata_of_a_distribution_covers_its_tree():
    files = {
        "x-1.dist-info/METADATA": METADATA + b"License-Expression: Apache-2.0\n",
        "x-1.dist-info/licenses/LICENSE": GPL_TAG,
        "x/sub/LICENSE": MIT_TAG,
    }
    assert inherited(files, "x/a.py", "x/sub/b.py", "x/_vendor/c.py") == [
        ("Apache-2.0", "package", "x-1.dist-info/METADATA"),
        ("MIT", "dir", "x/sub/LICENSE"),
        ("NONE", "none", None),
    ]


def test_texts_of_a_distribution_add_up_when_metadata_is_silent():
    files = {
        "x-1.dist-info/METADATA": METADATA,
        "x-1.dist-info/licenses/LICENSE.a": MIT_TAG,
        "x-1.dist-info/licenses/LICENSE.b": GPL_TAG,
    }
    assert inherited(files, "x/a.py")[0][:2] == ("GPL-3.0-only AND MIT", "package")


def test_an_unknown_text_is_not_made_permissive_by_silence():
    files = {
        "x-1.dist-info/METADATA": METADATA,
        "x-1.dist-info/LICENSE": b"My own words.",
        "x-1.dist-info/LICENSE.mit": MIT_TAG,
    }
    assert inherited(files, "x/a.py")[0][0] == "LicenseRef-unknown-terms AND MIT"
    assert inherited({"LICENSE": b"My own words."}, "a.py")[0][0] == "UNKNOWN"


def test_a_classifier_does_not_outweigh_a_restriction_in_the_text(texts):
    classifier = METADATA + b"Classifier: License :: OSI Approved :: MIT License\n"
    restricted = (texts["MIT"] + "\nFor non-commercial use only.\n").encode()
    files = {"x-1.dist-info/METADATA": classifier, "x-1.dist-info/LICENSE": restricted}
    assert inherited(files, "x/a.py")[0][0] == "LicenseRef-additional-terms AND MIT"


def test_declared_choice_explains_two_texts_and_conflicts_are_strict():
    texts = {"LICENSE-MIT": MIT_TAG, "LICENSE-ISC": b"SPDX-License-Identifier: ISC"}
    assert inherited(texts, "a.rs")[0][0] == "ISC AND MIT"
    cargo = {"Cargo.toml": b'[package]\nlicense = "MIT OR ISC"\n'}
    assert inherited(texts | cargo, "a.rs")[0] == ("ISC OR MIT", "package", "Cargo.toml")
    npm = {"package.json": b'{"license": "MIT"}'}
    assert inherited({"LICENSE": GPL_TAG} | npm, "a.js")[0][0] == "GPL-3.0-only"
    npm = {"package.json": b'{"license": "GPL-3.0-only"}'}
    assert inherited({"LICENSE": MIT_TAG} | npm, "a.js")[0][0] == "GPL-3.0-only AND MIT"
    npm = {"package.json": b'{"license": "MIT"}'}
    assert inherited({"LICENSE": b"My own words."} | npm, "a.js")[0][0] == "UNKNOWN"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("LICENSE", "license"),
        ("a/COPYING.LIB", "license"),
        ("x-1.dist-info/METADATA", "package"),
        ("x-1.dist-info/licenses/AUTHORS", "license"),
        ("a/Cargo.toml", "package"),
        ("LICENSES/MIT.txt", None),
        ("LICENSES/LICENSE.txt", None),
        ("a/license.py", None),
        ("README.md", None),
    ],
)
def test_evidence_is_known_by_name(path, kind):
    assert evidence_files(path) == kind


def test_files_without_evidence_give_none():
    assert directory_evidence("r", "README.md", MIT_TAG) is None
    assert directory_evidence("r", "package.json", b"{") is None
    assert directory_evidence("r", "LICENSE", b"") is None


def test_order_of_evidence_and_paths_does_not_matter():
    files = {"LICENSE": GPL_TAG, "lib/COPYING": MIT_TAG, "lib/LICENSE": b"SPDX-License-Identifier: ISC"}
    rows = [directory_evidence("r", path, data) for path, data in files.items()]
    paths = pa.table({"repo_name": ["r", "r"], "path": ["lib/a.c", "b.c"]})
    one = inherit(paths, evidence_table(rows))
    two = inherit(paths.take([1, 0]), evidence_table(rows[::-1]).take([2, 1, 0])).take([1, 0])
    assert one.equals(two)


@given(st.lists(st.text(max_size=30), max_size=8))
def test_any_paths_are_survived(paths):
    paths = [path.encode("utf-8", "replace").decode() for path in paths]
    table = inherit(
        pa.table(
            {"repo_name": pa.array(["r"] * len(paths), pa.string()), "path": pa.array(paths, pa.string())}
        ),
        EVIDENCE.empty_table(),
    )
    assert set(table["inherited_source"].to_pylist()) <= {"none"}


def test_missing_columns_are_named():
    with pytest.raises(SchemaError, match="repo_name"):
        inherit(pa.table({"path": ["a"]}), EVIDENCE.empty_table())
    with pytest.raises(SchemaError, match="expression"):
        inherit(
            pa.table({"repo_name": ["r"], "path": ["a"]}), EVIDENCE.empty_table().drop_columns(["expression"])
        )
