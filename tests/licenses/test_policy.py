import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.errors import ConfigError, SchemaError
from stack_platform.licenses import policy
from stack_platform.licenses.policy import (
    POLICY_VERSION,
    LicenseConfig,
    disallowed,
    license_type,
    permissive_arm,
    policy_version,
    read_policy,
)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("MIT", "permissive"),
        ("CC0-1.0", "permissive"),
        ("BlueOak-1.0.0", "permissive"),
        ("GPL-3.0-only", "non_permissive"),
        ("MIT OR GPL-2.0", "permissive"),
        ("MIT AND GPL-2.0", "non_permissive"),
        ("(GPL-2.0 OR MIT) AND (Zlib OR MPL-2.0)", "permissive"),
        ("Apache-2.0 WITH LLVM-exception", "permissive"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "non_permissive"),
        ("MIT WITH Nothing-exception", "unknown"),
        ("MIT WITH MIT", "unknown"),
        ("JSON", "non_permissive"),
        ("BUSL-1.1", "non_permissive"),
        ("CC-BY-NC-4.0", "non_permissive"),
        ("MIT AND LicenseRef-additional-terms", "non_permissive"),
        ("MIT AND LicenseRef-Whatever", "unknown"),
        ("LicenseRef-Whatever AND GPL-2.0", "non_permissive"),
        ("Nonsense-1.0", "unknown"),
        ("MIT AND NONE", "unknown"),
        ("NONE", "no_license"),
        ("UNKNOWN", "unknown"),
        ("", "unknown"),
        ("( AND MIT)", "unknown"),
        ("MIT; DROP TABLE", "unknown"),
    ],
)
def test_expressions_are_judged_by_their_tree(expression, expected):
    assert license_type(expression) == expected


def test_the_permissive_arm_is_named():
    assert permissive_arm("GPL-2.0 OR MIT") == "MIT"
    assert permissive_arm("(MIT OR GPL-2.0-only) AND (Zlib OR (MIT AND ISC))") == "MIT AND Zlib"
    assert permissive_arm("GPL-2.0") is None
    assert permissive_arm("NONE") is None
    assert permissive_arm("garbage (") is None


@given(st.text(max_size=60))
def test_no_text_is_permissive_unless_a_permissive_arm_can_be_named(text):
    assert (license_type(text) == "permissive") == (permissive_arm(text) is not None)


def test_policy_version_is_the_digest_of_the_data():
    data = Path(policy.__file__).with_name("policy.json").read_bytes()
    assert POLICY_VERSION.endswith(hashlib.sha256(data).hexdigest()[:16])
    assert POLICY_VERSION.startswith(json.loads(data)["name"])


def test_policy_data_says_where_it_comes_from_and_contradicts_itself_nowhere():
    data = json.loads(Path(policy.__file__).with_name("policy.json").read_text())
    assert data["provenance"]["blue_oak"]["source"].startswith("npm @blueoak/list")
    assert "CC-BY-4.0" in data["provenance"]["scancode"]["license"]
    assert not set(data["permissive"]) & set(data["non_permissive"])
    for symbol, (verdict, reason) in data["overrides"].items():
        assert reason
        assert symbol in data[verdict]


def test_a_user_may_allow_and_deny():
    config = LicenseConfig(allow=("MPL-2.0", "GPL-2.0 WITH Classpath-exception-2.0"), deny=("WTFPL",))
    assert license_type("MPL-2.0", config) == "permissive"
    assert license_type("MPL-2.0") == "non_permissive"
    assert license_type("WTFPL", config) == "non_permissive"
    assert license_type("GPL-2.0-only WITH Classpath-exception-2.0", config) == "permissive"
    assert license_type("GPL-2.0-only", config) == "non_permissive"
    assert permissive_arm("MPL-2.0 OR GPL-2.0-only", config) == "MPL-2.0"
    denied = LicenseConfig(deny=("Apache-2.0",))
    assert license_type("Apache-2.0 WITH LLVM-exception", denied) == "non_permissive"


def test_the_version_names_the_users_changes():
    assert policy_version() == POLICY_VERSION == policy_version(LicenseConfig(keep=("no_license",)))
    one = policy_version(LicenseConfig(allow=("MPL-2.0", "mit")))
    assert one == policy_version(LicenseConfig(allow=("MIT", "MPL-2.0")))
    assert one != policy_version(LicenseConfig(deny=("MPL-2.0", "MIT")))


@pytest.mark.parametrize(
    "lists",
    [
        {"allow": ("MIT OR ISC",)},
        {"allow": ("Nonsense-1.0",)},
        {"deny": ("",)},
        {"deny": ("( AND MIT)",)},
        {"deny": (3,)},
        {"allow": "MIT AND ISC"},
        {"allow": ("MIT",), "deny": ("mit",)},
    ],
)
def test_wrong_lists_are_refused(lists):
    with pytest.raises(ConfigError, match=r"identifier|both allowed"):
        LicenseConfig(**lists)


def test_a_policy_is_read_from_a_file(tmp_path):
    file = tmp_path / "policy.toml"
    file.write_text('keep = ["permissive", "no_license"]\nallow = ["MPL-2.0"]\n')
    assert read_policy(file) == LicenseConfig(keep=("permissive", "no_license"), allow=("MPL-2.0",))
    file = tmp_path / "policy.json"
    file.write_text('{"deny": ["MIT"]}')
    assert read_policy(file) == LicenseConfig(deny=("MIT",))


@pytest.mark.parametrize(
    "text", ["allow = 'MIT'", "alow = ['MIT']", "allow = [", "keep = []", "allow = ['x y']"]
)
def test_wrong_policy_files_are_refused(tmp_path, text):
    file = tmp_path / "policy.toml"
    file.write_text(text)
    with pytest.raises(ConfigError):
        read_policy(file)


def test_disallowed_rows_are_judged_again():
    files = pa.table(
        {
            "path": ["a", "b", "c", "d"],
            "license_expression": ["MIT", "GPL-2.0-only", None, "NONE"],
            "license_type": ["permissive"] * 4,
        }
    )
    rows = disallowed(files)
    assert rows["path"].to_pylist() == ["b", "c", "d"]
    assert rows["license_type"].to_pylist() == ["non_permissive", "unknown", "no_license"]
    assert disallowed(files, LicenseConfig(keep=("permissive", "no_license")))["path"].to_pylist() == [
        "b",
        "c",
    ]
    with pytest.raises(SchemaError, match="license_expression"):
        disallowed(files.drop_columns(["license_expression"]))


def test_scancode_is_a_switch_of_the_policy(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text("allow = ['MPL-2.0']\nscancode = true\n")
    config = read_policy(path)
    assert config == LicenseConfig(allow=("MPL-2.0",), scancode=True)
    assert policy_version(config) == f"{policy_version(LicenseConfig(allow=('MPL-2.0',)))}+scancode"
    path.write_text("scancode = [1]\n")
    with pytest.raises(ConfigError, match="scancode"):
        read_policy(path)
    with pytest.raises(ConfigError, match="neither true nor false"):
        LicenseConfig(scancode="yes")
