"""Every path of the graph is in one language or has a reason; languages change one by one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from stack_platform.archive.distributions import DistributionsConfig
from stack_platform.corpus.checks import index_adds_up
from stack_platform.corpus.index import build_index, indexed_languages
from stack_platform.corpus.snapshot import build_snapshot, find_changes
from stack_platform.corpus.stages import INDEX, STAGES, changed_languages, corpus_stages
from stack_platform.engine.local import LocalEngine
from stack_platform.schemas import FILES, STACK_V2_COLUMNS
from stack_platform.tables import Lake

Rebuild = Callable[[Lake, Path], None]


def test_paths_are_indexed_or_have_a_reason(corpus: Lake) -> None:
    counts = corpus.open(INDEX).manifest.counts
    assert index_adds_up(corpus).passed
    assert counts["languages"]["Python"] == 10
    assert counts["languages"]["C"] == 1
    assert counts["dropped"]["binary"] == 1
    assert counts["dropped"]["empty"] == 1


def test_files_have_the_columns_of_the_stack_v2(corpus: Lake) -> None:
    files = corpus.open("raw_snapshot", "Python").read("files")
    assert files.schema.equals(FILES)
    assert files.column_names[: len(STACK_V2_COLUMNS)] == [field.name for field in STACK_V2_COLUMNS]
    row = next(row for row in files.to_pylist() if row["path"] == "alpha/latin.py")
    assert (row["extension"], row["language"], row["branch_name"]) == ("py", "Python", "releases/1.0")
    assert row["src_encoding"] != "utf-8"


def test_a_text_in_another_encoding_is_decoded(corpus: Lake) -> None:
    kept = corpus.open("scrubbed", "Python").read("files", ["path", "content"]).to_pylist()
    text = next(row["content"] for row in kept if row["path"] == "alpha/latin.py")
    assert "café au lait" in text


def test_a_changed_file_touches_only_its_language(own_site: Path, tmp_path: Path, rebuild: Rebuild) -> None:
    lake = Lake(tmp_path / "lake")
    sources = {"installed": DistributionsConfig(paths=(str(own_site),)).open()}
    stages = corpus_stages(LocalEngine(1))
    assert find_changes(lake, sources).changed.keys() == {"installed"}
    rebuild(lake, own_site)
    assert not find_changes(lake, sources).changed
    assert changed_languages(lake, stages) == {}
    before = {
        language: lake.open("raw_snapshot", language).digest
        for language in indexed_languages(lake.open(INDEX))
    }

    (own_site / "alpha/fast.c").write_text("int other(void) { return 1; }\n")
    assert find_changes(lake, sources).changed
    versions = {stage: lake.versions(stage, "Python") for stage in STAGES}
    rebuild(lake, own_site)
    after = {language: lake.open("raw_snapshot", language).digest for language in before}
    assert [language for language in before if before[language] != after[language]] == ["C"]
    assert versions == {stage: lake.versions(stage, "Python") for stage in STAGES}


def test_a_language_that_lost_its_last_file_is_brought_up_to_date(
    own_site: Path, tmp_path: Path, rebuild: Rebuild
) -> None:
    lake = Lake(tmp_path / "lake")
    rebuild(lake, own_site)
    (own_site / "alpha/fast.c").unlink()
    with LocalEngine(1) as engine:
        build_snapshot(lake, "installed", DistributionsConfig(paths=(str(own_site),)).open())
        build_index(lake, engine)
        assert list(changed_languages(lake, corpus_stages(engine))) == ["C"]


def test_two_machines_make_the_same_bytes(
    own_site: Path, tmp_path: Path, corpus: Lake, rebuild: Rebuild
) -> None:
    """Another folder and other times of files give the same digests at every stage."""
    lake = Lake(tmp_path / "elsewhere")
    rebuild(lake, own_site)
    for stage in STAGES:
        assert lake.open(stage, "Python").digest == corpus.open(stage, "Python").digest
    assert lake.open(INDEX).digest == corpus.open(INDEX).digest


@pytest.mark.parametrize("bad", ["no metadata", "vanished", "link out"])
def test_odd_distributions_do_not_stop_the_rest(
    own_site: Path, tmp_path: Path, rebuild: Rebuild, bad: str
) -> None:
    if bad == "no metadata":
        (own_site / "odd-1.0.dist-info").mkdir()
    elif bad == "vanished":
        (own_site / "alpha/copy_b.py").unlink()
    else:
        (own_site / "alpha/copy_b.py").unlink()
        (own_site / "alpha/copy_b.py").symlink_to("/etc/passwd")
    lake = Lake(tmp_path / "lake")
    rebuild(lake, own_site)
    assert index_adds_up(lake).passed
    assert "alpha/kept.py" in lake.open("scrubbed", "Python").read("files", ["path"])["path"].to_pylist()
    assert "root:" not in str(lake.open("scrubbed", "Python").read("files", ["content"]).to_pylist())
