import hashlib
import json

import pyarrow as pa
import pytest

from stack_platform.errors import SchemaError
from stack_platform.licenses.inherit import directory_evidence, evidence_table, inherit
from stack_platform.licenses.judge import judge_files
from stack_platform.licenses.notices import write_notices
from stack_platform.licenses.spdx_document import DocumentConfig

REUSE = b"""version = 1
[[annotations]]
path = "data/*.csv"
SPDX-FileCopyrightText = "2031 Cleo"
SPDX-License-Identifier = "Zlib"
"""


@pytest.fixture
def tree(texts):
    return {
        "LICENSE": texts["MIT"].encode(),
        "main.py": b"x = 1\n",
        "api.py": b"# Copyright 2032 Bob\n# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only\n",
        "NOTICE": b"Example\nCopyright 2030 The Example Project\n",
        "LICENSES/Zlib.txt": b"zlib words",
        "REUSE.toml": REUSE,
        "data/a.csv": b"1,2\n",
        "odd.py": b"# SPDX-License-Identifier: LicenseRef-Odd\n",
        "bare.py": b"# SPDX-License-Identifier: ISC\n",
    }


def judged(tree, repo="owner/repo"):
    paths = [path for path in tree if path.endswith((".py", ".csv"))]
    table = pa.table({"repo_name": [repo] * len(paths), "path": paths})
    table = inherit(
        table, evidence_table(directory_evidence(repo, path, data) for path, data in tree.items())
    )
    for name, values in {
        "content": pa.array([tree[path].decode() for path in paths], pa.large_string()),
        "content_id": [hashlib.sha1(b"blob %d\0" % len(tree[p]) + tree[p]).hexdigest() for p in paths],
        "blob_id": [hashlib.sha1(tree[path]).hexdigest() for path in paths],
    }.items():
        table = table.append_column(name, values if isinstance(values, pa.Array) else pa.array(values))
    return judge_files(table.combine_chunks().to_batches()[0])


def write(folder, tree, *batches):
    return write_notices(folder, batches or [judged(tree)], lambda _, path: tree.get(path))


def lines_of(folder):
    lines = (folder / "NOTICE.jsonl").read_text().splitlines()
    return {line["path"]: line for line in map(json.loads, lines)}


def test_every_file_has_its_license_text_and_holders(tmp_path, tree):
    report = write(tmp_path, tree)
    lines = lines_of(tmp_path)
    assert lines["main.py"]["copyrights"] == ["Copyright (c) 2031 Ada Example"]
    [name] = lines["main.py"]["license_texts"]
    assert (tmp_path / "licenses" / f"{name}.txt").read_bytes() == tree["LICENSE"]
    assert lines["api.py"]["chosen"] == "Apache-2.0"
    assert lines["api.py"]["copyrights"] == ["Copyright 2032 Bob"]
    assert lines["api.py"]["license_texts"] == []
    [notice] = lines["api.py"]["notices"]
    assert (tmp_path / "licenses" / f"{notice}.txt").read_bytes() == tree["NOTICE"]
    assert lines["data/a.csv"]["copyrights"] == ["2031 Cleo"]
    [name] = lines["data/a.csv"]["license_texts"]
    assert (tmp_path / "licenses" / f"{name}.txt").read_bytes() == b"zlib words"
    assert (report.files, report.repositories, report.license_texts) == (5, 1, 3)
    assert report.without_text == 3
    assert report.by_license["MIT"] == 1


def test_people_can_read_who_is_named(tmp_path, tree):
    write(tmp_path, tree)
    text = (tmp_path / "NOTICE.txt").read_text()
    assert "owner/repo: 1 files under Apache-2.0\n  Copyright 2032 Bob\n" in text
    assert "The Example Project" in text


def test_batches_do_not_change_the_bytes(tmp_path, tree):
    whole = judged(tree)
    write(tmp_path / "a", tree, whole)
    write(tmp_path / "b", tree, *(whole.slice(i, 1) for i in range(whole.num_rows)))
    for name in ("NOTICE.jsonl", "NOTICE.txt", "spdx.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_text_of_a_license_in_the_file_is_cut_out(tmp_path, tree, texts):
    tree["own.py"] = ("é = 1\n# " + texts["MIT"].replace("\n", "\n# ") + "\nx = 1\n").encode()
    write(tmp_path, tree)
    [name] = lines_of(tmp_path)["own.py"]["license_texts"]
    text = (tmp_path / "licenses" / f"{name}.txt").read_text()
    assert "Permission is hereby granted" in text
    assert "x = 1" not in text


def test_the_text_beside_metadata_is_that_of_the_package(tmp_path, texts):
    metadata = b"Metadata-Version: 2.4\nName: x\nLicense-Expression: %s\n"
    for license_id, text in (("MIT", texts["MIT"]), ("MIT-CMU", "Words of their own.")):
        installed = {
            "x/a.py": b"# SPDX-License-Identifier: MIT\n" if license_id == "MIT" else b"x = 1\n",
            "x-1.dist-info/METADATA": metadata % license_id.encode(),
            "x-1.dist-info/licenses/LICENSE": text.encode(),
        }
        write(tmp_path / license_id, installed)
        [name] = lines_of(tmp_path / license_id)["x/a.py"]["license_texts"]
        assert (tmp_path / license_id / "licenses" / f"{name}.txt").read_text() == text


def test_an_empty_selection_is_a_bundle_too(tmp_path, tree):
    assert write(tmp_path, tree, judged(tree).slice(0, 0)).files == 0
    assert json.loads((tmp_path / "spdx.json").read_text())["files"] == []


def test_the_document_names_each_file_once(tmp_path, tree):
    write_notices(
        tmp_path,
        [judged(tree)],
        lambda _, path: tree.get(path),
        DocumentConfig(created="2031-01-01T00:00:00Z"),
    )
    document = json.loads((tmp_path / "spdx.json").read_text())
    assert document["spdxVersion"] == "SPDX-2.3"
    assert document["creationInfo"]["created"] == "2031-01-01T00:00:00Z"
    concluded = {file["fileName"]: file["licenseConcluded"] for file in document["files"]}
    assert concluded["./owner/repo/api.py"] == "Apache-2.0"
    assert concluded["./owner/repo/odd.py"] == "LicenseRef-Odd"
    assert [info["licenseId"] for info in document["hasExtractedLicensingInfos"]] == ["LicenseRef-Odd"]
    kinds = [relation["relationshipType"] for relation in document["relationships"]]
    assert kinds == ["DESCRIBES"] + ["CONTAINS"] * 5


def test_missing_columns_are_named(tmp_path, tree):
    with pytest.raises(SchemaError, match="blob_id"):
        write(tmp_path, tree, judged(tree).drop_columns(["blob_id"]))


@pytest.mark.peer
def test_spdx_tools_finds_the_document_valid(tmp_path, tree):
    parse_anything = pytest.importorskip("spdx_tools.spdx.parser.parse_anything")
    validation = pytest.importorskip("spdx_tools.spdx.validation.document_validator")
    tree["weird.py"] = b"# SPDX-License-Identifier: (MIT OR Nonsense-1.0) AND LicenseRef-A_b\n"
    tree["with.py"] = b"# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception\n"
    tree["grant.py"] = b"# Permission is granted on Tuesdays\n"
    write(tmp_path, tree)
    document = parse_anything.parse_file(str(tmp_path / "spdx.json"))
    assert validation.validate_full_spdx_document(document) == []
    assert len(document.files) == 8
