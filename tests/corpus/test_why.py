"""For any file of the snapshot: where it went, why, and on what evidence."""

from pathlib import Path

import pytest

from stack_platform.archive.swhid import content_swhid
from stack_platform.corpus.why import Story, explain
from stack_platform.errors import SourceError, TableError
from stack_platform.tables import Lake


def only(corpus: Lake, subject: str) -> Story:
    (story,) = explain(corpus, subject)
    return story


def test_a_kept_file_names_its_license_and_where_it_came_from(corpus: Lake) -> None:
    story = only(corpus, "alpha/kept.py")
    assert story.verdict == "in the training set"
    assert (story.language, story.license_expression, story.repo_name) == ("Python", "MIT", "pkg:pypi/alpha")
    assert (story.license_source, story.license_path) == ("package", "alpha-1.0.dist-info/METADATA")
    assert [step.verdict for step in story.steps] == ["kept"] * 6


def test_a_filtered_file_names_the_expression_and_the_file_that_states_it(corpus: Lake) -> None:
    step = only(corpus, "beta/core.py").steps[-1]
    assert (step.stage, step.verdict, step.reason) == ("license_filtered", "drop", "license_non_permissive")
    assert step.evidence["expression"] == "GPL-3.0-or-later"
    assert step.evidence["path"] == "beta-2.0.dist-info/METADATA"


def test_a_files_own_restrictive_statement_wins_over_its_package(corpus: Lake) -> None:
    step = only(corpus, "alpha/strict.py").steps[-1]
    assert (step.reason, step.evidence["expression"], step.evidence["source"]) == (
        "license_non_permissive",
        "GPL-3.0-only",
        "file",
    )
    assert "SPDX-License-Identifier" in step.evidence["statements"][0]["text"]


def test_a_file_without_any_license_leaves_as_such(corpus: Lake) -> None:
    assert only(corpus, "gamma/core.py").steps[-1].reason == "license_no_license"


def test_an_exact_duplicate_names_the_kept_copy(corpus: Lake) -> None:
    step = only(corpus, "alpha/copy_b.py").steps[-1]
    assert (step.stage, step.reason) == ("deduplicated", "exact_duplicate")
    assert step.evidence["kept"] == {"repo_name": "pkg:pypi/alpha", "path": "alpha/copy_a.py"}
    assert only(corpus, "alpha/copy_a.py").verdict == "in the training set"


def test_a_near_duplicate_names_its_witness_and_how_similar_it_is(corpus: Lake) -> None:
    step = only(corpus, "alpha/near_b.py").steps[-1]
    assert step.reason == "near_duplicate"
    assert step.evidence["kept"]["path"] == "alpha/near_a.py"
    assert 0.7 <= step.evidence["jaccard"] < 1
    assert only(corpus, "alpha/near_a.py").verdict == "in the training set"


def test_a_scrubbed_file_tells_kinds_and_rules_and_never_the_value(corpus: Lake) -> None:
    story = only(corpus, "alpha/contact.py")
    assert story.verdict == "in the training set, redacted: email"
    assert story.steps[-1].evidence["spans"] == {"EMAIL": 1}
    assert "wonderland" not in str(story)


@pytest.mark.parametrize(("path", "reason"), [("alpha/__init__.py", "empty"), ("alpha/data.bin", "binary")])
def test_a_file_in_no_language_has_a_reason_too(corpus: Lake, path: str, reason: str) -> None:
    story = only(corpus, path)
    assert (story.language, story.steps[-1].stage, story.steps[-1].reason) == (None, "file_index", reason)


def test_swhid_qualified_path_and_local_file_lead_to_the_same_story(
    corpus: Lake, site: Path, tmp_path: Path
) -> None:
    story = only(corpus, "alpha/kept.py")
    local = tmp_path / "renamed.txt"
    local.write_bytes((site / "alpha/kept.py").read_bytes())
    assert story.swhid == content_swhid(local.read_bytes())
    for subject in (story.swhid, "pkg:pypi/alpha/alpha/kept.py", str(local)):
        assert only(corpus, subject) == story


def test_copies_of_one_content_have_a_story_each(corpus: Lake) -> None:
    stories = explain(corpus, only(corpus, "alpha/copy_a.py").swhid)
    assert {story.path: story.verdict for story in stories} == {
        "alpha/copy_a.py": "in the training set",
        "alpha/copy_b.py": "removed by deduplicated: exact_duplicate",
    }


def test_an_unknown_path_is_an_error_that_lists_near_ones(corpus: Lake) -> None:
    with pytest.raises(SourceError, match=r"nothing named 'alpha/kep.py'.*alpha/kept.py"):
        explain(corpus, "alpha/kep.py")


def test_a_swhid_of_something_else_than_a_content_is_refused(corpus: Lake) -> None:
    with pytest.raises(SourceError, match="names no file"):
        explain(corpus, "swh:1:dir:" + "0" * 40)


def test_without_an_index_the_error_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="--select file_index"):
        explain(Lake(tmp_path), "a.py")
