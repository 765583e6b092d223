import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.errors import ConfigError, SchemaError
from stack_platform.licenses.inherit import (
    EVIDENCE,
    POLICIES,
    InheritConfig,
    directory_evidence,
    evidence_files,
    evidence_table,
    inherit,
)
from stack_platform.licenses.policy import license_type

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
        ("LICENSES/MIT.txt", "text"),
        ("LICENSES/LICENSE.txt", "text"),
        ("a/REUSE.toml", "annotations"),
        (".reuse/dep5", "annotations"),
        ("x/debian/copyright", "annotations"),
        ("a/b.png.license", "sidecar"),
        ("a/pom.xml", "package"),
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


REUSE = b"""
[[annotations]]
path = "docs/**"
SPDX-License-Identifier = "CC0-1.0"
[[annotations]]
path = ["docs/secret.md", "third_party/zlib/**"]
precedence = "override"
SPDX-License-Identifier = "Zlib"
[[annotations]]
path = "**"
precedence = "aggregate"
SPDX-License-Identifier = "ISC"
[[annotations]]
path = "docs/api/*"
SPDX-License-Identifier = "0BSD"
"""


def resolved(files, *paths, config=InheritConfig(), **columns):
    evidence = evidence_table(directory_evidence("r", path, data) for path, data in files.items())
    table = pa.table({"repo_name": ["r"] * len(paths), "path": list(paths), **columns})
    return [
        (row["inherited_expression"], row["inherited_precedence"])
        for row in inherit(table, evidence, config).to_pylist()
    ]


def test_of_the_annotations_of_a_file_the_last_one_counts():
    files = {"REUSE.toml": REUSE.replace(b'path = "**"', b'path = "src/**"')}
    assert resolved(files, "docs/a.md", "docs/secret.md", "docs/api/x", "docs/api/y/z", "src/a.c", "b.c") == [
        ("CC0-1.0", "closest"),
        ("Zlib", "override"),
        ("0BSD", "closest"),
        ("CC0-1.0", "closest"),
        ("ISC", "aggregate"),
        ("NONE", "closest"),
    ]


def test_annotations_come_before_the_license_file_beside_them():
    files = {"LICENSE": GPL_TAG, "REUSE.toml": b'[[annotations]]\npath="a/*"\nSPDX-License-Identifier="MIT"'}
    assert inherited(files, "a/x.c", "b/x.c") == [
        ("MIT", "repo", "REUSE.toml"),
        ("GPL-3.0-only", "repo", "LICENSE"),
    ]
    everything = {
        "LICENSE": GPL_TAG,
        "REUSE.toml": b'[[annotations]]\npath="**"\nSPDX-License-Identifier="MIT"',
    }
    assert inherited(everything, "a/x.c")[0][0] == "GPL-3.0-only AND MIT"


def test_annotations_reach_vendored_folders_only_by_name():
    assert resolved({"REUSE.toml": REUSE}, "third_party/zlib/a.c", "third_party/x/a.c") == [
        ("Zlib", "override"),
        ("NONE", "closest"),
    ]


def test_the_topmost_override_wins_and_aggregates_add_to_the_nearest():
    inner = b'[[annotations]]\npath="**"\nSPDX-License-Identifier="MIT"'
    top = b'[[annotations]]\npath="a/**"\nprecedence="%s"\nSPDX-License-Identifier="ISC"'
    files = {"a/REUSE.toml": inner, "REUSE.toml": top % b"override"}
    assert resolved(files, "a/x.c") == [("ISC", "override")]
    files["REUSE.toml"] = top % b"aggregate"
    assert resolved(files, "a/x.c") == [("ISC AND MIT", "aggregate")]
    files["REUSE.toml"] = top % b"closest"
    assert resolved(files, "a/x.c") == [("MIT", "closest")]


def test_a_sidecar_speaks_for_one_file():
    files = {"img/a.png.license": GPL_TAG, "LICENSE": MIT_TAG, "js/lib.license": b"ISC License\n"}
    assert inherited(files, "img/a.png", "img/b.png") == [
        ("GPL-3.0-only", "file", "img/a.png.license"),
        ("MIT", "repo", "LICENSE"),
    ]


def test_debian_copyright_covers_the_folder_above():
    dep5 = b"Format: https://x/\n\nFiles: *\nLicense: Expat\n\nFiles: src/*\nLicense: GPL-2+\n"
    found = inherited({"p/debian/copyright": dep5}, "p/a.c", "p/src/deep/b.c", "c.c")
    assert [row[0] for row in found] == ["MIT", "GPL-2.0-or-later", "NONE"]
    assert resolved({".reuse/dep5": dep5}, "a.c") == [("MIT", "aggregate")]


def test_a_folder_of_texts_speaks_only_where_nothing_else_does():
    texts = {"LICENSES/MIT.txt": b"words", "LICENSES/GPL-3.0-only.txt": b"words"}
    assert inherited(texts, "a.c")[0][0] == "GPL-3.0-only AND MIT"
    assert inherited(texts | {"COPYING": MIT_TAG}, "a.c")[0] == ("MIT", "repo", "COPYING")


def test_the_license_of_the_repository_comes_last():
    ids = ["mit", "GPL-3.0", "NOASSERTION", None]
    paths = ["a.c", "b.c", "c.c", "d.c"]
    found = resolved({}, *paths, gha_license_id=pa.array(ids, pa.string()))
    assert [e for e, _ in found] == ["MIT", "GPL-3.0-only", "UNKNOWN", "NONE"]
    found = resolved({"LICENSE": MIT_TAG}, "a.c", "vendor/b.c", gha_license_id=["GPL-3.0", "MIT"])
    assert [e for e, _ in found] == ["MIT", "NONE"]


def test_policies_differ_in_what_they_take_from_above():
    files = {"LICENSE": GPL_TAG, "lib/COPYING": MIT_TAG, "lib/x/LICENSE": b"SPDX-License-Identifier: ISC"}
    found = [resolved(files, "lib/x/a.c", config=InheritConfig(policy=p))[0][0] for p in POLICIES]
    assert found == ["ISC", "GPL-3.0-only AND ISC AND MIT", "GPL-3.0-only"]
    with pytest.raises(ConfigError, match="nearest, union, strictest"):
        InheritConfig(policy="loosest")


def test_of_several_distributions_each_covers_what_bears_its_name():
    metadata = METADATA + b"License-Expression: %s\n"
    files = {
        "lib/foo_bar-1.dist-info/METADATA": metadata % b"MIT",
        "lib/other-2.dist-info/METADATA": metadata % b"GPL-3.0-only",
    }
    files["lib/name.space-2.dist-info/METADATA"] = metadata % b"ISC"
    assert inherited(files, "lib/name/space/x.py")[0][0] == "ISC"
    del files["lib/name.space-2.dist-info/METADATA"]
    found = inherited(files, "lib/foo_bar/x.py", "lib/foo_bar.py", "lib/other/x/y.py", "lib/PIL/z.py")
    assert [row[0] for row in found] == ["MIT", "MIT", "GPL-3.0-only", "GPL-3.0-only AND MIT"]


def test_metadata_never_makes_an_unknown_text_permissive():
    own = {"x-1.dist-info/METADATA": METADATA + b"License-Expression: MIT\n"}
    assert inherited(own | {"x-1.dist-info/licenses/LICENSE": b"My own words."}, "x/a.py")[0][0] == (
        "LicenseRef-unknown-terms AND MIT"
    )
    carried = own | {"x-1.dist-info/licenses/lib/other/LICENSE": b"My own words."}
    assert inherited(carried, "x/a.py")[0][0] == "MIT"


STATEMENTS = ("MIT", "GPL-3.0-only", "MIT OR GPL-3.0-only", "LicenseRef-Mine", "ISC AND GPL-2.0-only")
FOLDERS = ("", "a/", "a/b/", "vendor/", "a/b/vendor/")
STRICTNESS = {"no_license": 0, "permissive": 0, "unknown": 1, "non_permissive": 2}


def tag(expression):
    return f"SPDX-License-Identifier: {expression}".encode()


@given(
    st.dictionaries(st.sampled_from(FOLDERS), st.sampled_from(STATEMENTS)),
    st.sampled_from(FOLDERS),
    st.sampled_from(["GPL-3.0-only", "LicenseRef-Mine"]),
)
def test_nearer_restrictions_never_loosen_the_strictest_policy(licenses, folder, restriction):
    config = InheritConfig(policy="strictest")
    paths = [f"{name}x.c" for name in FOLDERS]
    files = {f"{name}LICENSE": tag(text) for name, text in licenses.items() if name != folder}
    before = resolved(files, *paths, config=config)
    after = resolved(files | {f"{folder}LICENSE": tag(restriction)}, *paths, config=config)
    for (old, _), (new, _) in zip(before, after, strict=True):
        assert STRICTNESS[license_type(new)] >= STRICTNESS[license_type(old)]


@given(st.permutations(range(6)), st.permutations(range(5)))
def test_no_order_of_rows_matters(evidence_order, path_order):
    files = {"LICENSE": GPL_TAG, "a/LICENSE": MIT_TAG, "REUSE.toml": REUSE}
    evidence = evidence_table(directory_evidence("r", path, data) for path, data in files.items())
    paths = pa.table(
        {"repo_name": ["r"] * 5, "path": ["a/x.c", "docs/a.md", "docs/api/x", "docs/secret.md", "b"]}
    )
    one = inherit(paths, evidence)
    two = inherit(paths.take(path_order), evidence.take(evidence_order))
    assert two.sort_by("path").equals(one.sort_by("path"))
