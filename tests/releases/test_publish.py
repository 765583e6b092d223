"""A release is sealed once, proves itself, and differs from another by contents."""

from collections.abc import Callable
from pathlib import Path

import pytest

from stack_platform.corpus.graph import open_graph
from stack_platform.errors import ReleaseError, SchemaError
from stack_platform.releases.manifest import list_releases, pinned_files, read_release
from stack_platform.releases.publish import build_release, diff_releases, verify_release
from stack_platform.releases.query import query
from stack_platform.tables import Lake


@pytest.fixture
def lake(own_site: Path, tmp_path: Path, rebuild: Callable[[Lake, Path], None]) -> Lake:
    made = Lake(tmp_path / "lake")
    rebuild(made, own_site)
    return made


def test_a_release_lists_every_file_with_its_checksum_and_parents(lake: Lake) -> None:
    made, new = build_release(lake, (2026, 11))
    assert (made.release, made.parent, new) == ("2026.11.0", None, True)
    assert {file["language"] for file in made.files} == set(made.languages)
    assert made.rows == sum(entry["files"] for entry in made.languages.values())
    assert made.parents["software_heritage_graph"] == open_graph(lake).digest
    assert made.languages["Python"]["licenses"] == {"MIT": made.languages["Python"]["files"]}
    assert sum(made.licenses.values()) == made.rows
    assert list(made.licenses) == ["MIT"]
    assert verify_release(lake) == []
    assert read_release(lake, "2026.11.0") == made


def test_sealing_the_same_data_again_seals_nothing(lake: Lake) -> None:
    first, _ = build_release(lake, (2026, 11))
    again, new = build_release(lake, (2026, 12))
    assert (again.release, new) == (first.release, False)
    assert list_releases(lake) == ["2026.11.0"]


def test_a_changed_byte_or_a_lost_file_is_found(lake: Lake) -> None:
    made, _ = build_release(lake, (2026, 11))
    path = Path(lake.root, made.files[0]["path"])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "has SHA-256" in verify_release(lake)[0]
    path.unlink()
    assert verify_release(lake) == [f"{made.files[0]['path']} is missing"]


def test_two_releases_differ_by_what_was_added_and_removed(
    lake: Lake, own_site: Path, rebuild: Callable[[Lake, Path], None]
) -> None:
    build_release(lake, (2026, 11))
    (own_site / "alpha/fast.c").write_text("int other(void) { return 1; }\n")
    rebuild(lake, own_site)
    made, new = build_release(lake, (2026, 11))
    assert (made.release, made.parent, new) == ("2026.11.1", "2026.11.0", True)
    (change,) = diff_releases(lake, "2026.11.0", "2026.11.1")
    assert (change.language, change.added, change.removed, change.kept) == ("C", 1, 1, 0)
    lake.vacuum(keep=1, pinned=pinned_files(lake))
    assert verify_release(lake, "2026.11.0") == []


def test_an_altered_manifest_is_refused(lake: Lake) -> None:
    build_release(lake, (2026, 11))
    path = Path(lake.root, "releases/2026.11.0.json")
    path.write_text(path.read_text().replace('"MIT"', '"ISC"'))
    with pytest.raises(ReleaseError, match="altered after it was sealed"):
        read_release(lake)


def test_without_anything_scrubbed_there_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="nothing is scrubbed yet"):
        build_release(Lake(tmp_path), (2026, 11))
    with pytest.raises(ReleaseError, match="none is sealed yet"):
        read_release(Lake(tmp_path))


def test_sql_sees_every_stage_and_all_decisions(corpus: Lake) -> None:
    rows = query(
        corpus, "SELECT stage, reason, count(*) n FROM decisions WHERE action = 'drop' GROUP BY ALL"
    ).to_pylist()
    found = {(row["stage"], row["reason"]): row["n"] for row in rows}
    assert found["deduplicated", "near_duplicate"] == 1
    assert found["file_index", "binary"] == 1
    assert query(corpus, "SELECT count(*) n FROM origin")["n"].to_pylist() == [3]
    with pytest.raises(SchemaError, match=r"views are: .*scrubbed"):
        query(corpus, "SELECT * FROM nowhere")
