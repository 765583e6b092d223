import os
import shutil

import pytest

from stack_platform.archive.distributions import DistributionsConfig, normalize
from stack_platform.errors import ConfigError, SourceError


def visits(config):
    origins = config.origins()
    with config.visits(origins) as shown:
        assert [visit.origin for visit in shown] == [origin.url for origin in origins]
        return shown


def only(config):
    (visit,) = visits(config)
    return visit


def paths(visit):
    return [file.path for file in visit.releases[0].files]


def test_distribution_is_an_origin_with_its_version_as_release(tmp_path, install):
    install(tmp_path, "Some_Package", "1.0", {"some_package/__init__.py": b""})
    visit = only(DistributionsConfig(paths=(str(tmp_path),)))
    assert (visit.origin, visit.type, visit.status) == ("pkg:pypi/some-package", "pypi-installed", "full")
    assert [release.name for release in visit.releases] == [b"1.0"]


def test_files_that_installing_makes_are_left_out(tmp_path, install):
    made = [
        "../../bin/tool",
        "/etc/tool",
        "p/__pycache__/a.cpython-311.pyc",
        "p/a.pyc",
        "p-1.dist-info/direct_url.json",
    ]
    install(tmp_path, "p", "1", {"p/a.py": b"", "p/RECORD": b"data"}, recorded=made)
    visit = only(DistributionsConfig(paths=(str(tmp_path),)))
    assert paths(visit) == [b"p-1.dist-info/METADATA", b"p/RECORD", b"p/a.py"]


def test_path_is_tidied_before_it_is_listed(tmp_path, install):
    install(tmp_path, "p", "1", {"p/a.py": b""}, recorded=["./p//a.py"])
    assert paths(only(DistributionsConfig(paths=(str(tmp_path),)))).count(b"p/a.py") == 1


def test_name_that_is_not_utf8_is_found_by_its_bytes(tmp_path, install):
    install(tmp_path, "p", "1", {os.fsdecode(b"p/\xe9.py"): b"x"})
    file = only(DistributionsConfig(paths=(str(tmp_path),))).releases[0].files[-1]
    assert (file.path, file.problem) == (b"p/\xe9.py", "")


def test_missing_record_is_a_visit_without_release(tmp_path, install):
    install(tmp_path, "p", "1", {"p.py": b""}, record=False)
    visit = only(DistributionsConfig(paths=(str(tmp_path),)))
    assert (visit.status, visit.releases) == ("not_found", ())
    assert visit.problem == "p-1.dist-info/RECORD cannot be read: No such file or directory"


def test_metadata_without_name_or_absent_is_a_failed_visit_named_after_the_folder(tmp_path, install):
    install(tmp_path, "No_Name", "1", {}, metadata=b"Version: 1\n")
    (install(tmp_path, "none", "2", {}) / "METADATA").unlink()
    nameless, absent = visits(DistributionsConfig(paths=(str(tmp_path),)))
    assert (nameless.origin, nameless.status) == ("pkg:pypi/no-name", "failed")
    assert nameless.problem == "No_Name-1.dist-info/METADATA has no Name"
    assert (absent.origin, absent.status) == ("pkg:pypi/none", "failed")
    assert "METADATA cannot be read" in absent.problem


def test_legacy_metadata_file_is_reported(tmp_path):
    (tmp_path / "old-1.egg-info").write_bytes(b"Name: old\n")
    assert only(DistributionsConfig(paths=(str(tmp_path),))).status == "failed"


def test_metadata_of_random_bytes_is_reported(tmp_path, install):
    install(tmp_path, "p", "1", {}, metadata=bytes(range(256)))
    assert only(DistributionsConfig(paths=(str(tmp_path),))).status == "failed"


def test_leftovers_of_an_interrupted_removal_are_ignored(tmp_path, install):
    install(tmp_path, "p", "1", {})
    install(tmp_path, "~", "0", {}, metadata=b"Name: p\nVersion: 0\n")
    assert [release.name for release in only(DistributionsConfig(paths=(str(tmp_path),))).releases] == [b"1"]


def test_platform_itself_and_editable_installs_are_left_out(tmp_path, install):
    install(tmp_path, "stack_platform", "1", {})
    install(tmp_path, "kept", "1", {})
    info = install(tmp_path, "mine", "1", {})
    (info / "direct_url.json").write_text('{"url": "file:///src", "dir_info": {"editable": true}}')
    config = DistributionsConfig(paths=(str(tmp_path),))
    assert [visit.origin for visit in visits(config)] == ["pkg:pypi/kept"]
    with_editable = DistributionsConfig(paths=(str(tmp_path),), skip_editable=False)
    assert len(visits(with_editable)) == 2


@pytest.mark.parametrize("text", ["{", "[]", '{"dir_info": []}', '{"dir_info": {"editable": false}}'])
def test_other_direct_urls_are_no_reason_to_leave_out(tmp_path, install, text):
    (install(tmp_path, "p", "1", {}) / "direct_url.json").write_text(text)
    assert only(DistributionsConfig(paths=(str(tmp_path),))).status == "full"


def test_versions_in_several_folders_are_releases_of_one_origin_and_the_first_leads(tmp_path, install):
    for number, version in enumerate(["2.0", "1.0", "2.0"]):
        install(tmp_path / str(number), "p", version, {})
    config = DistributionsConfig(paths=tuple(str(tmp_path / name) for name in "012"))
    assert [release.name for release in only(config).releases] == [b"2.0", b"1.0"]


def test_included_names_are_normalized(tmp_path, install):
    install(tmp_path, "a.b", "1", {})
    install(tmp_path, "other", "1", {})
    config = DistributionsConfig(paths=(str(tmp_path),), include=("A_b",))
    assert [visit.origin for visit in visits(config)] == ["pkg:pypi/a-b"]
    assert normalize("A__b.-C") == "a-b-c"


def test_unknown_name_is_refused_with_close_ones(tmp_path, install):
    install(tmp_path, "transformers", "1", {})
    config = DistributionsConfig(paths=(str(tmp_path),), include=("transformer",))
    with pytest.raises(ConfigError, match="'transformer', which is not installed; did you mean transformers"):
        visits(config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"paths": ("/no/such/folder",)}, "'/no/such/folder' in paths is not a folder"),
        ({"max_content_bytes": 0}, "max_content_bytes is 0"),
        ({"include": ("A_b",), "exclude": ("a-b",)}, "'a-b' is in include and in exclude"),
    ],
)
def test_unusable_setting_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        DistributionsConfig(**settings)


def test_folder_without_distributions_is_refused(tmp_path):
    with pytest.raises(SourceError, match="no distribution to archive"):
        visits(DistributionsConfig(paths=(str(tmp_path),)))


def test_default_is_the_running_interpreter():
    assert any(origin.url == "pkg:pypi/pyarrow" for origin in DistributionsConfig().origins())


def test_distribution_that_is_removed_meanwhile_is_not_found(tmp_path, install):
    install(tmp_path, "kept", "1", {})
    info = install(tmp_path, "p", "1", {})
    config = DistributionsConfig(paths=(str(tmp_path),))
    origins = config.origins()
    shutil.rmtree(info)
    with config.visits(origins) as shown:
        assert [visit.status for visit in shown] == ["full", "not_found"]
