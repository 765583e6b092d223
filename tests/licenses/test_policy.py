import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.licenses import policy
from stack_platform.licenses.policy import POLICY_VERSION, license_type, permissive_arm


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
