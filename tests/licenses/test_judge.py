import importlib.util
import json

import pyarrow as pa
import pytest

from stack_platform.errors import ConfigError, SchemaError
from stack_platform.licenses.judge import LicenseConfig, judge_files, reason_to_drop
from stack_platform.licenses.policy import POLICY_VERSION

NOTHING = ("NONE", "none", None)
GPL_ROOT = ("GPL-3.0-only", "repo", "COPYING")
MIT_ROOT = ("MIT", "repo", "LICENSE")


def batch(*rows, content_type=pa.large_string()):
    columns = list(zip(*[(path, content, *inherited) for path, content, inherited in rows], strict=True))
    names = ["path", "content", "inherited_expression", "inherited_source", "inherited_path"]
    types = [pa.string(), content_type, pa.string(), pa.string(), pa.string()]
    return pa.RecordBatch.from_arrays([pa.array(c, t) for c, t in zip(columns, types, strict=True)], names)


def judge(content, inherited, path="a.py"):
    row = judge_files(batch((path, content, inherited))).to_pylist()[0]
    return row["license_expression"], row["license_type"], row["license_source"], row["license_path"]


def test_the_file_wins_over_its_folder():
    assert judge("# SPDX-License-Identifier: MIT", GPL_ROOT) == ("MIT", "permissive", "file", "a.py")
    assert judge("# licensed under the GPL v2", MIT_ROOT) == (
        "GPL-2.0-only",
        "non_permissive",
        "file",
        "a.py",
    )
    assert judge("# Permission is granted on Tuesdays", MIT_ROOT) == ("UNKNOWN", "unknown", "file", "a.py")


def test_a_silent_file_inherits():
    assert judge("x = 1", MIT_ROOT) == ("MIT", "permissive", "repo", "LICENSE")
    assert judge("x = 1", NOTHING) == ("NONE", "no_license", "none", None)


def test_a_statement_about_a_part_does_not_speak_for_the_file():
    part = "# Portions of this file are licensed under the MIT license.\n"
    assert judge(part, GPL_ROOT)[:2] == ("GPL-3.0-only AND MIT", "non_permissive")
    assert judge(part, NOTHING) == ("NONE", "no_license", "none", None)
    assert judge(part, MIT_ROOT) == ("MIT", "permissive", "repo", "LICENSE")
    late = "x = 1\n" * 3000 + "# licensed under the MIT license\n"
    assert judge(late, GPL_ROOT)[1] == "non_permissive"
    borrowed = "# adapted from x, licensed under the GPL v2\n"
    assert judge(borrowed, MIT_ROOT)[:3] == ("GPL-2.0-only AND MIT", "non_permissive", "file")
    assert judge(borrowed, NOTHING)[:2] == ("GPL-2.0-only", "non_permissive")


def test_evidence_is_canonical_json_that_says_why():
    row = judge_files(batch(("a.py", "# SPDX-License-Identifier: MIT", GPL_ROOT))).to_pylist()[0]
    evidence = json.loads(row["license_evidence"])
    assert evidence["policy"] == POLICY_VERSION
    assert evidence["chosen"] == "MIT"
    assert evidence["inherited"] == {
        "expression": "GPL-3.0-only",
        "path": "COPYING",
        "precedence": "closest",
        "source": "repo",
    }
    assert evidence["statements"][0]["rule"] == "spdx-license-identifier"
    assert evidence["statements"][0]["start"] == 2
    assert row["license_evidence"] == json.dumps(
        evidence, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    assert row["detected_licenses"] == ["MIT"]


def test_judging_does_not_depend_on_the_batch_split():
    rows = [
        ("a.py", "# SPDX-License-Identifier: MIT OR ISC", GPL_ROOT),
        ("b.py", "x = 1", MIT_ROOT),
        ("c.py", None, NOTHING),
        ("LICENSE", "My own words", NOTHING),
    ]
    whole = pa.Table.from_batches([judge_files(batch(*rows))])
    split = pa.Table.from_batches([judge_files(batch(row)) for row in rows])
    assert whole.equals(split.combine_chunks())


@pytest.mark.parametrize("content_type", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()])
def test_contents_may_be_text_or_bytes(content_type):
    content = "# SPDX-License-Identifier: MIT"
    content = content.encode() if "binary" in str(content_type) else content
    judged = judge_files(batch(("a.py", content, NOTHING), content_type=content_type))
    assert judged.column("license_type").to_pylist() == ["permissive"]


def test_an_empty_batch_keeps_its_columns():
    empty = batch(("a.py", "", NOTHING)).slice(0, 0)
    judged = judge_files(empty)
    assert judged.num_rows == 0
    assert judged.schema.names[-1] == "license_evidence"


def test_missing_columns_are_named():
    with pytest.raises(SchemaError, match="inherited_source"):
        judge_files(batch(("a.py", "", NOTHING)).drop_columns(["inherited_source"]))


def test_only_kept_types_stay():
    assert reason_to_drop("permissive") is None
    assert reason_to_drop("no_license") == "license_no_license"
    config = LicenseConfig(keep=("permissive", "no_license"))
    assert reason_to_drop("no_license", config) is None
    assert reason_to_drop("unknown", config) == "license_unknown"


@pytest.mark.parametrize("keep", [("mit",), (), "permissive"])
def test_wrong_settings_list_the_allowed_values(keep):
    with pytest.raises(ConfigError, match="permissive, no_license, non_permissive, unknown"):
        LicenseConfig(keep=keep)
    with pytest.raises(ConfigError, match="choose from"):
        reason_to_drop("free")


def judge_annotated(content, precedence, inherited=MIT_ROOT, config=LicenseConfig()):
    rows = batch(("a.py", content, inherited)).append_column("inherited_precedence", pa.array([precedence]))
    row = judge_files(rows, config).to_pylist()[0]
    return row["license_expression"], row["license_source"]


def test_annotations_say_whose_words_come_first():
    isc = "# SPDX-License-Identifier: ISC"
    assert judge_annotated(isc, "closest") == ("ISC", "file")
    assert judge_annotated(isc, None) == ("ISC", "file")
    assert judge_annotated(isc, "aggregate") == ("ISC AND MIT", "file")
    assert judge_annotated(isc, "override") == ("MIT", "repo")
    assert judge_annotated("x = 1", "override") == ("MIT", "repo")


def test_an_override_does_not_silence_a_restriction_in_the_file():
    gpl, odd = "# SPDX-License-Identifier: GPL-2.0-only", "# Permission is granted on Tuesdays"
    assert judge_annotated(gpl, "override") == ("GPL-2.0-only AND MIT", "file")
    assert judge_annotated(odd, "override")[0] == "LicenseRef-unknown-terms AND MIT"
    assert judge_annotated(
        "# SPDX-License-Identifier: ISC", "override", config=LicenseConfig(deny=("ISC",))
    ) == (
        "ISC AND MIT",
        "file",
    )


def test_a_users_policy_judges_and_is_named():
    config = LicenseConfig(allow=("MPL-2.0",), deny=("MIT",))
    rows = batch(("a.py", "# SPDX-License-Identifier: MPL-2.0", MIT_ROOT), ("b.py", "x", MIT_ROOT))
    judged = judge_files(rows, config).to_pylist()
    assert [row["license_type"] for row in judged] == ["permissive", "non_permissive"]
    assert json.loads(judged[0]["license_evidence"])["policy"].startswith(POLICY_VERSION + "+")


def test_scancode_is_asked_only_when_the_config_says_so(monkeypatch):
    monkeypatch.setattr("stack_platform.licenses.judge.load_scancode", object)
    monkeypatch.setattr(
        "stack_platform.licenses.judge.read_with_scancode",
        lambda content, name: [("Zlib", "a.RULE", 0, len(content))],
    )
    odd = batch(("a.py", "# Permission is granted on Tuesdays", NOTHING))
    assert judge_files(odd).to_pylist()[0]["license_expression"] == "UNKNOWN"
    row = judge_files(odd, LicenseConfig(scancode=True)).to_pylist()[0]
    assert row["license_expression"] == "Zlib"
    assert json.loads(row["license_evidence"])["policy"] == f"{POLICY_VERSION}+scancode"


def test_a_missing_scancode_is_said_before_the_first_file():
    if importlib.util.find_spec("licensedcode") is not None:
        pytest.skip("ScanCode is installed here")
    with pytest.raises(ConfigError, match=r"pip install 'stack-platform\[scancode\]'"):
        judge_files(batch(("a.py", "x = 1", NOTHING)), LicenseConfig(scancode=True))
