"""Checks pass on what the stages made and fail on what they must not have made."""

from pathlib import Path

import pyarrow as pa
import pytest

from stack_platform.corpus import checks
from stack_platform.corpus.stages import STAGES
from stack_platform.tables import Lake


@pytest.mark.parametrize("stage", STAGES)
def test_what_the_stages_made_passes(corpus: Lake, stage: str) -> None:
    assert checks.counts_add_up(corpus, "Python", stage).passed
    assert checks.schema_holds(corpus, "Python", stage).passed
    assert checks.licenses_allowed(corpus, "Python").passed
    assert checks.no_exact_duplicate(corpus, "Python").passed
    assert checks.nothing_left_to_scrub(corpus, "Python").passed


@pytest.fixture
def broken(corpus: Lake, tmp_path: Path) -> Lake:
    """Return a lake with a copy of the corpus's Python, to be spoiled."""
    lake = Lake(tmp_path / "broken")
    for stage in STAGES:
        spoil(lake, corpus, stage, lambda files: files)
    return lake


def spoil(lake: Lake, source: Lake, stage: str, change) -> None:
    old = source.open(stage, "Python")
    with lake.writer(stage, "Python", "spoiled") as out:
        out.append("files", change(old.read("files")))
        out.append("decisions", old.read("decisions"))
        out.counts = dict(old.manifest.counts)


def set_column(table: pa.Table, name: str, values: list) -> pa.Table:
    place = table.column_names.index(name)
    return table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))


def test_a_lost_row_fails_the_counts(broken: Lake, corpus: Lake) -> None:
    assert checks.counts_add_up(broken, "Python", "scrubbed").passed
    spoil(broken, corpus, "scrubbed", lambda files: files.slice(1))
    assert not checks.counts_add_up(broken, "Python", "scrubbed").passed


def test_a_copyleft_row_fails_the_license_check(broken: Lake, corpus: Lake) -> None:
    def infect(files: pa.Table) -> pa.Table:
        return set_column(
            files, "license_expression", ["GPL-3.0-only", *files["license_expression"].to_pylist()[1:]]
        )

    spoil(broken, corpus, "license_filtered", infect)
    outcome = checks.licenses_allowed(broken, "Python")
    assert not outcome.passed
    assert outcome.details == {"GPL-3.0-only": 1}


def test_a_copy_fails_the_duplicate_check(broken: Lake, corpus: Lake) -> None:
    spoil(broken, corpus, "deduplicated", lambda files: pa.concat_tables([files, files.slice(0, 1)]))
    assert not checks.no_exact_duplicate(broken, "Python").passed


def test_a_secret_left_in_fails_the_rescan(broken: Lake, corpus: Lake) -> None:
    secret = "AUTHOR = 'mary.poppins" + "@" + "flying-nannies.org'\n"

    def leak(files: pa.Table) -> pa.Table:
        return set_column(files, "content", [secret, *files["content"].to_pylist()[1:]])

    spoil(broken, corpus, "scrubbed", leak)
    outcome = checks.nothing_left_to_scrub(broken, "Python")
    assert not outcome.passed
    assert "flying" not in str(outcome)


def test_a_wrong_type_fails_the_schema_check(broken: Lake, corpus: Lake) -> None:
    spoil(broken, corpus, "raw_snapshot", lambda files: files.drop_columns(["extension"]))
    outcome = checks.schema_holds(broken, "Python", "raw_snapshot")
    assert not outcome.passed
    assert "extension" in outcome.summary


def test_a_check_over_languages_names_those_that_fail(corpus: Lake) -> None:
    outcome = checks.for_all(["Python", "Go"], lambda language: checks.no_exact_duplicate(corpus, language))
    assert not outcome.passed
    assert outcome.summary.startswith("Go: deduplicated/Go is not in")
