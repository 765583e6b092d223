import io
import json
import tarfile

import pytest

from stack_platform.licenses.derive_policy import derive, read_blue_oak

PACKAGE = {"version": "9.9.9", "license": "CC0-1.0"}
TIERS = [
    {"name": "Gold", "licenses": [{"id": "Golden-1.0"}]},
    {"name": "Lead", "licenses": [{"id": "Leaden-1.0"}]},
]
INDEX = [
    {"spdx_license_key": "Golden-1.0", "category": "Copyleft", "is_exception": False},
    {
        "spdx_license_key": "Kind-1.0",
        "category": "Permissive",
        "is_exception": False,
        "other_spdx_license_keys": ["Kind"],
    },
    {"spdx_license_key": "Mean-1.0", "category": "Copyleft", "is_exception": False},
    {"spdx_license_key": "JSON", "category": "Permissive", "is_exception": False},
    {"spdx_license_key": "Adds", "category": "Copyleft Limited", "is_exception": True},
    {"spdx_license_key": "Takes", "category": "Proprietary Free", "is_exception": True},
    {"spdx_license_key": None, "category": "Permissive", "is_exception": False},
]


def tarball(tmp_path, files):
    path = tmp_path / "list.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name, value in files.items():
            data = json.dumps(value).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_policy_is_the_union_of_both_lists_and_overrides_come_last(tmp_path):
    blue_oak = read_blue_oak(
        tarball(tmp_path, {"package/package.json": PACKAGE, "package/index.json": TIERS})
    )
    policy = derive(blue_oak, INDEX, "1.2.3")
    assert {"Golden-1.0", "Leaden-1.0", "Kind-1.0", "Kind"} <= set(policy["permissive"])
    assert {"Mean-1.0", "JSON"} <= set(policy["non_permissive"])
    assert policy["exceptions"] == ["Adds"]
    assert "9.9.9" in policy["provenance"]["blue_oak"]["source"]
    assert "1.2.3" in policy["provenance"]["scancode"]["source"]


def test_a_tarball_of_something_else_is_refused(tmp_path):
    with pytest.raises(KeyError):
        read_blue_oak(tarball(tmp_path, {"package/package.json": PACKAGE}))
